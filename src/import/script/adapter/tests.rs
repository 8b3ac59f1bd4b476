//! Tests of the adaptation.

use std::collections::BTreeMap;

use super::*;

fn target() -> ScriptTarget {
    ScriptTarget {
        database: "proj".to_owned(),
        source_database: None,
        renamed: BTreeMap::new(),
        superuser: "postgres".to_owned(),
        role: "app".to_owned(),
        postgres_major: 15,
    }
}

/// The statements that are run for a statement; none if it is left out.
fn adapted(adapter: &mut Adapter, statement: &str) -> Vec<String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match adapter.plan(statement.as_bytes(), true) {
        Plan::Leave(_) => Vec::new(),
        Plan::Run(run) => {
            let last = run.text.unwrap_or_else(|| statement.as_bytes().to_vec());
            run.before.into_iter().chain([last]).map(text).collect()
        }
    }
}

fn check(target: ScriptTarget, table: &[(&str, &[&str])]) {
    for (statement, expected) in table {
        let mut adapter = Adapter::new(target.clone());
        assert_eq!(&adapted(&mut adapter, statement), expected, "{statement}");
    }
}

#[test]
fn what_the_prepared_cluster_has_is_not_made_again() {
    check(
        target(),
        &[
            ("CREATE ROLE app;", &[]),
            (
                "CREATE ROLE app WITH LOGIN;",
                &["ALTER ROLE app WITH LOGIN;"],
            ),
            ("DROP ROLE app;", &[]),
            ("SET transaction_timeout = 0;", &[]),
            (
                "SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'version', '180006'::integer\n);",
                &[],
            ),
            ("DROP ROLE IF EXISTS \"postgres\";", &[]),
            ("DROP ROLE other;", &["DROP ROLE other;"]),
            ("DROP DATABASE proj;", &[]),
            ("CREATE DATABASE postgres;", &[]),
            ("CREATE DATABASE other;", &["CREATE DATABASE other;"]),
        ],
    );
    let plan = Adapter::new(target()).plan(b"CREATE DATABASE proj;", true);
    let Plan::Run(run) = plan else {
        panic!("{plan:?}");
    };
    assert_eq!(run.kind, Kind::ProjectDatabase);
}

#[test]
fn missing_roles_are_created_once_before_their_first_use() {
    let mut adapter = Adapter::new(target());
    let create = |role: &str| {
        let name = String::from_utf8(literal(role.as_bytes())).unwrap();
        format!(
            "DO $multidb$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {name}) \
             THEN EXECUTE pg_catalog.format('CREATE ROLE %I LOGIN', {name}); END IF; END$multidb$"
        )
    };
    let owner = "ALTER TABLE t OWNER TO app;";
    assert_eq!(adapted(&mut adapter, owner), [owner]);
    assert!(adapter.names_owners());
    let grant = "GRANT SELECT ON TABLE t TO \"o'brien\";";
    assert_eq!(
        adapted(&mut adapter, grant),
        [create("o'brien"), grant.to_owned()]
    );
    assert_eq!(adapted(&mut adapter, grant), [grant]);
    let session = "SET SESSION AUTHORIZATION app;";
    assert_eq!(adapted(&mut adapter, session), [session]);
    let other = "GRANT x TO b;";
    assert_eq!(
        adapted(&mut adapter, other),
        [
            "RESET SESSION AUTHORIZATION",
            &create("b"),
            session,
            "RESET SESSION AUTHORIZATION",
            &create("x"),
            session,
            other
        ]
    );
}

#[test]
fn superuser_of_the_restore_stays_one() {
    let mut adapter = Adapter::new(target());
    for statement in [
        "ALTER ROLE postgres WITH NOSUPERUSER INHERIT CREATEROLE LOGIN;",
        "ALTER ROLE \"postgres\" NOLOGIN;",
        "CREATE ROLE postgres WITH NOSUPERUSER;",
        "ALTER USER postgres VALID UNTIL '2020-01-01';",
    ] {
        let plan = adapter.plan(statement.as_bytes(), true);
        assert!(
            matches!(&plan, Plan::Leave(Some(text)) if text.contains("stays a superuser")),
            "{statement}: {plan:?}"
        );
    }
    for statement in [
        "ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'x';",
        "ALTER ROLE app WITH NOSUPERUSER;",
        "ALTER ROLE postgres SET statement_timeout TO '1s';",
    ] {
        assert_eq!(adapted(&mut adapter, statement), [statement]);
    }
}

