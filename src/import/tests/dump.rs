//! Dumps of all formats restore to the database that was dumped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use multidb_store::TakenAtOrigin;

use super::fixture::{Fixture, Server, major};
use crate::import::dump::tests::{gzip, zstd};
use crate::import::{ImportSource, MigrationsQuery, Progress, Step};

/// A dump in one file, without a name that tells its format.
async fn dump(fixture: &Fixture, source: &Server, more: &[&str]) -> Vec<u8> {
    let out = fixture.own_dir("dumps").join("file");
    let path = out.display().to_string();
    let mut args = vec!["--file", &path, "--dbname", "proj"];
    args.extend(more);
    fixture.program("pg_dump", &source.args(&args)).await;
    let bytes = fs::read(&out).unwrap();
    fs::remove_dir_all(out.parent().unwrap()).unwrap();
    bytes
}

/// Imports a dump, and compares a start on the snapshot with the source.
async fn check(fixture: &Fixture, source_text: &str, id: &str, path: &Path) {
    let snapshot = fixture
        .import_dump(id, path)
        .await
        .unwrap_or_else(|error| panic!("{id}: {error:?}"));
    assert_eq!(
        snapshot.migrations,
        ["auth.0001_initial", "polls.0001_initial", "polls.0002_more"]
    );
    assert_eq!(
        (snapshot.postgres_major, snapshot.superuser.as_str()),
        (major(), "postgres")
    );
    let origin = match id {
        _ if id.starts_with("plain") => Some(TakenAtOrigin::FileTime),
        _ if id.starts_with("custom") => Some(TakenAtOrigin::AssumedZone),
        _ => None,
    };
    assert_eq!(
        snapshot.taken_at_origin,
        origin.unwrap_or(snapshot.taken_at_origin)
    );
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let text = fixture.dump_text(&copy, "proj").await;
    // Rows that were inserted one by one are stored in free space in any order.
    let in_order = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if id == "inserts" {
            lines.sort();
        }
        lines
    };
    let (text, source_text) = (in_order(&text), in_order(source_text));
    let difference = text.iter().zip(&source_text).find(|(a, b)| a != b);
    assert!(text == source_text, "{id}: {difference:?}");
    let owner = copy
        .ask(
            "proj",
            "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = 'proj'",
        )
        .await;
    assert_eq!(owner, "app");
    fs::remove_dir_all(copy.stop().await).unwrap();
    fs::remove_dir_all(fixture.layout.snapshot(&snapshot.id)).unwrap();
    fixture.assert_nothing_left(&[]).await;
}

#[tokio::test]
async fn all_formats_restore_to_the_same_database() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let text = fixture.dump_text(&source, "proj").await;
    for format in ["plain", "custom", "tar"] {
        let bytes = dump(&fixture, &source, &["--format", format]).await;
        for (suffix, bytes) in [
            ("", bytes.clone()),
            (".gz", gzip(&bytes)),
            (".zst", zstd(&bytes)),
        ] {
            let path = fixture.write("the dump", &bytes);
            check(&fixture, &text, &format!("{format}{suffix}"), &path).await;
        }
    }
    for compress in ["0", "6"] {
        let directory = fixture.own_dir("dumps").join("directory");
        let path = directory.display().to_string();
        let args = [
            "--file",
            &path,
            "--format=directory",
            "--compress",
            compress,
            "--dbname=proj",
        ];
        fixture.program("pg_dump", &source.args(&args)).await;
        if compress == "6" {
            // Postgres' user cannot enter the parent any more.
            chown(directory.parent().unwrap(), Some(0), Some(0)).unwrap();
            let closed = fs::Permissions::from_mode(0o700);
            fs::set_permissions(directory.parent().unwrap(), closed).unwrap();
        }
        check(
            &fixture,
            &text,
            &format!("directory-{compress}"),
            &directory,
        )
        .await;
        fs::remove_dir_all(directory.parent().unwrap()).unwrap();
    }
    for (id, more) in [
        ("create", &["--create"][..]),
        ("clean-create", &["--clean", "--create"]),
        ("inserts", &["--rows-per-insert=100"]),
        (
            "session-authorization",
            &["--use-set-session-authorization"],
        ),
    ] {
        let path = fixture.write("the dump", &dump(&fixture, &source, more).await);
        check(&fixture, &text, id, &path).await;
    }
    source.stop().await;
}

