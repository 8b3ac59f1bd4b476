//! The databases of a dump: which is the project's, and in which locale.

use super::fixture::Fixture;
use crate::import::{ErrorPolicy, ImportError, ImportRequest, ImportSource};
use multidb_store::{SnapshotRecord, error_chain};

const MIGRATIONS: &str = "CREATE TABLE public.django_migrations (id int, app text, name text);\n\
    INSERT INTO public.django_migrations VALUES (1, 'polls', '0001_initial');\n";

async fn import(
    fixture: &Fixture,
    id: &str,
    script: &str,
    locale: Option<&str>,
) -> Result<SnapshotRecord, ImportError> {
    let path = fixture.write("the dump", script.as_bytes());
    let mut request = fixture.request(id, ImportSource::Dump(path));
    request.settings.locale = locale.map(str::to_owned);
    fixture.import(request).await
}

/// Asserts that a script is refused with this error and a hint that contains this.
async fn refused(fixture: &Fixture, script: &str, says: &str, advises: &str) {
    let error = import(fixture, "refused", script, None).await.unwrap_err();
    let (text, hint) = (error_chain(&error), error.hint().unwrap_or_default());
    assert!(text.contains(says), "{text}");
    assert!(hint.contains(advises), "{hint}");
}

#[tokio::test]
async fn dump_of_another_database_becomes_the_projects() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let create = "CREATE DATABASE \"Other 'db'\" OWNER app";
    source.run("postgres", create).await;
    let properties = "ALTER DATABASE \"Other 'db'\" SET work_mem = '7MB'; \
        ALTER ROLE app IN DATABASE \"Other 'db'\" SET search_path = app; \
        COMMENT ON DATABASE \"Other 'db'\" IS 'of another name'; \
        GRANT CREATE ON DATABASE \"Other 'db'\" TO reader";
    source
        .run("Other 'db'", &format!("{MIGRATIONS}{properties}"))
        .await;
    for (id, options) in [
        ("plain", &["--create"][..]),
        ("clean", &["--create", "--clean"]),
    ] {
        let args = source.args(&[options, &["--dbname=Other 'db'"]].concat());
        let bytes = fixture.program("pg_dump", &args).await;
        let globals = "-- PostgreSQL database cluster dump\nCREATE ROLE reader;\n\
            -- PostgreSQL database cluster dump complete\n";
        let script = format!("{globals}{}", String::from_utf8(bytes).unwrap());
        let snapshot = import(&fixture, id, &script, None).await.unwrap();
        assert_eq!(snapshot.migrations, ["polls.0001_initial"]);
        assert_eq!(
            fixture.warnings(),
            [
                "the dump is of database \"Other 'db'\", which is imported as the project's, \"proj\""
            ]
        );
        let copy = fixture.start_copy(&snapshot, id).await;
        let found = "SELECT concat_ws(' ', pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'), \
            datacl::text ~ 'reader=C', (SELECT string_agg(array_to_string(setconfig, ';'), ';' ORDER BY setrole) \
            FROM pg_db_role_setting WHERE setdatabase = d.oid), (SELECT count(*) FROM pg_database)) \
            FROM pg_database AS d WHERE datname = 'proj'";
        assert_eq!(
            copy.ask("postgres", found).await,
            "app of another name t work_mem=7MB;search_path=app 4"
        );
        copy.stop().await;
    }
    source.stop().await;
}

#[tokio::test]
async fn cluster_dump_keeps_its_names_and_must_have_the_projects() {
    let fixture = Fixture::new();
    let cluster = |databases: &[&str]| {
        let mut script = "-- PostgreSQL database cluster dump\n".to_owned();
        for database in databases {
            script.push_str(&format!("CREATE DATABASE {database};\n"));
        }
        for database in databases {
            let comments = [
                "-- PostgreSQL database dump",
                "-- PostgreSQL database dump complete",
            ];
            let [begin, end] = comments;
            script.push_str(&format!(
                "{begin}\n\\connect {database}\n{MIGRATIONS}{end}\n"
            ));
        }
        script + "-- PostgreSQL database cluster dump complete\n"
    };
    refused(
        &fixture,
        &cluster(&["a", "b"]),
        "it has no database \"proj\"",
        "Its databases: a, b. Set the project's database to one of them, or import a dump of one alone",
    )
    .await;
    fixture.assert_nothing_left(&[]).await;
    let script = cluster(&["a", "proj"]);
    let snapshot = import(&fixture, "s", &script, None).await.unwrap();
    let copy = fixture.start_copy(&snapshot, "copy").await;
    for database in ["a", "proj"] {
        let rows = "SELECT count(*)::text FROM django_migrations";
        assert_eq!(copy.ask(database, rows).await, "1");
    }
    copy.stop().await;
}