#[test]
fn everything_is_in_the_default_tablespace() {
    check(
        target(),
        &[
            ("CREATE TABLESPACE fast LOCATION '/srv/fast';", &[]),
            ("ALTER TABLESPACE fast OWNER TO app;", &[]),
            ("DROP TABLESPACE fast;", &[]),
            ("COMMENT ON TABLESPACE fast IS 'x';", &[]),
            ("GRANT ALL ON TABLESPACE fast TO app;", &[]),
            ("SET default_tablespace = fast;", &[]),
            (
                "SET default_tablespace = '';",
                &["SET default_tablespace = '';"],
            ),
            ("ALTER ROLE app SET default_tablespace TO 'fast';", &[]),
            ("ALTER TABLE t SET TABLESPACE fast;", &[]),
            ("ALTER DATABASE proj SET TABLESPACE fast;", &[]),
            (
                "CREATE TABLE big (tablespace text) TABLESPACE fast;",
                &["CREATE TABLE big (tablespace text) TABLESPACE pg_default;"],
            ),
            (
                "CREATE UNIQUE INDEX i ON t (a) TABLESPACE \"Fast\";",
                &["CREATE UNIQUE INDEX i ON t (a) TABLESPACE pg_default;"],
            ),
            (
                "CREATE TABLE t (a int PRIMARY KEY USING INDEX TABLESPACE fast);",
                &["CREATE TABLE t (a int PRIMARY KEY USING INDEX TABLESPACE pg_default);"],
            ),
            (
                "CREATE DATABASE other TABLESPACE = fast;",
                &["CREATE DATABASE other TABLESPACE = pg_default;"],
            ),
            (
                "CREATE VIEW v AS SELECT 1 AS tablespace;",
                &["CREATE VIEW v AS SELECT 1 AS tablespace;"],
            ),
        ],
    );
}

#[test]
fn database_of_an_archive_is_the_projects() {
    let target = ScriptTarget {
        database: "my proj".to_owned(),
        source_database: Some(b"prod".to_vec()),
        ..target()
    };
    check(
        target.clone(),
        &[
            (
                "ALTER DATABASE prod SET search_path TO 'a';",
                &["ALTER DATABASE \"my proj\" SET search_path TO 'a';"],
            ),
            (
                "ALTER ROLE app IN DATABASE prod SET work_mem TO '7MB';",
                &["ALTER ROLE app IN DATABASE \"my proj\" SET work_mem TO '7MB';"],
            ),
            (
                "CREATE DATABASE prod TEMPLATE = template0;",
                &["CREATE DATABASE \"my proj\" TEMPLATE = template0;"],
            ),
            ("DROP DATABASE prod;", &[]),
            (
                "COMMENT ON DATABASE other IS 'prod';",
                &["COMMENT ON DATABASE other IS 'prod';"],
            ),
        ],
    );
    assert_eq!(Adapter::new(target).connected(b"prod"), b"my proj");
}

#[test]
fn privileges_of_newer_majors_have_an_alternative() {
    for (statement, expected) in [
        (
            "GRANT a TO b WITH INHERIT TRUE GRANTED BY c;",
            Some("GRANT a TO b  ;"),
        ),
        (
            "GRANT a TO b WITH ADMIN OPTION, INHERIT FALSE, SET TRUE GRANTED BY c;",
            Some("GRANT a TO b WITH ADMIN OPTION ;"),
        ),
        (
            "GRANT a TO b WITH INHERIT FALSE, ADMIN TRUE;",
            Some("GRANT a TO b WITH ADMIN OPTION;"),
        ),
        (
            "GRANT SELECT,MAINTAIN,DELETE ON TABLE t TO b;",
            Some("GRANT SELECT,DELETE ON TABLE t TO b;"),
        ),
        (
            "GRANT SELECT,MAINTAIN ON TABLE t TO b;",
            Some("GRANT SELECT ON TABLE t TO b;"),
        ),
        ("GRANT MAINTAIN ON TABLE t TO b;", None),
        ("GRANT a TO b;", None),
    ] {
        let plan = Adapter::new(target()).plan(statement.as_bytes(), true);
        let Plan::Run(run) = plan else {
            panic!("{statement}: {plan:?}");
        };
        let alternative = run.alternative.map(|text| String::from_utf8(text).unwrap());
        assert_eq!(alternative.as_deref(), expected, "{statement}");
    }
}

#[test]
fn statements_are_told_apart_by_what_they_concern() {
    for (statement, kind) in [
        ("GRANT ALL ON SCHEMA s TO app;", Kind::Privileges),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO app;",
            Kind::Privileges,
        ),
        ("ALTER EVENT TRIGGER e OWNER TO app;", Kind::Ownership),
        ("COMMENT ON EXTENSION x IS 'y';", Kind::Comment),
        ("SECURITY LABEL FOR anon ON COLUMN t.a IS 'x';", Kind::Label),
        ("ALTER ROLE app SET no_such TO 'x';", Kind::Parameter),
        ("ALTER DATABASE proj SET no_such TO 'x';", Kind::Parameter),
        ("SET transaction_timeout = 1000;", Kind::Parameter),
        ("DROP TABLE public.polls;", Kind::Drop),
        ("ALTER TABLE ONLY t DROP CONSTRAINT c;", Kind::Drop),
        ("ALTER TABLE t ALTER COLUMN id DROP DEFAULT;", Kind::Drop),
        (
            "ALTER TABLE ONLY t ADD CONSTRAINT c PRIMARY KEY (a);",
            Kind::Structure,
        ),
        ("CREATE EXTENSION IF NOT EXISTS citext;", Kind::Extension),
        ("CREATE SCHEMA \"public\";", Kind::Housekeeping),
        ("CREATE SCHEMA s;", Kind::Structure),
        ("CREATE TABLE t (a int);", Kind::Structure),
        ("insert into t values (1);", Kind::Data),
        ("COPY t FROM stdin;", Kind::Data),
        ("REFRESH MATERIALIZED VIEW v;", Kind::Data),
    ] {
        let plan = Adapter::new(target()).plan(statement.as_bytes(), true);
        let Plan::Run(run) = plan else {
            panic!("{statement}: {plan:?}");
        };
        assert_eq!(run.kind, kind, "{statement}");
    }
}
