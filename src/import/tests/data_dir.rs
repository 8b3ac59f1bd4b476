//! Data directories: imported, or refused with a hint.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fixture::Fixture;
use crate::import::{ImportError, ImportSource, Progress, Step};

async fn import(
    fixture: &Fixture,
    data: PathBuf,
) -> Result<multidb_store::SnapshotRecord, ImportError> {
    fixture
        .import(fixture.request("s", ImportSource::DataDir(data)))
        .await
}

/// Asserts that an import is refused with these words and a hint, before the copy, and leaves nothing. Returns the hint.
async fn refused(fixture: &Fixture, data: PathBuf, words: &str) -> String {
    let error = import(fixture, data).await.unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    let copies = |event: &Progress| *event == Progress::Step(Step::Copy);
    assert!(
        !fixture.events.lock().unwrap().iter().any(copies),
        "{error}"
    );
    fixture.assert_nothing_left(&[]).await;
    error.hint().unwrap()
}

#[tokio::test]
async fn clean_data_directory_becomes_a_snapshot() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    source
        .run("proj", "ALTER SYSTEM SET archive_mode = 'on'")
        .await;
    source
        .run(
            "proj",
            "SELECT pg_create_physical_replication_slot('standby', true)",
        )
        .await;
    let text = fixture.dump_text(&source, "proj").await;
    let data = source.stop().await;
    let before = fs::read(data.join("global/pg_control")).unwrap();
    let snapshot = import(&fixture, data.clone()).await.unwrap();
    assert_eq!(snapshot.migrations.len(), 3);
    let age = jiff::Timestamp::now().duration_since(snapshot.taken_at);
    assert!((0..300).contains(&age.as_secs()), "{age}");
    assert!(
        before == fs::read(data.join("global/pg_control")).unwrap(),
        "the source is not changed"
    );
    let events = fixture.events.lock().unwrap().clone();
    let warned = |event: &Progress| matches!(event, Progress::Warning(text) if text.contains("archive_mode"));
    assert!(events.iter().any(warned), "{events:?}");
    fixture.assert_owner(&fixture.snapshot_data(&snapshot.id));
    let copy = fixture.start_copy(&snapshot, "copy").await;
    assert!(fixture.dump_text(&copy, "proj").await == text);
    assert_eq!(
        copy.ask("proj", "SELECT count(*)::text FROM pg_replication_slots")
            .await,
        "0"
    );
    copy.stop().await;
    let error = import(&fixture, data).await.unwrap_err();
    assert!(matches!(error, ImportError::Exists { .. }), "{error}");
    fixture.assert_nothing_left(&["s"]).await;
}

#[tokio::test]
async fn extensions_that_postgres_lacks_are_named() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    // As if it had been created where its files are.
    let created = "UPDATE pg_extension SET extname = 'Acme' WHERE extname = 'plpgsql'";
    source.run("proj", created).await;
    let snapshot = import(&fixture, source.stop().await).await.unwrap();
    assert_eq!(snapshot.migrations.len(), 3);
    assert_eq!(snapshot.extensions, ["Acme"]);
    let warnings = fixture.warnings();
    let named = |warning: &String| {
        warning.contains("extensions that Postgres lacks here: \"Acme\" of \"proj\"; ")
    };
    assert_eq!(
        warnings.iter().filter(|one| named(one)).count(),
        1,
        "{warnings:?}"
    );
}

#[tokio::test]
async fn data_directory_in_use_is_refused() {
    let fixture = Fixture::new();
    let data = fixture.init("source").await;
    let source = fixture.start(&data).await;
    refused(&fixture, data.clone(), "Postgres is running on it").await;
    // As after a crash of the machine: no process, and the control file says "in production".
    let crashed = fixture.copy_of(&data, "crashed");
    fs::remove_file(crashed.join("postmaster.pid")).unwrap();
    refused(
        &fixture,
        crashed,
        "not shut down cleanly: its state is \"in production\"",
    )
    .await;
    source.stop().await;
}

#[tokio::test]
async fn unusable_data_directory_is_refused() {
    let fixture = Fixture::new();
    refused(
        &fixture,
        fixture.own_dir("empty"),
        "it is not a Postgres data directory",
    )
    .await;
    let data = fixture.init("source").await;
    refused(&fixture, data.clone(), "it has no database \"proj\"").await;
    let control = fs::read(data.join("global/pg_control")).unwrap();
    let mut damaged = control.clone();
    damaged[100] ^= 1;
    fs::write(data.join("global/pg_control"), damaged).unwrap();
    refused(&fixture, data.clone(), "its control file is damaged").await;
    fs::write(data.join("global/pg_control"), control).unwrap();
    fs::rename(data.join("pg_xact"), fixture.path("xact")).unwrap();
    refused(&fixture, data, "it is incomplete: it has no pg_xact").await;
}