/// A request for a project that gives databases these names.
fn renaming(fixture: &Fixture, source: ImportSource, names: &[(&str, &str)]) -> ImportRequest {
    let mut request = fixture.request("s", source);
    let names = names
        .iter()
        .map(|(old, new)| ((*old).to_owned(), (*new).to_owned()));
    request.settings.rename_database = names.collect();
    request
}

#[tokio::test]
async fn databases_of_a_cluster_dump_get_their_names() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let properties = "ALTER DATABASE proj SET work_mem = '7MB'; \
        ALTER ROLE app IN DATABASE proj SET search_path = app; \
        COMMENT ON DATABASE proj IS 'renamed'; GRANT CREATE ON DATABASE proj TO reader";
    source.run("proj", properties).await;
    source
        .run("postgres", "ALTER DATABASE proj RENAME TO \"Prod 'db'\"")
        .await;
    source.run("postgres", "CREATE DATABASE second_prod").await;
    source.run("second_prod", MIGRATIONS).await;
    let bytes = fixture.program("pg_dumpall", &source.args(&[])).await;
    source.stop().await;
    let path = fixture.write("the dump", &bytes);
    let names = [
        ("Prod 'db'", "proj"),
        ("absent", "new"),
        ("second_prod", "Second"),
    ];
    let request = renaming(&fixture, ImportSource::Dump(path.clone()), &names);
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(
        fixture.warnings(),
        ["rename_database: the source has no database \"absent\""]
    );
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let found = "SELECT concat_ws(' ', (SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database), \
        pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'), datacl::text ~ 'reader=C', \
        (SELECT string_agg(array_to_string(setconfig, ';'), ';' ORDER BY setrole) \
        FROM pg_db_role_setting WHERE setdatabase = d.oid)) FROM pg_database AS d WHERE datname = 'proj'";
    assert_eq!(
        copy.ask("postgres", found).await,
        "Second,postgres,proj,template0,template1 app renamed t work_mem=7MB;search_path=app"
    );
    let rows = "SELECT count(*)::text FROM django_migrations";
    assert_eq!(copy.ask("Second", rows).await, "1");
    copy.stop().await;

    let names = [("Prod 'db'", "proj"), ("second_prod", "proj")];
    let mut request = renaming(&fixture, ImportSource::Dump(path), &names);
    request.id = "refused".parse().unwrap();
    let error = error_chain(&fixture.import(request).await.unwrap_err());
    let says = "the databases \"Prod 'db'\" and \"second_prod\", which would both be \"proj\"";
    assert!(error.contains(says), "{error}");
    fixture.assert_nothing_left(&["s"]).await;
}

#[tokio::test]
async fn databases_of_a_data_directory_get_their_names() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    for sql in [
        "ALTER DATABASE proj RENAME TO prod",
        "CREATE DATABASE taken",
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
    ] {
        source.run("postgres", sql).await;
    }
    source
        .run(
            "prod",
            "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'left'",
        )
        .await;
    let data = source.stop().await;
    let refused = async |names: &[(&str, &str)], says: &str, advises: &str| {
        let request = renaming(&fixture, ImportSource::DataDir(data.clone()), names);
        let error = fixture.import(request).await.unwrap_err();
        let (text, hint) = (error_chain(&error), error.hint().unwrap_or_default());
        assert!(text.contains(says), "{text}");
        assert!(hint.contains(advises), "{hint}");
        fixture.assert_nothing_left(&[]).await;
    };
    let both =
        "its database \"prod\" is to be renamed \"taken\", and it has a database of that name";
    refused(&[("prod", "taken")], both, "refresh.rename_database").await;
    let missing = "it has no database \"proj\"";
    refused(
        &[("production", "proj")],
        missing,
        "Its databases: template1, postgres, prod",
    )
    .await;
    let names = [("prod", "proj"), ("closed", "shut"), ("absent", "new")];
    let request = renaming(&fixture, ImportSource::DataDir(data.clone()), &names);
    let snapshot = fixture.import(request).await.unwrap();
    let warnings = fixture.warnings();
    let warning = "rename_database: the source has no database \"absent\"".to_owned();
    assert!(warnings.contains(&warning), "{warnings:?}");
    assert_eq!(snapshot.migrations.len(), 3);
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    assert_eq!(
        copy.ask("proj", names).await,
        "postgres proj shut taken template0 template1"
    );
    copy.stop().await;
}

