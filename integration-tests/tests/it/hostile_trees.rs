//! Files that a superuser puts into the directories of an instance stop neither its removal nor the daemon.

use std::fs;
use std::path::Path;
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Engine, eventually};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::daemon_on;

/// More than a stack of 2 MiB has room for, one function call each.
const NESTED: usize = 20_000;

/// Makes nested directories and everything else that is hard to delete, in the data and in the run directory.
fn fill(daemon: &Daemon, instance: &str) {
    let session = daemon.connect(&format!("instance:{instance},snapshot:monday"));
    let (data, run_dir) = (daemon.data_dir(instance), daemon.run_dir(instance));
    for directory in [&data, &run_dir] {
        let program = format!(
            "cat > /dev/null; cd {} && mkdir closed closed/inner && chmod 0 closed && mkfifo fifo \
             && ln -s /dev/zero zero && ln -s /dev/zero server.json && mkdir d",
            directory.display()
        );
        let sql = format!("copy (select 1) to program $program${program}$program$");
        session.query(&sql).expect("a superuser can");
        nest(directory);
    }
}

/// Makes directories in each other. The test does it for the superuser, since Landlock walks up all of them at
/// each call: in the sandbox it takes a minute.
fn nest(directory: &Path) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at =
        openat(CWD, directory.join("d"), flags, Mode::empty()).expect("the superuser made it");
    for _ in 0..NESTED {
        mkdirat(&at, "d", Mode::RWXU).expect("it can be made");
        at = openat(&at, "d", flags, Mode::empty()).expect("it was made");
    }
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).expect("it is there").count()
}

#[test]
fn instance_with_deeply_nested_directories_stops_and_is_removed() {
    for engine in [Engine::Process, Engine::Docker] {
        let daemon = daemon_on(Disk::Xfs, engine).start();
        fill(&daemon, "hostile");
        // At a start there are such trees in the trash and of an interrupted import, too.
        daemon.kill9();
        let left = ["trash/left", "snapshots/.staging-left"].map(|left| daemon.root().join(left));
        for directory in &left {
            fs::create_dir_all(directory.join("d")).expect("it can be made");
            nest(directory);
        }
        daemon.start();
        assert_eq!(daemon.state("hostile"), "running");
        for directory in &left {
            eventually("it is gone", Duration::from_secs(60), || {
                !directory.exists()
            });
        }
        daemon.cli(&["instance", "stop", "hostile", "--yes"]).ok();
        assert_eq!(daemon.state("hostile"), "stopped");
        assert_eq!(entries(&daemon.root().join("run")), 0);
        daemon.cli(&["instance", "rm", "hostile", "--yes"]).ok();
        let root = daemon.root();
        for directory in ["instances", "trash"] {
            let directory = root.join(directory);
            let what = format!("{} is empty", directory.display());
            eventually(&what, Duration::from_secs(60), || entries(&directory) == 0);
        }
        // The daemon is the same one, and serves.
        daemon.connect("instance:another,snapshot:monday");
    }
}
