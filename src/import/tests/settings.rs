//! The configuration of a data directory's server: the part of it that instances take over.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::fixture::Fixture;
use crate::import::ImportSource;

const CONFIGURATION: &str = "include_dir 'conf.d'\n\
         datestyle = 'ISO, DMY'\n\
         timezone = 'Australia/Sydney'\n\
         search_path = 'elsewhere, public'\n\
         default_text_search_config = 'elsewhere.mine'\n\
         lc_monetary = 'xx_XX.UTF-8'\n\
         max_connections = 30\n\
         max_locks_per_transaction = 128\n\
         max_prepared_transactions = 7\n\
         work_mem = 64MB\n\
         fsync = on\n\
         shared_preload_libraries = 'pg_cron'\n\
         no_such_setting = 1\n";
const LEFT_OUT: &str = "settings of its server are left out: ";

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn an_instance_answers_as_the_server_of_its_data_did() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    for statement in [
        "CREATE SCHEMA elsewhere",
        "ALTER TABLE django_migrations SET SCHEMA elsewhere",
        "CREATE TEXT SEARCH CONFIGURATION elsewhere.mine (COPY = simple)",
    ] {
        source.run("proj", statement).await;
    }
    let data = source.stop().await;
    fs::create_dir(data.join("conf.d")).unwrap();
    let site = "intervalstyle = iso_8601\nenable_seqscan = off\napp.tenant = 'it''s'\n";
    fs::write(data.join("conf.d/site.conf"), site).unwrap();
    append(&data.join("postgresql.conf"), CONFIGURATION);
    append(
        &data.join("postgresql.auto.conf"),
        "datestyle = 'SQL, DMY'\n",
    );
    let options = format!(
        "/usr/bin/postgres \"-D\" \"{}\" \"-c\" \"bytea_output=escape\" \"-N\" \"300\" \"-p\" \"5433\" \"-k\" \"/tmp\" \"-fh\"\n",
        data.display()
    );
    fs::write(data.join("postmaster.opts"), options).unwrap();
    let request = fixture.request("s", ImportSource::DataDir(data));
    let snapshot = fixture.import(request).await.unwrap();
    // In the schema that only the configuration names.
    assert_eq!(snapshot.migrations.len(), 3);
    let warnings = fixture.warnings();
    let left_out = "lc_monetary (invalid value for parameter \"lc_monetary\": \"xx_XX.UTF-8\"), no_such_setting, \
                    shared_preload_libraries, work_mem; those that instances need belong under [postgres.settings]";
    assert_eq!(warnings, [format!("{LEFT_OUT}{left_out}")]);
    fixture.assert_owner(&fixture.snapshot_data(&snapshot.id));
    let copy = fixture.start_copy(&snapshot, "copy").await;
    for (query, expected) in [
        ("SELECT '01/02/2026'::date::text", "01/02/2026"),
        ("SELECT extract(month FROM '01/02/2026'::date)::text", "2"),
        ("SELECT current_setting('timezone')", "Australia/Sydney"),
        ("SELECT (interval '1 day 2 hours')::text", "P1DT2H"),
        ("SELECT current_setting('enable_seqscan')", "off"),
        ("SELECT current_setting('app.tenant')", "it's"),
        ("SELECT get_current_ts_config()::text", "mine"),
        ("SELECT '\\x00'::bytea::text", "\\000"),
        ("SELECT current_setting('max_connections')", "300"),
        ("SELECT current_setting('enable_hashjoin')", "off"),
        ("SELECT current_setting('max_locks_per_transaction')", "128"),
        // The server's own settings override the ones that the data carries.
        ("SELECT current_setting('max_prepared_transactions')", "2"),
        ("SELECT current_setting('work_mem')", "4MB"),
        ("SELECT count(*)::text FROM django_migrations", "3"),
    ] {
        assert_eq!(copy.ask("proj", query).await, expected, "{query}");
    }
    // An instance's data has them for a snapshot of its own.
    let data = copy.stop().await;
    let again = fixture.request("t", ImportSource::DataDir(data));
    let snapshot = fixture.import(again).await.unwrap();
    assert_eq!(fixture.warnings(), Vec::<String>::new());
    let copy = fixture.start_copy(&snapshot, "another").await;
    let date = "SELECT '01/02/2026'::date::text";
    assert_eq!(copy.ask("proj", date).await, "01/02/2026");
    copy.stop().await;
}

#[tokio::test]
async fn an_ordinary_configuration_gives_no_warning() {
    let fixture = Fixture::new();
    let data = fixture.source().await.stop().await;
    let debian = "listen_addresses = 'localhost'\nssl = on\nssl_cert_file = '/etc/ssl/certs/x.pem'\n\
                  external_pid_file = '/run/postgresql/15-main.pid'\ncluster_name = '15/main'\nwork_mem = 4MB\n";
    append(&data.join("postgresql.conf"), debian);
    let request = fixture.request("s", ImportSource::DataDir(data));
    fixture.import(request).await.unwrap();
    assert_eq!(fixture.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn archiving_replication_and_recovery_of_the_source_do_nothing_in_an_instance() {
    let fixture = Fixture::new();
    let data = fixture.source().await.stop().await;
    let traces = fixture.own_dir("traces");
    let touch = |name: &str| format!("touch {}/{name}", traces.display());
    append(
        &data.join("postgresql.conf"),
        &format!(
            "archive_mode = always\narchive_command = '{}'\narchive_timeout = 1\nrestore_command = '{}'\n\
             archive_cleanup_command = '{}'\nrecovery_end_command = '{}'\nssl_passphrase_command = '{}'\n",
            touch("archive"),
            touch("restore"),
            touch("cleanup"),
            touch("end"),
            touch("passphrase"),
        ),
    );
    append(
        &data.join("postgresql.auto.conf"),
        "primary_conninfo = 'host=127.0.0.1 port=1'\nprimary_slot_name = 'production'\narchive_library = 'basic_archive'\n\
         recovery_target_time = '2026-01-01 00:00:00'\nrecovery_target_action = 'shutdown'\n",
    );
    for name in ["standby.signal", "recovery.signal"] {
        fs::write(data.join(name), "").unwrap();
    }
    let request = fixture.request("s", ImportSource::DataDir(data));
    let snapshot = fixture.import(request).await.unwrap();
    let warnings = fixture.warnings();
    let named = warnings
        .iter()
        .find_map(|text| text.strip_prefix(LEFT_OUT))
        .unwrap();
    for name in [
        "archive_command",
        "primary_conninfo",
        "recovery_target_time",
        "restore_command",
    ] {
        assert!(named.contains(name), "{named}");
    }
    assert!(!named.contains("127.0.0.1"), "{named}");
    let copy = fixture.start_copy(&snapshot, "copy").await;
    const SET: &str = "SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings \
        WHERE name ~ '^(archive|restore|recovery|primary|ssl_passphrase)' AND source <> 'default'";
    let of_multidb = "archive_mode=off,recovery_init_sync_method=syncfs";
    assert_eq!(copy.ask("proj", SET).await, of_multidb);
    copy.run("proj", "CREATE TABLE x AS SELECT 1; CHECKPOINT")
        .await;
    copy.run("proj", "SELECT pg_switch_wal()").await;
    const WORKERS: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type IN ('archiver', 'walreceiver', 'startup')";
    assert_eq!(copy.ask("proj", WORKERS).await, "0");
    copy.stop().await;
    let traces: Vec<_> = fs::read_dir(traces).unwrap().collect();
    assert!(traces.is_empty(), "{traces:?}");
}
