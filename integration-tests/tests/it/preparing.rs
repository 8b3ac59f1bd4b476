//! Preparations: the operator's SQL and commands run on restored data before any client can see it, and nothing of the
//! data that they removed is left in the files of the snapshot.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multidb_integration_tests::{
    CliOutput, Daemon, Disk, Engine, OTHER_MAJORS, PlainPostgres, eventually, other_postgres_bin,
    path_with, postgres_ids,
};
use serde_json::Value;

use crate::daemon_on;
use crate::hostile_imports::assert_nothing_left;

/// How long an import or its clean-up may take, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The text that every planted secret has in it.
const SECRET: &str = "PLANTED";

/// The data of a source with a secret wherever Postgres keeps values.
const PLANTED: &str = "
    create table django_migrations (id serial primary key, app text not null, name text not null);
    insert into django_migrations (app, name) values ('polls', '0001_initial');
    create table people (id serial primary key, email text, city text, letter text);
    alter table people alter letter set storage external;
    insert into people (email, city, letter) select 'PLANTED-mail-' || n, 'PLANTED-city-' || n % 3,
        case when n <= 3 then repeat('PLANTED-letter-' || n, 1000) end from generate_series(1, 2000) n;
    create index on people (email);
    create statistics people_values (mcv) on city, id from people;
    alter table people add note text default 'PLANTED-default';
    create table emptied (value text);
    insert into emptied select 'PLANTED-emptied-' || n % 3 from generate_series(1, 300) n;
    create table dropped (value text);
    insert into dropped values ('PLANTED-dropped');
    create materialized view cities as select distinct city from people;
    create function greeting() returns text language sql as 'select ''PLANTED-function''';
    comment on table people is 'PLANTED-comment';
    select lo_from_bytea(4711, 'PLANTED-large-object');
    analyze;";

/// Later changes in its source: old rows, and a table of a transaction that crashed.
const LATER: &str = "
    insert into people (email) select 'PLANTED-gone-' || n from generate_series(1, 2000) n;
    delete from people where email like 'PLANTED-gone-%';
    listen anything;
    notify anything, 'PLANTED-notify';";

const MASK: &str = "
    -- a psql script
    \\set ON_ERROR_STOP on
    update people set email = 'person-' || id, city = 'city-' || id % 3, letter = repeat('x', length(letter));
    create temp table notes (id int, note text);
    copy notes (id, note) from stdin;
1\tfirst
2\tsecond
\\.
    update people set note = (select note from notes where notes.id = people.id);
    alter table people alter note drop default;
    drop table dropped;
    refresh materialized view cities;
    create or replace function greeting() returns text language sql as 'select ''hello''';
    comment on table people is null;
    delete from emptied";

const LARGE_OBJECTS: &str = "#!/bin/sh
set -e
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command 'select lo_unlink(oid) from pg_largeobject_metadata' >/dev/null
";

/// A daemon without snapshots whose project has preparations, with their files in its directory.
struct Prepared {
    daemon: Daemon,
}

impl Prepared {
    fn new(engine: Engine) -> Self {
        let daemon = daemon_on(Disk::Xfs, engine).without_snapshots().prepare();
        Self { daemon }
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.daemon.dir().join(name);
        fs::write(&path, content).expect("it can be written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode can be set");
        path
    }

    fn add(&self, section: &str) {
        let path = self.daemon.config_file();
        let text = fs::read_to_string(&path).expect("it can be read");
        let text = format!("{text}\n[[project.demo.prepare]]\n{section}\n");
        fs::write(&path, text).expect("it can be written");
    }

    fn sql(&self, name: &str, content: &str) -> PathBuf {
        // The daemon alone reads it.
        let path = self.file(name, content, 0o600);
        self.add(&format!("sql = {path:?}"));
        path
    }

    fn command(&self, name: &str, content: &str, more: &str) -> PathBuf {
        let path = self.file(name, content, 0o755);
        self.add(&format!("command = [{path:?}{more}]"));
        path
    }

    fn import(&self, id: &str, from: &str, path: &Path) -> CliOutput {
        let path = path.display().to_string();
        let args = ["snapshot", "import", id, "--project", "demo", from, &path];
        self.daemon.cli(&args)
    }

    fn dump(&self) -> PathBuf {
        let sql = "create table django_migrations (id serial primary key, app text, name text);\n\
                   create table people (id int, email text);\n\
                   insert into people values (1, 'a@b.c');\n";
        self.file("dump.sql", sql, 0o644)
    }
}

/// The files below a directory that hold a secret.
fn with_secret(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("it can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            with_secret(&path, found);
        } else {
            let content = fs::read(&path).expect("it can be read");
            let mut windows = content.windows(SECRET.len());
            if windows.any(|window| window == SECRET.as_bytes()) {
                found.push(path);
            }
        }
    }
}

fn find_secrets(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    with_secret(directory, &mut found);
    found
}