#[tokio::test]
async fn link_that_leads_to_no_data_is_refused_before_anything_is_copied() {
    let fixture = Fixture::new();
    let data = fixture.init("source").await;
    let outside = fixture.own_dir("outside");
    fs::write(outside.join("id_rsa"), "secret").unwrap();
    let relation = data.join("base/1/1259");
    let kept = fs::read(&relation).unwrap();
    fs::remove_file(&relation).unwrap();
    for (target, words) in [
        ("outside/id_rsa", "which is no data of Postgres"),
        ("absent", "which does not exist here"),
    ] {
        symlink(fixture.path(target), &relation).unwrap();
        refused(&fixture, data.clone(), words).await;
        fs::remove_file(&relation).unwrap();
    }
    // A file with a name of data that belongs to another user.
    if rustix::process::geteuid().is_root() {
        fs::write(fixture.path("1259"), "secret").unwrap();
        symlink(fixture.path("1259"), &relation).unwrap();
        let words = "which belongs to another user than the data directory";
        refused(&fixture, data.clone(), words).await;
        fs::remove_file(&relation).unwrap();
    }
    fs::write(&relation, kept).unwrap();
    symlink(&outside, data.join("pg_tblspc/16999")).unwrap();
    refused(&fixture, data.clone(), "its tablespace 16999 leads to").await;
}

/// Moves a part of a data directory outside and leaves a link.
fn move_out(fixture: &Fixture, data: &Path, relative: &str, name: &str) {
    fs::rename(data.join(relative), fixture.path(name)).unwrap();
    symlink(fixture.path(name), data.join(relative)).unwrap();
}

#[tokio::test]
async fn links_of_data_are_brought_in_and_others_left_out() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    for statement in [
        "ALTER ROLE postgres SET allow_in_place_tablespaces = on",
        "CREATE TABLESPACE fast LOCATION ''",
    ] {
        source.run("proj", statement).await;
    }
    source
        .run(
            "proj",
            "CREATE TABLE far (x int) TABLESPACE fast; INSERT INTO far SELECT generate_series(1, 1000)",
        )
        .await;
    let text = fixture.dump_text(&source, "proj").await;
    let ask = "SELECT oid::text FROM pg_tablespace WHERE spcname = 'fast'";
    let space = format!("pg_tblspc/{}", source.ask("proj", ask).await);
    let ask = "SELECT pg_relation_filepath('django_migrations')";
    let relation = source.ask("proj", ask).await;
    let ask = "SELECT oid::text FROM pg_database WHERE datname = 'template1'";
    let database = format!("base/{}", source.ask("proj", ask).await);
    let data = source.stop().await;
    let name = relation.rsplit('/').next().unwrap().to_owned();
    for (relative, name) in [
        ("pg_wal", "wal"),
        (space.as_str(), "space"),
        (relation.as_str(), name.as_str()),
        (database.as_str(), "another database"),
        ("postgresql.conf", "main.conf"),
        ("pg_stat_tmp", "statistics"),
    ] {
        move_out(&fixture, &data, relative, name);
    }
    symlink("/no/such/file", data.join("server.crt")).unwrap();
    symlink("/var/log", data.join("log")).unwrap();
    // Of a mount point, and of another cluster.
    fs::create_dir(fixture.path("wal/lost+found")).unwrap();
    fs::create_dir_all(fixture.path("space/PG_12_201909212")).unwrap();
    let snapshot = import(&fixture, data).await.unwrap();
    let warnings = fixture.warnings();
    let left_out = "symbolic links that are not of data are left out: ";
    let named = warnings.iter().find_map(|text| text.strip_prefix(left_out));
    let mut named: Vec<&str> = named.unwrap().split(", ").collect();
    named.sort_unstable();
    assert_eq!(named, ["pg_stat_tmp", "server.crt"]);
    let copied = fixture.snapshot_data(&snapshot.id);
    assert!(copied.join(&space).is_dir());
    assert!(!copied.join("pg_wal/lost+found").exists());
    assert!(!copied.join(&space).join("PG_12_201909212").exists());
    fixture.assert_owner(&copied);
    let copy = fixture.start_copy(&snapshot, "copy").await;
    assert_eq!(fixture.dump_text(&copy, "proj").await, text);
    let count = "SELECT count(*)::text FROM far";
    assert_eq!(copy.ask("proj", count).await, "1000");
    // The clone has its tablespace for itself, and can be rid of it.
    copy.run("proj", "DROP TABLE far").await;
    copy.run("proj", "DROP TABLESPACE fast").await;
    copy.stop().await;
}

