//! Dumps from practice: stock psql and pg_restore, and an import, give the same contents, or the import says why not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use multidb_store::SnapshotRecord;

use super::fixture::{Fixture, Server};
use crate::import::{ErrorPolicy, ImportError, ImportSource, Progress};

/// The cases whose contents equal those of a stock restore, and the passed errors that the import tells of each.
const SAME: [(&str, &str); 20] = [
    ("42-atomic.sql", ""),
    (
        "43-new-major.sql",
        "privileges: 2, parameter: 1, ownership: 1",
    ),
    ("44-clean-database.sql", ""),
    ("02-clean-cluster.sql", ""),
    ("02-clean-globals.sql", ""),
    ("03-no-owner.sql", "the dump does not say the encoding"),
    ("07-bom.sql", ""),
    (
        "09-managed-globals.sql",
        "role \"postgres\" stays a superuser",
    ),
    ("10-database-properties.dump", ""),
    ("13-event-trigger.sql", "ownership: 1"),
    ("19-tablespace.sql", "tablespace \"fast\" is left out"),
    ("20-clean.sql", ""),
    ("22-other.xz", ""),
    ("22-padded.gz", ""),
    ("28-security-label.sql", "label: 1"),
    ("36-alterrole_badset.sql", "parameter: 1"),
    ("36-pg_maintain.sql", "privileges: 1"),
    ("40-quoted-public.sql", ""),
    ("41-transaction.sql", "privileges: 1, comment: 1"),
    ("49-two-databases.sql", ""),
];

/// Such cases for the scanner of psql.
const SAME_AS_READ: [(&str, &str); 2] = [("47-literals.sql", ""), ("48-variables.sql", "")];

/// The cases that are refused: the error, and its hint.
const REFUSED: [(&str, &str, &str); 5] = [
    (
        "11-one-error.dump",
        "MATERIALIZED VIEW DATA public.words: relation \"docs\" does not exist",
        "--keep-going",
    ),
    (
        "12-cloud-extension.sql",
        "line 3: extension \"google_vacuum_mgmt\" is not available",
        "Install the extension",
    ),
    (
        "12-extension-schema.sql",
        "line 3: schema \"heroku_ext\" does not exist",
        "Create the schema",
    ),
    (
        "45-locale.sql",
        "its database has the locale \"tlh_KX.UTF-8\"",
        "locales-all",
    ),
    (
        "50-second-first.sql",
        "it has dumps of several databases, \"second\" and \"proj\", and the first is not the project's",
        "Put the dump of \"proj\" before that of \"second\"",
    ),
];

fn case(name: &str) -> Vec<u8> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/import/tests/cases");
    fs::read(format!("{directory}/{name}")).unwrap()
}