/// A file of a relation that no catalog knows, as a crash leaves it, beside the others of the database.
fn leave_orphan(source: &PlainPostgres, database: &str) {
    let query = "select oid from pg_database where datname = current_database()";
    let oid = source.psql(database, query).ok().trim().to_owned();
    let path = source.data_dir().join("base").join(oid).join("999999");
    fs::write(path, "PLANTED-orphan").expect("it can be written");
}

#[test]
fn what_a_preparation_masked_is_in_no_file_of_the_snapshot() {
    let prepared = Prepared::new(Engine::Process);
    let daemon = &prepared.daemon;
    prepared.sql("mask.sql", MASK);
    prepared.command("large-objects", LARGE_OBJECTS, "");
    daemon.start();
    let source = PlainPostgres::start();
    source.psql("app", PLANTED).ok();
    let dump = daemon.dir().join("planted.dump");
    source.dump(&dump);
    source.psql("app", LATER).ok();
    leave_orphan(&source, "app");
    source.stop();
    let data_dir = source.data_dir();
    fs::write(data_dir.join("notes.sql"), "PLANTED-beside").expect("it can be written");
    // Otherwise this test would see nothing.
    assert!(find_secrets(&data_dir).len() > 10);
    let facts =
        "select count(*), count(distinct email), max(email), max(note), greeting() from people";
    let expected = "2000|2000|person-999|second|hello";
    for (id, from, path) in [
        ("of-dump", "--dump", &dump),
        ("of-data", "--data-dir", &data_dir),
    ] {
        prepared.import(id, from, path).ok();
        let snapshot = daemon.root().join("snapshots").join(id);
        assert_eq!(find_secrets(&snapshot), Vec::<PathBuf>::new(), "{id}");
        let user = format!("instance:{id},snapshot:{id}");
        assert_eq!(daemon.psql(&user, facts).ok(), expected);
        // Its clone has statistics, of the masked values.
        let cities =
            "select most_common_vals from pg_stats where tablename = 'people' and attname = 'city'";
        assert!(daemon.psql(&user, cities).ok().contains("city-1"));
        let shown = daemon.json(&["snapshot", "show", id]);
        assert_eq!(
            shown["prepared_by"].as_array().map(Vec::len),
            Some(2),
            "{shown}"
        );
        assert_eq!(shown["preparations"][0]["sha256"], shown["prepared_by"][0]);
    }
    let warned = daemon.json(&["job", "ls"]);
    let warnings = warned.to_string();
    assert!(warnings.contains("notes.sql"), "{warnings}");
}

#[test]
fn what_a_preparation_masked_is_in_no_file_of_another_major_either() {
    let [oldest, .., newest] = OTHER_MAJORS;
    let prepared = Prepared::new(Engine::Process);
    let daemon = &prepared.daemon;
    prepared.sql("mask.sql", MASK);
    prepared.sql("large-objects.sql", "select lo_unlink(4711)");
    daemon.start_with(&[("PATH", &path_with(OTHER_MAJORS.map(other_postgres_bin)))]);
    for major in [oldest, newest] {
        let source = PlainPostgres::start_other(major);
        source.psql("app", PLANTED).ok();
        source.psql("app", LATER).ok();
        source.stop();
        let id = format!("of-{major}");
        prepared.import(&id, "--data-dir", &source.data_dir()).ok();
        let snapshot = daemon.root().join("snapshots").join(&id);
        assert_eq!(find_secrets(&snapshot), Vec::<PathBuf>::new(), "{id}");
    }
}

#[test]
fn command_runs_as_the_user_of_postgres_and_sees_no_other_data() {
    for engine in [Engine::Process, Engine::Docker] {
        let prepared = Prepared::new(engine);
        let daemon = &prepared.daemon;
        let words = prepared.file("words.txt", "word\n", 0o644);
        let root = daemon.root();
        let script = format!(
            "#!/bin/sh\nset -e\nwhoami=$(id -u)\nothers=$(ls {root}/snapshots {root}/state 2>/dev/null | wc -l)\n\
             psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command \"insert into people values \
             ($whoami, '$PGPORT $PGUSER $PGDATABASE $others $1 $(cat \"$2\")')\"\n",
            root = root.display()
        );
        let more = format!(", \"--keep\", {words:?}");
        let program = prepared.command("prune", &script, &more);
        daemon.start();
        prepared.import("prepared", "--dump", &prepared.dump()).ok();
        let (uid, _) = postgres_ids();
        let found = daemon.psql(
            "instance:a,snapshot:prepared",
            "select id, email from people order by id desc limit 1",
        );
        let expected = format!("{uid}|5432 postgres app 0 --keep word");
        assert_eq!(found.ok(), expected, "{engine:?}");
        let shown = daemon.json(&["snapshot", "show", "prepared"]);
        let name = shown["preparations"][0]["name"].as_str().expect("a name");
        assert!(
            name.starts_with(&format!("command {}", program.display())),
            "{shown}"
        );
    }
}