#[tokio::test]
async fn cluster_dump_restores() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    source
        .run(
            "postgres",
            "ALTER ROLE app SET search_path = public; GRANT reader TO app",
        )
        .await;
    source.run("postgres", "CREATE DATABASE other").await;
    source.run("other", "CREATE TABLE t AS SELECT 1 AS a").await;
    let text = fixture.dump_text(&source, "proj").await;
    let bytes = fixture.program("pg_dumpall", &source.args(&[])).await;
    source.stop().await;
    let path = fixture.write("all.sql", &bytes);
    let snapshot = fixture.import_dump("all", &path).await.unwrap();
    let copy = fixture.start_copy(&snapshot, "copy").await;
    assert!(fixture.dump_text(&copy, "proj").await == text);
    assert_eq!(copy.ask("other", "SELECT a::text FROM t").await, "1");
    let login = "SELECT string_agg(rolname || rolcanlogin, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'";
    assert_eq!(
        copy.ask("proj", login).await,
        "We irdfalse appttrue postgrestrue readerfalse".replace("tt", "t")
    );
    copy.stop().await;
}

#[tokio::test]
async fn snapshot_is_frozen_trimmed_and_owned_by_postgres() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let path = fixture.write(
        "the dump",
        &dump(&fixture, &source, &["--format=custom"]).await,
    );
    source.stop().await;
    let snapshot = fixture.import_dump("s", &path).await.unwrap();
    let events = fixture.events.lock().unwrap().clone();
    for step in [
        Step::Check,
        Step::Copy,
        Step::Restore,
        Step::Migrations,
        Step::Vacuum,
        Step::Finish,
    ] {
        assert!(events.contains(&Progress::Step(step)), "{events:?}");
    }
    let size = fs::metadata(&path).unwrap().len();
    let all = Progress::Bytes {
        done: size,
        total: Some(size),
    };
    assert!(events.contains(&all), "{events:?}");

    let data = fixture.snapshot_data(&snapshot.id);
    fixture.assert_owner(&data);
    let entries = |path: PathBuf| fs::read_dir(path).unwrap().count();
    assert_eq!(
        entries(fixture.layout.snapshot(&snapshot.id)),
        3,
        "its manifest, its data and the files of its relations"
    );
    assert_eq!(
        entries(data.join("pg_wal")),
        2,
        "one segment and archive_status"
    );
    assert!(!data.join("postmaster.opts").exists());
    let manifest = multidb_store::manifest::read::<multidb_store::SnapshotRecord>(
        &fixture.layout.snapshot(&snapshot.id),
    );
    assert_eq!(manifest.unwrap(), snapshot);

    let copy = fixture.start_copy(&snapshot, "copy").await;
    let unfrozen = "SELECT coalesce(string_agg(concat_ws(' ', relname, relpages, relallvisible), ', '), '') FROM pg_class \
        WHERE relkind IN ('r', 'm') AND relpages > 0 AND relallvisible < relpages";
    assert_eq!(copy.ask("proj", unfrozen).await, "");
    let unanalysed =
        "SELECT count(*)::text FROM pg_class AS c WHERE relkind = 'r' AND reltuples < 0";
    assert_eq!(copy.ask("proj", unanalysed).await, "0");
    copy.stop().await;
}

