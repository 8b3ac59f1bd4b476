//! Snapshots come from data directories and dumps; a failed import leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use multidb_integration_tests::{
    CliOutput, Daemon, Disk, Engine, Fixture, PlainPostgres, Session, TUESDAY_ROWS, run,
};

use crate::{daemon, daemon_on};

fn fixture() -> Fixture {
    Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM))
}

/// Imports; a failure is the test's own affair, and may be in the log.
fn import(daemon: &Daemon, id: &str, from: &str, path: &Path) -> CliOutput {
    let path = path.display().to_string();
    daemon.expect_log("import failed");
    daemon.cli(&["snapshot", "import", id, "--project", "demo", from, &path])
}

/// Compresses a file by a program of the system.
fn compressed(daemon: &Daemon, program: &str, suffix: &str) -> PathBuf {
    let target = daemon.dir().join(format!("tuesday.sql.{suffix}"));
    let file = fs::File::create(&target).expect("it can be made");
    let status = Command::new(program)
        .arg("-c")
        .arg(fixture().dump("tuesday.sql"))
        .stdout(file)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{program}");
    target
}

/// Nothing visible, nothing half-visible.
fn assert_nothing_left(daemon: &Daemon) {
    let snapshots = daemon.json(&["snapshot", "ls"]);
    assert_eq!(snapshots.as_array().map(Vec::len), Some(0), "{snapshots}");
    let left: Vec<_> = fs::read_dir(daemon.root().join("snapshots"))
        .expect("it can be listed")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_format_of_dump_can_be_imported() {
    let daemon = daemon().without_snapshots().start();
    let fixture = fixture();
    for (id, path) in [
        ("plain", fixture.dump("tuesday.sql")),
        ("gzip", compressed(&daemon, "gzip", "gz")),
        ("zstd", compressed(&daemon, "zstd", "zst")),
        ("custom", fixture.dump("tuesday.dump")),
        ("tar", fixture.dump("tuesday.tar")),
        ("directory", fixture.dump("tuesday.dir")),
    ] {
        import(&daemon, id, "--dump", &path).ok();
        assert_eq!(
            daemon.json(&["snapshot", "show", id])["migrations"],
            3,
            "{id}"
        );
        let session = daemon.connect(&format!("instance:of-{id},snapshot:{id}"));
        let rows = session.one("select count(*) from polls_question");
        assert_eq!(rows, TUESDAY_ROWS.to_string(), "{id}");
    }
}

#[test]
fn containers_import_as_well_as_processes() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .without_snapshots()
        .start();
    let fixture = fixture();
    import(&daemon, "dumped", "--dump", &fixture.dump("tuesday.dump")).ok();
    let data = copy_of_data_dir(&daemon);
    let conf = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&conf).expect("initdb wrote it");
    text.push_str("datestyle = 'SQL, DMY'\nlc_monetary = 'xx_XX'\n");
    fs::write(&conf, text).expect("it can be written");
    let output = import(&daemon, "copied", "--data-dir", &data);
    output.ok();
    let left_out = "lc_monetary (invalid value for parameter";
    assert!(output.stderr.contains(left_out), "{}", output.stderr);
    let session = daemon.connect("instance:copied,snapshot:copied");
    assert_eq!(session.one("select '01/02/2026'::date::text"), "01/02/2026");
    for (id, rows) in [("dumped", "1200"), ("copied", "1000")] {
        let session = daemon.connect(&format!("instance:{id},snapshot:{id}"));
        assert_eq!(session.one("select count(*) from polls_question"), rows);
    }
}

#[test]
fn imported_data_directory_is_left_as_it_was() {
    let daemon = daemon().without_snapshots().start();
    let data = copy_of_data_dir(&daemon);
    let before = control_data(&data);
    import(&daemon, "copied", "--data-dir", &data).ok();
    assert_eq!(control_data(&data), before);
}

fn copy_of_data_dir(daemon: &Daemon) -> PathBuf {
    let copy = daemon.dir().join("data-dir");
    let mut command = Command::new("cp");
    command.args(["--archive", "--reflink=auto"]);
    run(command.arg(fixture().data_dir()).arg(&copy)).ok();
    copy
}

fn control_data(data: &Path) -> String {
    let (bin, _) = multidb_integration_tests::postgres_bin();
    run(Command::new(bin.join("pg_controldata")).arg(data))
        .ok()
        .to_owned()
}

#[test]
fn unclean_data_directory_is_refused_with_what_to_do() {
    let daemon = daemon().without_snapshots().start();
    let data = copy_of_data_dir(&daemon);
    make_unclean(&data);
    let output = import(&daemon, "unclean", "--data-dir", &data);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("cleanly"), "{}", output.stderr);
    assert!(output.stderr.contains("hint: "), "{}", output.stderr);
    assert_nothing_left(&daemon);
}

