//! A deletion that fails: nothing that a client commits afterwards is lost, and no name stays behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{Daemon, eventually, run};

use crate::daemon;

/// Keeps files of a daemon from being deleted, wherever they are moved, until it is dropped.
struct Obstacles {
    root: PathBuf,
}

impl Obstacles {
    fn new(daemon: &Daemon) -> Self {
        Self {
            root: daemon.root(),
        }
    }

    /// Keeps a directory, and all names in it, as they are.
    fn make_immutable(&self, path: &Path) {
        run(Command::new("chattr").arg("+i").arg(path)).ok();
    }

    /// Makes a directory on which another file system is mounted.
    fn mount(&self, path: &Path) {
        fs::create_dir(path).expect("it can be made");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(path))
        .ok();
        fs::write(path.join("diary.txt"), "dear diary").expect("it can be written");
    }

    /// The other file systems that are mounted now.
    fn mounted(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("it can be read");
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let below = targets
            .map(PathBuf::from)
            .filter(|path| path.starts_with(&self.root));
        below.collect()
    }
}

impl Drop for Obstacles {
    fn drop(&mut self) {
        for mounted in self.mounted() {
            run(Command::new("umount").arg(mounted));
        }
        run(Command::new("chattr")
            .args(["-R", "-f", "-i"])
            .arg(&self.root));
    }
}

fn create(daemon: &Daemon, name: &str) {
    let session = daemon.connect(&format!("instance:{name},snapshot:monday"));
    let made = session.query("create table kept as select 1 as x");
    made.expect("it is writable");
}

#[test]
fn what_is_committed_after_a_failed_deletion_survives_a_kill() {
    let daemon = daemon().start();
    daemon.expect_log("");
    create(&daemon, "a");
    let obstacles = Obstacles::new(&daemon);
    let directory = daemon.data_dir("a");
    let directory = directory.parent().expect("data is in a directory");
    obstacles.make_immutable(directory);
    let removed = daemon.cli(&["instance", "rm", "--yes", "a"]);
    assert_eq!(removed.code, Some(1), "{removed:?}");
    let session = daemon.connect("instance:a");
    session
        .query("insert into kept values (2)")
        .expect("it is writable");
    daemon.kill9();
    drop((session, obstacles));
    daemon.start();
    let rows = daemon
        .connect("instance:a")
        .one("select count(*) from kept");
    assert_eq!(rows, "2");
    daemon.cli(&["instance", "rm", "--yes", "a"]).ok();
    assert_eq!(daemon.state("a"), "");
}

#[test]
fn deletion_that_ends_half_way_leaves_no_name_and_is_completed_at_a_start() {
    let daemon = daemon().start();
    daemon.expect_log("trash");
    for name in ["file", "mount"] {
        create(&daemon, name);
    }
    let obstacles = Obstacles::new(&daemon);
    obstacles.make_immutable(&daemon.data_dir("file").join("base"));
    obstacles.mount(&daemon.data_dir("mount").join("mounted"));
    for name in ["file", "mount"] {
        daemon.cli(&["instance", "rm", "--yes", name]).ok();
        assert_eq!(daemon.state(name), "");
        create(&daemon, name);
    }
    let [mounted] = &obstacles.mounted()[..] else {
        panic!("another file system was unmounted")
    };
    assert!(mounted.join("diary.txt").exists(), "{mounted:?}");
    let trash = daemon.root().join("trash");
    let entries = || fs::read_dir(&trash).expect("it is there").count();
    assert_eq!(entries(), 2);
    daemon.stop();
    drop(obstacles);
    daemon.start();
    eventually("the trash is empty", Duration::from_secs(60), || {
        entries() == 0
    });
    for name in ["file", "mount"] {
        assert_eq!(
            daemon
                .connect(&format!("instance:{name}"))
                .one("select x from kept"),
            "1"
        );
    }
}
