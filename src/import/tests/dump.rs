//! Dumps of all formats restore to the database that was dumped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use multidb_store::{SnapshotRecord, TakenAtOrigin};

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
    // Rows of archives are sorted, and rows that were inserted one by one are stored in free space in any order.
    let keeps_order =
        id.starts_with("plain") || id.ends_with("create") || id.starts_with("session");
    let in_order = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if !keeps_order {
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
        count_shareable(&left, &right, counts);
    }
}

fn count_shareable(left: &[u8], right: &[u8], counts: &mut (u64, u64)) {
    for (number, block) in left.chunks(8192).enumerate() {
        counts.1 += 1;
        let at = number * 8192;
        counts.0 += u64::from(right.get(at..at + block.len()) == Some(block));
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

/// Tables whose rows are updated all over, with the keys that a table can have.
const UPDATED: &str = "
    CREATE TABLE fixed (id bigint PRIMARY KEY, a int, b int, c text);
    INSERT INTO fixed SELECT g, g, g, repeat('x', 90) FROM generate_series(-5000, 25000) AS g ORDER BY md5(g::text);
    CREATE TABLE composite (b text, n int, rest text, a text COLLATE \"C\", PRIMARY KEY (a, n));
    INSERT INTO composite SELECT 'b' || g, g % 7, repeat('y', 50), E'a\\t\\n\\\\' || (g / 7)
        FROM generate_series(1, 20000) AS g ORDER BY md5(g::text);
    CREATE TABLE keyless (a int, b text);
    INSERT INTO keyless VALUES (3, 'x'), (1, 'y'), (2, NULL);
    CREATE TABLE parted (id int, at date, note text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    INSERT INTO parted SELECT g, '2026-01-01'::date + g % 31, 'n' || g FROM generate_series(1, 3000) AS g;
    CREATE TABLE child (more text, PRIMARY KEY (id)) INHERITS (fixed);
    INSERT INTO child (more, id) SELECT 'm', g FROM generate_series(300, 1, -1) AS g;
    CREATE TABLE generated (a int, id int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY);
    INSERT INTO generated VALUES (2), (1)";
/// The changes of a day: few rows, anywhere.
const DAY: &str = "
    UPDATE fixed SET a = a + 1 WHERE id % 2000 = 7;
    UPDATE composite SET rest = repeat('z', 50) WHERE md5(a) < '008';
    UPDATE parted SET note = 'new' WHERE id % 100 = 3";

#[tokio::test]
async fn dumps_of_two_days_share_their_blocks_for_rows_are_sorted_by_their_keys() {
    let fixture = Fixture::new();
    let source = fixture.source().await;
    source.run("proj", UPDATED).await;
    let (mut shared, mut newest) = (Vec::new(), None);
    for format in ["plain", "custom"] {
        let mut snapshots = Vec::new();
        for day in ["a", "b"] {
            let bytes = dump(&fixture, &source, &["--format", format]).await;
            let path = fixture.write(day, &bytes);
            let id = format!("{format}-{day}");
            snapshots.push(fixture.import_dump(&id, &path).await.unwrap());
            if day == "a" {
                source.run("proj", DAY).await;
            }
        }
        let mut counts = (0, 0);
        for table in ["proj.public.fixed", "proj.public.composite"] {
            let file = |one: &SnapshotRecord| {
                let relations = fs::read(fixture.layout.snapshot(&one.id).join("relations.json"));
                let relations: BTreeMap<String, PathBuf> =
                    serde_json::from_slice(&relations.unwrap()).unwrap();
                fs::read(fixture.snapshot_data(&one.id).join(&relations[table])).unwrap()
            };
            count_shareable(&file(&snapshots[0]), &file(&snapshots[1]), &mut counts);
        }
        shared.push(counts.0 * 100 / counts.1);
        newest = snapshots.pop();
    }
    assert!(
        shared[0] < 50 && shared[1] >= 90,
        "{shared:?} of 100 blocks"
    );
    let text = fixture.dump_text(&source, "proj").await;
    source.stop().await;
    let copy = fixture.start_copy(&newest.unwrap(), "copy").await;
    for (table, order) in [
        ("ONLY fixed", "id"),
        ("composite", "a COLLATE \"C\", n"),
        ("child", "id"),
        ("parted", "at, id"),
    ] {
        let query = format!(
            "SELECT (array_agg(t ORDER BY ctid) = array_agg(t ORDER BY {order}))::text FROM {table} AS t"
        );
        assert_eq!(copy.ask("proj", &query).await, "true", "{table}");
    }
    for (table, expected) in [("keyless", "3,1,2"), ("generated", "2,1")] {
        let query = format!("SELECT string_agg(a::text, ',' ORDER BY ctid) FROM {table}");
        assert_eq!(
            copy.ask("proj", &query).await,
            expected,
            "{table} is as it was"
        );
    }
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(sorted(&fixture.dump_text(&copy, "proj").await) == sorted(&text));
    copy.stop().await;
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