/// Starts the server and kills it.
fn make_unclean(data: &Path) {
    let (bin, _) = multidb_integration_tests::postgres_bin();
    let mut start = Command::new(bin.join("pg_ctl"));
    start.args(["start", "--wait", "--silent", "--log"]);
    start.arg(data.join("log")).arg("--pgdata").arg(data);
    start.args([
        "--options",
        "-c listen_addresses='' -c unix_socket_directories=/tmp -c port=29999",
    ]);
    multidb_integration_tests::run_as_postgres(&mut start).ok();
    let mut stop = Command::new(bin.join("pg_ctl"));
    stop.args(["stop", "--mode=immediate", "--silent", "--pgdata"]);
    multidb_integration_tests::run_as_postgres(stop.arg(data)).ok();
}

#[test]
fn directory_that_is_no_cluster_is_refused() {
    let daemon = daemon().without_snapshots().start();
    let output = import(
        &daemon,
        "nonsense",
        "--data-dir",
        Path::new("/usr/share/doc"),
    );
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("/usr/share/doc"),
        "{}",
        output.stderr
    );
    let output = import(&daemon, "absent", "--dump", Path::new("/no/such/file.dump"));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_nothing_left(&daemon);
}

#[test]
fn dump_that_fails_half_way_leaves_nothing() {
    let daemon = daemon().without_snapshots().start();
    let whole = fs::read(fixture().dump("tuesday.sql")).expect("it can be read");
    let half = daemon.dir().join("half.sql");
    let mut text = whole[..whole.len() / 2].to_vec();
    text.extend_from_slice(b"\n\\.\nselect 1/0;\n");
    fs::write(&half, text).expect("it can be written");
    let cut = daemon.dir().join("cut.dump");
    let whole = fs::read(fixture().dump("tuesday.dump")).expect("it can be read");
    fs::write(&cut, &whole[..whole.len() - whole.len() / 3]).expect("it can be written");
    for path in [half, cut] {
        let output = import(&daemon, "broken", "--dump", &path);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(!output.stderr.is_empty());
        assert_nothing_left(&daemon);
    }
}

#[test]
fn snapshot_id_that_is_taken_is_refused() {
    let daemon = daemon().start();
    let output = import(&daemon, "monday", "--dump", &fixture().dump("tuesday.dump"));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("monday"), "{}", output.stderr);
    assert_eq!(
        daemon.json(&["snapshot", "show", "monday"])["migrations"],
        2
    );
}

#[test]
fn snapshot_that_does_not_fit_the_default_branch_is_told_by_its_import_and_by_doctor() {
    let daemon = daemon().without_snapshots().start();
    let repository = daemon.repository();
    repository.commit(&["auth.0001_initial", "polls.0001_initial"]);
    let imported = import(&daemon, "first", "--dump", &fixture().dump("tuesday.dump"));
    imported.ok();
    let lacking = "the newest snapshot first does not fit the default branch, which does not define \
                   polls.0002_closed_at: clients that name the branch get an older snapshot or an error";
    let advice = "Rebase onto a revision that defines them";
    assert!(imported.stderr.contains(lacking), "{imported:?}");
    assert!(imported.stderr.contains(advice), "{imported:?}");
    let examined = daemon.cli(&["doctor"]);
    assert!(examined.stdout.contains(lacking), "{examined:?}");
    assert!(examined.stdout.contains(advice), "{examined:?}");
    repository.commit(&[
        "auth.0001_initial",
        "polls.0001_initial",
        "polls.0002_closed_at",
    ]);
    let imported = import(&daemon, "second", "--dump", &fixture().dump("tuesday.dump"));
    imported.ok();
    assert!(!imported.stderr.contains("does not fit"), "{imported:?}");
    repository.git(&["rm", "--quiet", "migrations.txt"]);
    repository.git(&["commit", "--quiet", "--message", "no listing"]);
    let imported = import(&daemon, "third", "--dump", &fixture().dump("tuesday.dump"));
    imported.ok();
    let unnamed = "no client can name the default branch of the repository: ";
    assert!(imported.stderr.contains(unnamed), "{imported:?}");
}

#[test]
fn projects_database_may_be_the_one_in_which_others_are_made() {
    let source = PlainPostgres::start();
    let content = "create table django_migrations (id serial primary key, app text, name text);
        insert into django_migrations (app, name) values ('polls', '0001_initial');
        create table kept as select generate_series(1, 7) n";
    source.psql("postgres", content).ok();
    let daemon = daemon().without_snapshots().prepare();
    daemon.reconfigure("database = \"app\"", "database = \"postgres\"");
    daemon.start();
    for (id, options) in [
        ("archive", ["--format=custom", "--no-comments"]),
        ("script", ["--format=plain", "--create"]),
        ("without-create", ["--format=plain", "--no-comments"]),
    ] {
        let path = daemon.dir().join(id);
        let mut pg_dump = source.client("pg_dump");
        run(pg_dump
            .args(options)
            .arg("--file")
            .arg(&path)
            .arg("postgres"))
        .ok();
        import(&daemon, id, "--dump", &path).ok();
        let mut config = daemon.config(&format!("instance:{id},snapshot:{id}"));
        let session = Session::connect(config.dbname("postgres")).expect("it is there");
        assert_eq!(session.one("select count(*) from kept"), "7", "{id}");
    }
}