/// A preparation that fails: its section, the content of its file, and the text of the error.
const FAILING: [(&str, &str, &str); 7] = [
    (
        "sql = FILE",
        "select 1;\n\nupdate people set mail = 'x';\n",
        "line 3: column \"mail\" of relation \"people\" does not exist",
    ),
    (
        "sql = FILE",
        "update people set email = 'x';\ncommit;\n",
        "line 2: the statement ends the transaction",
    ),
    ("sql = FILE", "select 'x;\n", "it ends within a statement"),
    (
        "sql = FILE\ntimeout = \"300ms\"",
        "select pg_sleep(600);\n",
        "it did not end within 300ms",
    ),
    (
        "command = [FILE]",
        "#!/bin/sh\necho first >&2\necho not like this >&2\nexit 3\n",
        "exit status: 3: not like this",
    ),
    (
        "command = [FILE]\ntimeout = \"300ms\"",
        "#!/bin/sh\nsleep 600 & sleep 600\n",
        "it did not end within 300ms",
    ),
    (
        "command = [FILE]",
        "#!/bin/sh\npsql --no-psqlrc --quiet --command 'drop database app with (force)' postgres\n",
        "it has no database \"app\"",
    ),
];

#[test]
fn preparation_that_fails_or_hangs_fails_the_import_and_leaves_nothing() {
    let prepared = Prepared::new(Engine::Process);
    let daemon = &prepared.daemon;
    daemon.expect_log("import failed");
    let first = prepared.file("first.sql", "select 1", 0o600);
    let git = daemon.repository().path().display().to_string();
    let mut config = fs::read_to_string(daemon.config_file()).expect("it can be read");
    for (number, (section, content, _)) in FAILING.iter().enumerate() {
        let file = prepared.file(&format!("second-{number}"), content, 0o755);
        let section = section.replace("FILE", &format!("{file:?}"));
        config += &format!(
            "[project.p{number}]\ngit = {git:?}\nmigrations = \"django\"\ndatabase = \"app\"\n\
             [[project.p{number}.prepare]]\nsql = {first:?}\n\
             [[project.p{number}.prepare]]\n{section}\n"
        );
    }
    fs::write(daemon.config_file(), config).expect("it can be written");
    daemon.start();
    let dump = prepared.dump().display().to_string();
    for (number, (section, _, fault)) in FAILING.iter().enumerate() {
        let project = format!("p{number}");
        let args = [
            "snapshot",
            "import",
            "x",
            "--project",
            &project,
            "--dump",
            &dump,
        ];
        let output = daemon.cli(&args);
        assert_eq!(output.code, Some(1), "{section}: {output:?}");
        assert!(output.stderr.contains(fault), "{section}: {output:?}");
        assert_nothing_left(daemon);
    }
}

#[test]
fn cancelled_preparation_is_killed_and_leaves_nothing() {
    let prepared = Prepared::new(Engine::Process);
    let daemon = &prepared.daemon;
    daemon.expect_log("import failed");
    let followed = prepared.file("followed", "", 0o644);
    // The harness finds processes that are left by a file of its directory in their command line.
    let script = "#!/bin/sh\ntail -f \"$1\" &\ntail -f \"$1\"\n";
    prepared.command("hangs", script, &format!(", {followed:?}"));
    daemon.start();
    let dump = prepared.dump().display().to_string();
    let args = [
        "snapshot",
        "import",
        "x",
        "--project",
        "demo",
        "--dump",
        &dump,
        "--detach",
    ];
    let job = daemon.json(&args);
    let id = job["id"].to_string();
    let shown = || daemon.json(&["job", "show", &id]);
    eventually("the preparation runs", TIMEOUT, || {
        let step = shown()["step"].as_str().unwrap_or_default().to_owned();
        step.starts_with("preparation 1 of 1: command ")
    });
    daemon.json(&["job", "cancel", &id]);
    eventually("the job has ended", TIMEOUT, || {
        shown()["state"] == "cancelled"
    });
    assert_nothing_left(daemon);
}

#[test]
fn files_and_programs_that_are_not_there_are_told_before_an_import() {
    let prepared = Prepared::new(Engine::Process);
    let daemon = &prepared.daemon;
    prepared.add("sql = \"/nowhere/mask.sql\"");
    let program = prepared.file("prune", "#!/bin/sh\n", 0o644);
    prepared.add(&format!("command = [{program:?}]"));
    let output = daemon.cli(&["config", "check"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    for fault in [
        "project.demo.prepare[1]: cannot read /nowhere/mask.sql: No such file or directory",
        "is not executable",
    ] {
        assert!(output.stderr.contains(fault), "{output:?}");
    }
    daemon.expect_log("a preparation cannot run");
    daemon.start();
    let _: Value = daemon.json(&["status"]);
}