#[tokio::test]
async fn leftovers_in_a_data_directory_and_its_modes_do_not_matter() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let text = fixture.dump_text(&source, "proj").await;
    let data = source.stop().await;
    for name in ["recovery.conf", "standby.signal", "backup_manifest"] {
        fs::write(data.join(name), "nonsense").unwrap();
    }
    let broken = "work_mem = '1MB'\n<<<<<<< HEAD\n";
    fs::write(data.join("postgresql.auto.conf"), broken).unwrap();
    for name in ["pg_notify", "pg_stat_tmp", "pg_wal/archive_status"] {
        fs::remove_dir_all(data.join(name)).unwrap();
    }
    // Of another server, which runs.
    let other = fixture.init("other").await;
    let other = fixture.start(&other).await;
    let pid_file = other.data_dir.join("postmaster.pid");
    fs::copy(pid_file, data.join("postmaster.pid")).unwrap();
    let status = Command::new("chmod")
        .args(["--recursive", "u=rX,go=rX"])
        .arg(&data)
        .status();
    assert!(status.unwrap().success());
    let snapshot = import(&fixture, data.clone()).await.unwrap();
    let warnings = fixture.warnings();
    assert_eq!(
        warnings,
        [
            "its configuration is not read completely: line 2 of postgresql.auto.conf is no setting",
            "settings of its server are left out: work_mem; those that instances need belong under [postgres.settings]",
        ]
    );
    let copy = fixture.start_copy(&snapshot, "copy").await;
    assert_eq!(fixture.dump_text(&copy, "proj").await, text);
    copy.stop().await;
    other.stop().await;
    let status = Command::new("chmod")
        .args(["--recursive", "u+w"])
        .arg(&data)
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn copy_of_a_running_server_gets_no_hint_that_would_stop_the_original() {
    let fixture = Fixture::new();
    let data = fixture.init("source").await;
    let source = fixture.start(&data).await;
    let copied = fixture.copy_of(&data, "copied");
    let error = import(&fixture, copied).await.unwrap_err();
    assert!(error.to_string().contains("in production"), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("Remove its postmaster.pid before"), "{hint}");
    source.stop().await;
    fixture.assert_nothing_left(&[]).await;
}

/// A stopped data directory after these statements, the last of them in the database `proj`.
async fn source_after(fixture: &Fixture, statements: &[&str]) -> PathBuf {
    let source = fixture.source().await;
    for statement in statements {
        source.run("proj", statement).await;
    }
    source.stop().await
}

#[tokio::test]
async fn superuser_of_another_name_is_found() {
    let fixture = Fixture::new();
    let statements = [
        "CREATE ROLE django SUPERUSER LOGIN",
        "ALTER ROLE postgres NOLOGIN",
    ];
    let data = source_after(&fixture, &statements).await;
    // `app` is no superuser, and can ask for one.
    let snapshot = import(&fixture, data.clone()).await.unwrap();
    assert_eq!(snapshot.superuser, "django");
    let mut request = fixture.request("t", ImportSource::DataDir(data));
    request.settings.role = "django".to_owned();
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(snapshot.superuser, "django");
    fixture.assert_nothing_left(&["s", "t"]).await;
}

#[tokio::test]
async fn cluster_without_a_superuser_is_refused_with_both_ways_out() {
    let fixture = Fixture::new();
    let statement = "ALTER ROLE app NOLOGIN; ALTER ROLE postgres NOLOGIN";
    let data = source_after(&fixture, &[statement]).await;
    let problem = "no superuser was found: no role \"postgres\" or \"app\" can log in";
    let hint = refused(&fixture, data, problem).await;
    assert!(
        hint.starts_with("Set the project's `role` to a superuser"),
        "{hint}"
    );
    assert!(
        hint.contains("CREATE ROLE postgres SUPERUSER LOGIN"),
        "{hint}"
    );
}

#[tokio::test]
async fn database_that_accepts_no_connections_is_told_as_such() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    source
        .run("postgres", "ALTER DATABASE proj ALLOW_CONNECTIONS false")
        .await;
    let data = source.stop().await;
    let words = "its database \"proj\" accepts no connections: its datallowconn is false";
    refused(&fixture, data, words).await;
}

#[tokio::test]
async fn locale_that_the_machine_lacks_is_named_with_its_package() {
    const CHANGE: &str =
        "UPDATE pg_database SET datcollate = 'xx_XX.UTF-8', datctype = 'xx_XX.UTF-8'";
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let of_proj = format!("{CHANGE} WHERE datname = 'proj'");
    source.run("postgres", &of_proj).await;
    let data = source.stop().await;
    let words = "the locale \"xx_XX.UTF-8\" of its database \"proj\" is not available";
    let hint = refused(&fixture, data.clone(), words).await;
    assert!(hint.contains("locales-all"), "{hint}");
    // No session can even ask.
    let source = fixture.start(&data).await;
    source.run("postgres", CHANGE).await;
    let data = source.stop().await;
    let words = "initialized with LC_COLLATE \"xx_XX.UTF-8\"";
    let hint = refused(&fixture, data, words).await;
    assert!(hint.contains("locales-all"), "{hint}");
}

