//! The root directory: only multidb's own is touched, by one daemon at a time.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{Daemon, Disk, Engine, RandomDelays, Session, eventually, run};

use crate::{daemon, daemon_on};

/// The identity in the root's marker.
fn identity(root: &Path) -> String {
    let text = fs::read_to_string(root.join("root.json")).expect("a root has a marker");
    let marker: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    marker["id"].as_str().expect("it is a text").to_owned()
}

#[test]
fn directory_of_somebody_else_is_refused_and_stays_as_it_was() {
    let daemon = daemon().without_snapshots().prepare();
    fs::create_dir(daemon.root()).expect("it can be made");
    for name in ["trash", "run", "snapshots"] {
        let directory = daemon.root().join(name);
        fs::create_dir(&directory).expect("it can be made");
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("it is ours");
        fs::write(directory.join("diary.txt"), "dear diary").expect("it can be written");
    }
    let status = |name: &str| {
        let status = fs::metadata(daemon.root().join(name)).expect("it is there");
        (
            status.mode(),
            status.uid(),
            status.gid(),
            status.mtime_nsec(),
        )
    };
    let names = ["", "trash", "run", "snapshots"];
    let before = names.map(status);
    let serve = daemon.cli(&["serve"]);
    let doctor = daemon.cli(&["doctor"]);
    for (output, said) in [(&serve, &serve.stderr), (&doctor, &doctor.stdout)] {
        assert_eq!(output.code, Some(1), "{output:?}");
        let fault = "is not a root of multidb and not empty: it contains run, snapshots, trash\n";
        assert!(said.contains(fault), "{said}");
        assert!(
            said.contains("hint: Name an empty or missing directory"),
            "{said}"
        );
    }
    assert_eq!(names.map(status), before);
    for name in &names[1..] {
        assert!(daemon.root().join(name).join("diary.txt").exists());
    }
    // The hint is followed.
    fs::rename(daemon.root(), daemon.dir().join("mine")).expect("it can be moved");
    daemon.start();
}

#[test]
fn root_of_an_earlier_version_and_a_moved_one_are_recognized() {
    let daemon = daemon().start();
    drop(daemon.connect("instance:a,gitref:main"));
    let first = identity(&daemon.root());
    daemon.stop();
    // Behind a link, it is the same root.
    let moved = daemon.dir().join("moved");
    fs::rename(daemon.root(), &moved).expect("it can be moved");
    std::os::unix::fs::symlink(&moved, daemon.root()).expect("a link can be made");
    daemon.start();
    assert_eq!(identity(&moved), first);
    assert_eq!(daemon.connect("instance:a").one("select 1"), "1");
    daemon.stop();
    fs::remove_file(daemon.root()).expect("the link is there");
    fs::rename(&moved, daemon.root()).expect("it can be moved back");
    // As an earlier version left it.
    for name in ["root.json", "lock"] {
        fs::remove_file(daemon.root().join(name)).expect("a root has this file");
    }
    daemon.start();
    assert_ne!(identity(&daemon.root()), first);
    assert_eq!(daemon.connect("instance:a").one("select 1"), "1");
}

#[test]
fn second_daemon_is_refused_even_without_the_lock_of_the_records() {
    let daemon = daemon().start();
    let before = daemon.log();
    // A second database in the place of the first has no lock.
    let db = daemon.root().join("state/db");
    fs::rename(&db, daemon.dir().join("db")).expect("it can be moved");
    let second = daemon.cli(&["serve"]);
    fs::rename(daemon.dir().join("db"), &db).expect("it can be moved back");
    assert_eq!(second.code, Some(1), "{second:?}");
    let fault = format!("another multidb serves {}", daemon.root().display());
    assert!(second.stderr.contains(&fault), "{second:?}");
    assert!(
        second.stderr.contains("hint: Stop the other daemon first"),
        "{second:?}"
    );
    assert_eq!(daemon.log(), before);
    assert_eq!(
        daemon.connect("instance:a,gitref:main").one("select 1"),
        "1"
    );
}

#[test]
fn lock_that_a_dying_process_still_holds_is_waited_for() {
    let daemon = daemon().start();
    daemon.stop();
    let held = File::open(daemon.root().join("lock")).expect("it is there");
    held.lock().expect("nobody has it");
    daemon.launch_only();
    eventually(
        "the daemon waits for its lock",
        Duration::from_secs(30),
        || {
            let files = format!("/proc/{}/fd", daemon.pid());
            let open = fs::read_dir(files).into_iter().flatten().flatten();
            open.filter_map(|entry| fs::read_link(entry.path()).ok())
                .any(|path| path == daemon.root().join("lock"))
        },
    );
    drop(held);
    daemon.wait_ready();
    daemon.connect("instance:a,gitref:main").one("select 1");
}

#[test]
fn daemon_that_is_killed_while_it_starts_servers_can_be_started_at_once() {
    const ROUNDS: u32 = 30;
    // Each new instance stops another, so that few servers are found at a start.
    let daemon = daemon().set_raw("limits", "max_running", "2").start();
    let mut delays = RandomDelays::new();
    for round in 0..ROUNDS {
        let config = daemon.config(&format!("instance:i{round},snapshot:monday"));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| Session::connect(&config));
            // The delay is the tested variable: somewhere between its limits the daemon forks the server.
            std::thread::sleep(delays.milliseconds(0, 80));
            daemon.kill9();
            daemon.start();
            let _served_or_cut = client.join().expect("no panic");
        });
    }
    daemon
        .connect("instance:last,snapshot:monday")
        .one("select 1");
}

/// Makes the root of `to` a copy of that of `from`, as an administrator does.
fn copy_root(from: &Daemon, to: &Daemon) {
    fs::remove_dir_all(to.root()).expect("it is there");
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--reflink=auto"]);
    run(copy.args([from.root(), to.root()])).ok();
}

#[test]
fn copy_of_a_root_leaves_the_servers_of_the_original_alone() {
    for engine in [Engine::Process, Engine::Docker] {
        let original = daemon_on(Disk::Xfs, engine).start();
        let rows = |daemon: &Daemon| {
            daemon
                .connect("instance:a")
                .one("select count(*) from kept")
        };
        let session = original.connect("instance:a,snapshot:monday");
        let fill = "create table kept as select 1 as x; checkpoint";
        session.query(fill).expect("it is writable");
        // Servers outlive their daemon.
        original.kill9();
        drop(session);
        let copy = daemon_on(Disk::Xfs, engine).prepare();
        copy_root(&original, &copy);
        for output in [copy.cli(&["serve"]), copy.cli(&["doctor"])] {
            assert_eq!(output.code, Some(1), "{output:?}");
            let said = output.stdout + &output.stderr;
            assert!(said.contains("is a copy of a root"), "{said}");
            assert!(
                said.contains("hint: If it was copied or restored, delete"),
                "{said}"
            );
        }
        // The hint is followed.
        fs::remove_file(copy.root().join("root.json")).expect("it was copied");
        copy.start();
        assert_eq!(copy.state("a"), "stopped");
        original.start();
        assert_eq!(original.state("a"), "running");
        let session = original.connect("instance:a");
        assert_eq!(rows(&copy), "1");
        let insert = "insert into kept values (2), (3)";
        session.query(insert).expect("it is writable");
        assert_eq!(
            (rows(&original), rows(&copy)),
            ("3".to_owned(), "1".to_owned())
        );
        original.cli(&["instance", "logs", "a"]).ok();
        copy.cli(&["instance", "rm", "--yes", "a"]).ok();
        session.one("select count(*) from kept");
        copy.stop();
        assert_eq!(rows(&original), "3");
    }
}