#[tokio::test]
async fn database_that_alone_lets_multidb_in_is_renamed_from_another() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    source
        .run("postgres", "ALTER DATABASE proj RENAME TO prod")
        .await;
    for database in ["postgres", "template1"] {
        let close = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
        source.run("prod", &close).await;
    }
    let alone = fixture.copy_of(&source.stop().await, "alone");
    let source = fixture.start(&alone).await;
    source
        .run("prod", "CREATE DATABASE open_one TEMPLATE template0")
        .await;
    let with_another = fixture.copy_of(&source.stop().await, "with another");
    let names = [("prod", "proj")];
    let request = renaming(&fixture, ImportSource::DataDir(with_another), &names);
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(snapshot.migrations.len(), 3);
    let source = fixture.start(&alone).await;
    source.run("prod", "DROP DATABASE open_one").await;
    let mut request = renaming(&fixture, ImportSource::DataDir(source.stop().await), &names);
    request.id = "refused".parse().unwrap();
    let error = fixture.import(request).await.unwrap_err();
    let says = "only its database \"prod\", which is to be renamed, lets in a session";
    assert!(error.to_string().contains(says), "{error}");
    fixture.assert_nothing_left(&["s"]).await;
}

/// A script whose database has these options.
fn with_options(options: &str) -> String {
    format!(
        "CREATE DATABASE proj WITH TEMPLATE = template0 ENCODING = 'UTF8' {options};\n\\connect proj\n{MIGRATIONS}"
    )
}

#[tokio::test]
async fn locale_of_a_database_is_kept_or_mapped_and_never_silently_another() {
    let fixture = Fixture::new();
    let icu = "LOCALE_PROVIDER = icu LOCALE = 'C.UTF-8' ICU_LOCALE = 'de-DE'";
    let builtin = "LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'C.UTF-8'";
    let rules = format!("{icu} ICU_RULES = '&a < g'");
    let mapped = "the dump's locale \"C.UTF-8\", \"de-DE\" is not available; its database has the project's, \"C\"";
    for (id, options, locale, found, says) in [
        ("icu", icu, None, "i C.UTF-8 de-DE", ""),
        (
            "builtin",
            builtin,
            None,
            "c C.UTF-8",
            "of the C library, which orders texts alike",
        ),
        ("rules", rules.as_str(), Some("C"), "c C", mapped),
    ] {
        let script = with_options(options);
        let snapshot = import(&fixture, id, &script, locale).await.unwrap();
        let told = fixture.warnings().join("\n");
        assert!(told.contains(says), "{id}: {told}");
        assert_eq!(told.is_empty(), says.is_empty(), "{id}: {told}");
        let copy = fixture.start_copy(&snapshot, id).await;
        let locale = "SELECT concat_ws(' ', datlocprovider, datcollate, daticulocale) FROM pg_database \
            WHERE datname = 'proj'";
        assert_eq!(copy.ask("postgres", locale).await, found, "{id}");
        copy.stop().await;
    }
    for (options, says) in [
        (
            rules.as_str(),
            "its database has the locale \"C.UTF-8\", \"de-DE\", which Postgres refuses here: ",
        ),
        (
            "LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'PG_UNICODE_FAST'",
            "its database has the locale \"C\", \"PG_UNICODE_FAST\", which Postgres refuses here: ",
        ),
    ] {
        refused(&fixture, &with_options(options), says, "locales-all").await;
    }
    let other = "CREATE DATABASE other TEMPLATE template0 LC_COLLATE 'tlh_KX.UTF-8' LC_CTYPE 'tlh_KX.UTF-8';\n";
    let script = format!("{other}{MIGRATIONS}");
    let says =
        "its database \"other\" has the locale \"tlh_KX.UTF-8\", which Postgres refuses here: ";
    refused(&fixture, &script, says, "locales-all").await;
    let snapshot = import(&fixture, "other", &script, Some("C")).await.unwrap();
    let told = fixture.warnings().join("\n");
    assert!(
        told.contains("its database \"other\" has the project's, \"C\""),
        "{told}"
    );
    assert_eq!(snapshot.migrations, ["polls.0001_initial"]);
}

#[tokio::test]
async fn missing_collation_is_looked_for_again_and_then_named() {
    let fixture = Fixture::new();
    let forget = "DELETE FROM pg_catalog.pg_collation WHERE collname LIKE 'C.%';\n";
    let table = "CREATE TABLE public.t (a text COLLATE \"C.utf8\");\n";
    let script = format!("{MIGRATIONS}{forget}{table}");
    let snapshot = import(&fixture, "s", &script, None).await.unwrap();
    assert_eq!(snapshot.passed_errors.count, 0);
    let missing = format!("{MIGRATIONS}CREATE TABLE public.t (a text COLLATE \"tlh_KX\");\n");
    let says = "line 3: collation \"tlh_KX\" for encoding \"UTF8\" does not exist";
    refused(&fixture, &missing, says, "locales-all").await;
    let created = format!("{MIGRATIONS}CREATE COLLATION public.k (locale = 'tlh_KX.UTF-8');\n");
    let says = "line 3: could not create locale \"tlh_KX.UTF-8\"";
    refused(&fixture, &created, says, "locales-all").await;
    let path = fixture.write("the dump", missing.as_bytes());
    let mut request = fixture.request("kept", ImportSource::Dump(path));
    request.errors = ErrorPolicy::KeepGoing;
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(snapshot.passed_errors.count, 1);
}