/// The contents of the project's database, without the privileges and owners that a cluster cannot have.
async fn contents(fixture: &Fixture, server: &Server) -> String {
    let args = server.args(&[
        "--no-owner",
        "--no-acl",
        "--no-tablespaces",
        "--create",
        "--dbname=proj",
    ]);
    let text = String::from_utf8(fixture.program("pg_dump", &args).await).unwrap();
    let differs = |line: &&str| {
        line.starts_with("\\restrict")
            || line.starts_with("\\unrestrict")
            // The template of the stock cluster has another locale provider's words.
            || line.starts_with("--")
    };
    text.lines()
        .filter(|line| !differs(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Restores a case into a new database by stock programs, which go on past errors.
async fn stock(fixture: &Fixture, server: &Server, name: &str) -> String {
    server.run("postgres", "DROP DATABASE IF EXISTS proj").await;
    server
        .run("postgres", "CREATE DATABASE proj TEMPLATE template0")
        .await;
    let path = fixture.write("stock", &case(name));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let unpack = match name.rsplit('.').next() {
        Some("xz") => Some("xz"),
        Some("gz") => Some("gzip"),
        _ => None,
    };
    if let Some(program) = unpack {
        let output = Command::new(program)
            .arg("-dc")
            .stdin(fs::File::open(&path).unwrap())
            .output();
        fs::write(&path, output.unwrap().stdout).unwrap();
    }
    if name.starts_with("19") {
        // The sandboxed server has no place for a tablespace.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(" TABLESPACE fast;", ";")).unwrap();
    }
    let path = path.display().to_string();
    if name.ends_with(".dump") {
        server.run("postgres", "DROP DATABASE proj").await;
        let args = server.args(&["--create", "--dbname=postgres", &path]);
        fixture.program("pg_restore", &args).await;
    } else {
        // By another superuser than the one that a script may demote.
        let restoring = [
            "--username=restorer",
            "--dbname=proj",
            "--quiet",
            "--set=ON_ERROR_ROLLBACK=on",
        ];
        let args = server.args(&[&restoring[..], &["--file", &path]].concat());
        fixture.program("psql", &args).await;
        let restore = "--command=ALTER ROLE postgres SUPERUSER LOGIN";
        let args = server.args(&[&restoring[..], &[restore]].concat());
        fixture.program("psql", &args).await;
    }
    contents(fixture, server).await
}

fn warnings(fixture: &Fixture) -> String {
    let events = fixture.events.lock().unwrap();
    let warnings = events.iter().filter_map(|event| match event {
        Progress::Warning(text) => Some(text.as_str()),
        _ => None,
    });
    warnings.collect::<Vec<_>>().join("\n")
}

async fn import(
    fixture: &Fixture,
    name: &str,
    errors: ErrorPolicy,
    locale: Option<&str>,
) -> Result<SnapshotRecord, ImportError> {
    let path = fixture.write("the dump", &case(name));
    let mut request = fixture.request("s", ImportSource::Dump(path));
    request.errors = errors;
    request.settings.locale = locale.map(str::to_owned);
    fixture.import(request).await
}

/// Removes a snapshot, for the next import.
fn remove(fixture: &Fixture, snapshot: &SnapshotRecord) {
    fs::remove_dir_all(fixture.layout.snapshot(&snapshot.id)).unwrap();
}

#[tokio::test]
async fn stock_restore_and_ours_give_the_same_contents() {
    same_contents(&SAME).await;
}

#[tokio::test]
async fn scripts_are_read_as_psql_reads_them() {
    same_contents(&SAME_AS_READ).await;
}

async fn same_contents(cases: &[(&str, &str)]) {
    let fixture = Fixture::new();
    let data = fixture.init("stock-cluster").await;
    let server = fixture.start(&data).await;
    let roles = "CREATE ROLE app LOGIN; CREATE ROLE reader; CREATE ROLE restorer SUPERUSER LOGIN";
    server.run("postgres", roles).await;
    let mut different = Vec::new();
    for &(name, says) in cases {
        let expected = stock(&fixture, &server, name).await;
        let imported = import(&fixture, name, ErrorPolicy::Default, None).await;
        let snapshot = imported.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let told = warnings(&fixture);
        assert!(told.contains(says), "{name}: {told}");
        let copy = fixture.start_copy(&snapshot, "copy").await;
        let found = contents(&fixture, &copy).await;
        if found != expected {
            different.push(format!("{name}: {found}\nand not: {expected}"));
        }
        // The snapshot keeps a superuser that works, and the project's role can change everything.
        copy.run("proj", "CREATE ROLE another SUPERUSER").await;
        if name.starts_with("03") {
            let change = "SET ROLE app; ALTER TABLE public.polls ADD b int; INSERT INTO public.polls VALUES (2, 3); \
                DROP TABLE public.django_migrations";
            copy.run("proj", change).await;
        }
        fs::remove_dir_all(copy.stop().await).unwrap();
        // One of them has applied none.
        let applied = |migration: &String| migration == "polls.0001_initial";
        let has_some = snapshot.migrations.iter().any(applied);
        assert!(has_some || name.starts_with("19"), "{name}");
        remove(&fixture, &snapshot);
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
    server.stop().await;
    fixture.assert_nothing_left(&[]).await;
}

#[tokio::test]
async fn dump_that_cannot_be_restored_says_what_and_how_to_go_on() {
    let fixture = Fixture::new();
    for (name, says, hint) in REFUSED {
        let error = import(&fixture, name, ErrorPolicy::Default, None).await;
        let error = error.unwrap_err();
        let text = multidb_store::error_chain(&error);
        assert!(text.contains(says), "{name}: {text}");
        let told = error.hint().unwrap();
        assert!(told.contains(hint), "{name}: {told}");
        if name.starts_with("11") {
            assert!(text.contains("archive entry "), "{text}");
            let detail = error.detail().unwrap();
            assert!(
                detail.contains("REFRESH MATERIALIZED VIEW public.words"),
                "{detail}"
            );
        }
        fixture.assert_nothing_left(&[]).await;
    }
}

#[tokio::test]
async fn errors_are_passed_over_as_the_user_wants() {
    let fixture = Fixture::new();
    let strict = import(&fixture, "36-pg_maintain.sql", ErrorPolicy::Strict, None).await;
    let error = multidb_store::error_chain(&strict.unwrap_err());
    assert!(
        error.ends_with("line 2: role \"pg_maintain\" does not exist"),
        "{error}"
    );
    let kept = import(&fixture, "11-one-error.dump", ErrorPolicy::KeepGoing, None).await;
    let snapshot = kept.unwrap();
    let passed = &snapshot.passed_errors;
    assert_eq!(passed.count, 1);
    assert_eq!(passed.errors[0].kind, "data");
    assert_eq!(
        passed.errors[0].statement,
        "REFRESH MATERIALIZED VIEW public.words"
    );
    assert!(warnings(&fixture).contains("passed over 1 failed statement"));
    remove(&fixture, &snapshot);
    // The rows of a table that does not exist are no statements.
    let sql = b"COPY no_such FROM stdin;\nDROP TABLE django_migrations;\n\\N\n\\.\n\
        CREATE TABLE django_migrations (app text, name text);\n\
        BEGIN;\nSELECT nonsense;\nINSERT INTO django_migrations VALUES ('a', 'b');\nCOMMIT;\n";
    let path = fixture.write("the dump", sql);
    let mut request = fixture.request("s", ImportSource::Dump(path));
    request.errors = ErrorPolicy::KeepGoing;
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(snapshot.migrations, ["a.b"]);
    let places: Vec<&str> = snapshot
        .passed_errors
        .errors
        .iter()
        .map(|error| error.place.as_str())
        .collect();
    assert_eq!(places, ["line 1", "line 7"]);
}

#[tokio::test]
async fn missing_locale_is_mapped_where_the_project_says_so() {
    let fixture = Fixture::new();
    let imported = import(&fixture, "45-locale.sql", ErrorPolicy::Default, Some("C")).await;
    let snapshot = imported.unwrap();
    let told = warnings(&fixture);
    assert!(
        told.contains("the dump's locale \"tlh_KX.UTF-8\" is not available"),
        "{told}"
    );
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let locale = "SELECT datcollate::text FROM pg_database WHERE datname = 'proj'";
    assert_eq!(copy.ask("postgres", locale).await, "C");
    copy.stop().await;
}

#[tokio::test]
async fn database_has_the_properties_of_the_dump() {
    let fixture = Fixture::new();
    let imported = import(&fixture, "46-database.sql", ErrorPolicy::Default, None).await;
    let snapshot = imported.unwrap();
    assert_eq!(snapshot.migrations, ["polls.0001_initial"]);
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let properties = "SELECT concat_ws(' ', pg_encoding_to_char(encoding), datcollate, datconnlimit, \
        pg_get_userbyid(datdba), (SELECT string_agg(array_to_string(setconfig, ';'), ';' ORDER BY setrole) \
        FROM pg_db_role_setting WHERE setdatabase = d.oid)) FROM pg_database AS d WHERE datname = 'proj'";
    assert_eq!(
        copy.ask("postgres", properties).await,
        "LATIN1 C 7 app search_path=app, public;session_preload_libraries=no_such_lib;\
         default_transaction_read_only=on;work_mem=7MB"
    );
    copy.stop().await;
}

#[tokio::test]
async fn extension_that_must_be_preloaded_is_restored_where_it_is_configured() {
    let preload = ("shared_preload_libraries", "pg_stat_statements");
    let settings = vec![(preload.0.to_owned(), preload.1.to_owned())];
    let fixture = Fixture::with_settings(settings);
    let imported = import(&fixture, "08-preload.dump", ErrorPolicy::Default, None).await;
    let snapshot = imported.unwrap();
    assert_eq!(
        snapshot.migrations,
        ["polls.0001_initial", "polls.0002_more"]
    );
    assert_eq!(snapshot.passed_errors.count, 0);
}