#[tokio::test]
async fn cluster_in_which_only_the_projects_database_lets_sessions_in_is_imported() {
    let fixture = Fixture::new();
    let statements = [
        "DROP DATABASE postgres",
        "ALTER DATABASE template1 ALLOW_CONNECTIONS false",
    ];
    let data = source_after(&fixture, &statements).await;
    fs::write(
        data.join("postgresql.auto.conf"),
        "datestyle = 'SQL, DMY'\n",
    )
    .unwrap();
    let snapshot = import(&fixture, data).await.unwrap();
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let date = "SELECT '01/02/2026'::date::text";
    assert_eq!(copy.ask("proj", date).await, "01/02/2026");
    let style = "SELECT current_setting('datestyle')";
    assert_eq!(copy.ask("proj", style).await, "SQL, DMY");
    copy.stop().await;
}

#[tokio::test]
async fn settings_of_roles_and_databases_do_not_touch_an_import() {
    let fixture = Fixture::new();
    let statements = [
        "CREATE TABLE large AS SELECT x FROM generate_series(1, 1000000) x",
        "ALTER ROLE postgres SET statement_timeout = '1ms'",
        "ALTER ROLE postgres SET lock_timeout = '1ms'",
        "ALTER ROLE postgres SET idle_session_timeout = '1ms'",
        "ALTER ROLE postgres SET idle_in_transaction_session_timeout = '1ms'",
        "ALTER ROLE postgres SET role = reader",
        "ALTER ROLE postgres SET search_path = nowhere",
        "ALTER ROLE postgres SET default_transaction_read_only = on",
        "ALTER ROLE postgres SET default_transaction_isolation = serializable",
        "ALTER ROLE postgres SET session_preload_libraries = 'no_such_lib'",
        "ALTER DATABASE postgres SET session_preload_libraries = 'no_such_lib'",
        "ALTER DATABASE template1 SET session_preload_libraries = 'no_such_lib'",
        "ALTER DATABASE proj SET session_preload_libraries = 'no_such_lib'",
    ];
    let data = source_after(&fixture, &[&statements.join("; ")]).await;
    let mut request = fixture.request("s", ImportSource::DataDir(data));
    // The role's search path is for its own queries.
    request.settings.migrations.sql =
        "SELECT app || '.' || name FROM public.django_migrations".into();
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(snapshot.migrations.len(), 3);
    let warnings = fixture.warnings();
    let refused = "clients cannot log in to database \"proj\" as \"app\": could not access file \
                   \"no_such_lib\": No such file or directory";
    assert!(warnings.iter().any(|text| text == refused), "{warnings:?}");
}

#[tokio::test]
async fn prepared_transactions_are_named_and_ended() {
    let fixture = Fixture::new();
    let prepare = |gid: &str| {
        format!(
            "BEGIN; LOCK customers; INSERT INTO empty_one VALUES (1); PREPARE TRANSACTION '{gid}'"
        )
    };
    let data = source_after(&fixture, &[&prepare("half done")]).await;
    let snapshot = import(&fixture, data).await.unwrap();
    let warning = "prepared transactions are rolled back: 'half done' of \"proj\"";
    let warnings = fixture.warnings();
    assert!(warnings.iter().any(|text| text == warning), "{warnings:?}");
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let count = "SELECT count(*)::text FROM pg_prepared_xacts";
    assert_eq!(copy.ask("proj", count).await, "0");
    let count = "SELECT count(*)::text FROM empty_one";
    assert_eq!(copy.ask("proj", count).await, "0");
    copy.run("proj", "ALTER TABLE customers ADD COLUMN more int")
        .await;
    copy.stop().await;
    let source = fixture.copy_of(&fixture.snapshot_data(&snapshot.id), "again");
    let server = fixture.start(&source).await;
    server.run("proj", &prepare("it''s")).await;
    server
        .run(
            "postgres",
            "ALTER DATABASE template1 ALLOW_CONNECTIONS false",
        )
        .await;
    server
        .run("postgres", "ALTER DATABASE proj ALLOW_CONNECTIONS false")
        .await;
    let data = server.stop().await;
    let mut request = fixture.request("t", ImportSource::DataDir(data));
    request.settings.database = "postgres".to_owned();
    let error = fixture.import(request).await.unwrap_err();
    let words = "its prepared transaction 'it''s' is of the database \"proj\", which accepts no connections";
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.hint().is_some(), "{error}");
    fixture.assert_nothing_left(&["s"]).await;
}