#[tokio::test]
async fn dump_without_restriction_and_with_unknown_roles_restores() {
    let fixture = Fixture::new();
    let sql = "SET client_encoding = 'UTF8';\n\
        CREATE TABLE t (a int);\nALTER TABLE t OWNER TO ghost;\nGRANT SELECT ON t TO \"Sp\"\"ecial\", spirit;\n\
        SELECT 'it''s \\! not a command';\n";
    let path = fixture.write("dump.sql", sql.as_bytes());
    let mut request = fixture.request("s", ImportSource::Dump(path));
    request.settings.migrations = MigrationsQuery {
        sql: "SELECT unnest(array['b', 'a', 'b'])".to_owned(),
        database: Some("postgres".to_owned()),
    };
    request.taken_at = Some("2026-01-02T03:04:05Z".parse().unwrap());
    let snapshot = fixture.import(request).await.unwrap();
    assert_eq!(snapshot.migrations, ["a", "b"]);
    assert_eq!(snapshot.taken_at.to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(snapshot.taken_at_origin, TakenAtOrigin::Known);
    let copy = fixture.start_copy(&snapshot, "copy").await;
    let roles = "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolcanlogin";
    assert_eq!(
        copy.ask("proj", roles).await,
        "Sp\"ecial,app,ghost,postgres,spirit"
    );
    copy.stop().await;
}

/// Counts the 8 KiB blocks that two trees have in common at the same offset, and all blocks.
fn shareable(a: &Path, b: &Path, counts: &mut (u64, u64)) {
    for entry in fs::read_dir(a).unwrap() {
        let entry = entry.unwrap();
        let other = b.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            shareable(&entry.path(), &other, counts);
            continue;
        }
        let (left, right) = (
            fs::read(entry.path()).unwrap(),
            fs::read(other).unwrap_or_default(),
        );
        for (number, block) in left.chunks(8192).enumerate() {
            counts.1 += 1;
            let at = number * 8192;
            if right.get(at..at + block.len()) == Some(block) {
                counts.0 += 1;
            } else if std::env::var_os("MULTIDB_TEST_SHOW_BLOCKS").is_some() {
                tracing::info!(file = %entry.path().display(), number, "differs");
            }
        }
    }
}

#[tokio::test]
async fn two_restores_share_almost_all_blocks() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    let path = fixture.write(
        "the dump",
        &dump(&fixture, &source, &["--format=custom"]).await,
    );
    source.stop().await;
    let a = fixture.import_dump("a", &path).await.unwrap();
    let b = fixture.import_dump("b", &path).await.unwrap();
    let mut counts = (0, 0);
    shareable(
        &fixture.snapshot_data(&a.id).join("base"),
        &fixture.snapshot_data(&b.id).join("base"),
        &mut counts,
    );
    let (same, all) = counts;
    assert!(
        same * 100 >= all * 99,
        "{same} of {all} blocks are the same"
    );
}

#[tokio::test]
async fn tables_are_frozen_where_possible_and_lose_no_rows() {
    let fixture = Fixture::new();
    // One table has rows before its data, as the configuration table of an extension does.
    let sql = "-- PostgreSQL database dump\n\
        CREATE EXTENSION pageinspect;\n\
        CREATE TABLE filled (a int); INSERT INTO filled VALUES (1);\n\
        CREATE TABLE fresh (a int);\n\
        -- Data for Name: filled; Type: TABLE DATA; Schema: public; Owner: app\n\
        COPY public.filled (a) FROM stdin;\n2\n\\.\n\
        -- Data for Name: fresh; Type: TABLE DATA; Schema: public; Owner: app\n\
        COPY public.fresh (a) FROM stdin;\n1\n\\.\n\
        DO $$BEGIN\n\
        ASSERT (SELECT array_agg(a ORDER BY a) FROM filled) = '{1,2}', 'rows are lost';\n\
        ASSERT (SELECT bool_and(t_infomask & 768 = 768) \
            FROM heap_page_items(get_raw_page('fresh', 0))), 'not frozen';\n\
        END$$;\n\
        CREATE TABLE django_migrations (app text, name text);\n\
        -- PostgreSQL database dump complete\n";
    let path = fixture.write("dump.sql", sql.as_bytes());
    let snapshot = fixture.import_dump("s", &path).await.unwrap();
    assert_eq!(snapshot.migrations, Vec::<String>::new());
}
