//! Hostile dumps and data directories, which try to make the daemon reach out of them or hang, with both runtimes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{CliOutput, Daemon, Disk, Engine, Fixture, eventually, run};

use crate::{daemon, daemon_on};

const ENGINES: [Engine; 2] = [Engine::Process, Engine::Docker];

/// The command of a dump in the data directory, where `OUTSIDE` is another one, and the fault that is told.
const HOSTILE: [(&str, &str); 5] = [
    (
        "rmdir pg_wal/archive_status; ln -s OUTSIDE pg_wal/archive_status",
        "archive_status is a symbolic link",
    ),
    (
        "rm postgresql.auto.conf; mkfifo postgresql.auto.conf",
        "postgresql.auto.conf is a FIFO",
    ),
    (
        "ln -sf OUTSIDE/precious postgresql.auto.conf",
        "postgresql.auto.conf is a symbolic link",
    ),
    (
        "ln -sf /dev/zero postgresql.auto.conf",
        "postgresql.auto.conf is a symbolic link",
    ),
    (
        "for i in $(seq 1000); do mkdir d; cd -P d; done",
        "is nested more than 32 directories deep",
    ),
];

fn fixture() -> Fixture {
    Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM))
}

fn import(daemon: &Daemon, id: &str, from: &str, path: &Path) -> CliOutput {
    let path = path.display().to_string();
    daemon.cli(&["snapshot", "import", id, "--project", "demo", from, &path])
}

/// Imports a dump whose last statement runs a program in the data directory.
fn import_after(daemon: &Daemon, program: &str) -> CliOutput {
    let script = format!(
        "CREATE TABLE django_migrations (app text, name text);\n\
         COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; {}';\n",
        program.replace('\'', "''")
    );
    let dump = daemon.dir().join("hostile.sql");
    fs::write(&dump, script).expect("it can be written");
    import(daemon, "hostile", "--dump", &dump)
}

/// Nothing visible, nothing half-visible, and the daemon answers.
#[track_caller]
pub(crate) fn assert_nothing_left(daemon: &Daemon) {
    let snapshots = daemon.json(&["snapshot", "ls"]);
    assert_eq!(snapshots.as_array().map(Vec::len), Some(0), "{snapshots}");
    for directory in ["snapshots", "run"] {
        let entries = fs::read_dir(daemon.root().join(directory)).expect("it can be read");
        let left: Vec<_> = entries.flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_a_dump_puts_into_the_data_directory_is_neither_followed_nor_waited_for() {
    // The tests of the import have all of them for local processes.
    for (engine, hostile) in [(Engine::Process, &HOSTILE[..2]), (Engine::Docker, &HOSTILE)] {
        let daemon = daemon_on(Disk::Xfs, engine).without_snapshots().start();
        daemon.expect_log("import failed");
        let outside = daemon.dir().join("outside");
        fs::create_dir(&outside).expect("it can be made");
        let precious = outside.join("precious");
        fs::write(&precious, "x = y\n").expect("it can be written");
        for (program, fault) in hostile {
            let program = program.replace("OUTSIDE", &outside.display().to_string());
            let output = import_after(&daemon, &program);
            assert_eq!(output.code, Some(1), "{program}: {output:?}");
            assert!(output.stderr.contains(fault), "{program}: {output:?}");
            assert_nothing_left(&daemon);
            let kept = fs::read_to_string(&precious).expect("it is there");
            assert_eq!(kept, "x = y\n");
            assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 1);
        }
    }
}

#[test]
fn process_that_a_dump_leaves_in_a_container_ends_with_its_import() {
    let daemon = daemon_on(Disk::Xfs, Engine::Docker)
        .without_snapshots()
        .start();
    // It would write into the published snapshot.
    let program =
        "setsid sh -c \"while sleep 0.1; do echo altered >> altered; done\" >/dev/null 2>&1 &";
    import_after(&daemon, program).ok();
    let data = daemon.root().join("snapshots/hostile/data");
    let altered = || fs::metadata(data.join("altered")).map_or(0, |found| found.len());
    let before = altered();
    drop(daemon.connect("instance:a,snapshot:hostile"));
    daemon.cli(&["instance", "stop", "--yes", "a"]).ok();
    assert_eq!(altered(), before);
}

/// Puts a pipe in the place of a file.
fn replace_by_fifo(path: &Path) {
    fs::remove_file(path).expect("it is there");
    run(Command::new("mkfifo").arg(path)).ok();
}

fn copy_of_data_dir(daemon: &Daemon) -> PathBuf {
    let copy = daemon.dir().join("data-dir");
    let mut command = Command::new("cp");
    command.args(["--archive", "--reflink=auto"]);
    run(command.arg(fixture().data_dir()).arg(&copy)).ok();
    copy
}

#[test]
fn fifo_in_a_data_directory_or_a_snapshot_hangs_nothing() {
    for engine in ENGINES {
        let daemon = daemon_on(Disk::Xfs, engine).prepare();
        for expected in ["import failed", "tuesday", "instance"] {
            daemon.expect_log(expected);
        }
        replace_by_fifo(&daemon.root().join("snapshots/tuesday/data/PG_VERSION"));
        daemon.start();
        let failure = daemon.refused("instance:a,snapshot:tuesday");
        assert!(
            matches!(failure.sqlstate(), "58000" | "XX001"),
            "{failure:?}"
        );
        daemon.connect("instance:b,snapshot:monday").one("select 1");
        let data = copy_of_data_dir(&daemon);
        replace_by_fifo(&data.join("PG_VERSION"));
        let output = import(&daemon, "fifo", "--data-dir", &data);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("PG_VERSION is a FIFO"), "{output:?}");
        daemon.connect("instance:b").one("select 1");
    }
}

#[test]
fn line_without_an_end_takes_little_memory() {
    let daemon = daemon().without_snapshots().start();
    daemon.expect_log("import failed");
    let dump = daemon.dir().join("endless.sql");
    let line = vec![b'x'; 256 << 20];
    fs::write(&dump, line).expect("it can be written");
    let output = import(&daemon, "endless", "--dump", &dump);
    assert_eq!(output.code, Some(1), "{output:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()));
    let status = status.expect("the daemon runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
    assert!(peak.is_some_and(|kib| kib < 200 << 10), "{status}");
    eventually("nothing is left", Duration::from_secs(30), || {
        fs::read_dir(daemon.root().join("snapshots")).is_ok_and(|mut left| left.next().is_none())
    });
}
