//! Databases on file systems that refuse writes, in a mount namespace of the test's own.

use std::process::Command;

use super::*;
use crate::codec::tests::{example, example_job};
use crate::disk_fault::DiskFault;
use crate::store::{Opened, Recovery, Store};

/// Set in the child of a test, which has a file system of its own there.
const MOUNTED: &str = "MULTIDB_STORE_MOUNTED";

/// Runs a test again in a namespace with a small file system in memory on a directory, which it gets.
fn in_namespace(name: &str, test: fn(&Path)) {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        return test(Path::new(&mounted));
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=8M tmpfs \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("store::unwritable::tests::{name}"))
        .env(MOUNTED, directory.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{output:?}"
    );
}

fn mount(directory: &Path, options: &str) {
    let mut mount = Command::new("mount");
    let mount = mount.args(["-o", options]).arg(directory).status();
    assert!(mount.unwrap().success());
}

fn open(layout: &Layout) -> Opened {
    Store::open_or_rebuild(layout).unwrap()
}

/// A root with an instance and a job.
fn root(directory: &Path) -> Layout {
    let layout = Layout::new(directory);
    let store = open(&layout).store;
    let record = example();
    fs::create_dir_all(layout.instance_data(record.uid)).unwrap();
    store.put(&record).unwrap();
    store.put_job(&example_job()).unwrap();
    layout
}

/// The records are there, and nothing of the copy.
fn require_records(opened: &Opened, fault: DiskFault) {
    let Recovery::Unwritable(error) = &opened.recovery else {
        panic!("{:?}", opened.recovery);
    };
    assert_eq!(error.disk_fault(), Some(fault), "{error:?}");
    assert_eq!(opened.store.fault(), Some(fault));
    let [instance] = &opened.plan.instances[..] else {
        panic!("{:?}", opened.plan);
    };
    assert_eq!(instance.record, example());
    let jobs = opened.jobs.as_ref().unwrap();
    assert_eq!(jobs.records, [example_job()]);
    let own = format!("multidb-records-{}", std::process::id());
    for parent in ELSEWHERE {
        assert!(!Path::new(parent).join(&own).exists());
    }
}

#[test]
fn records_on_a_read_only_disk_are_read_and_later_written_in_their_place() {
    in_namespace(
        "records_on_a_read_only_disk_are_read_and_later_written_in_their_place",
        |directory| {
            let layout = root(directory);
            mount(directory, "remount,ro");
            let opened = open(&layout);
            require_records(&opened, DiskFault::ReadOnly);
            let refused = opened.store.put(&example()).unwrap_err();
            assert_eq!(refused.disk_fault(), Some(DiskFault::ReadOnly));
            mount(directory, "remount,rw");
            opened.store.put(&example()).unwrap();
            assert_eq!(opened.store.fault(), None);
            drop(opened);
            assert!(matches!(open(&layout).recovery, Recovery::None));
        },
    );
}

#[test]
fn records_on_a_full_disk_are_read_and_later_written_in_their_place() {
    in_namespace(
        "records_on_a_full_disk_are_read_and_later_written_in_their_place",
        |directory| {
            let layout = root(directory);
            let filler = directory.join("filler");
            let full = fs::write(&filler, vec![1; 9 << 20]).unwrap_err();
            assert_eq!(DiskFault::of(&full), Some(DiskFault::Full));
            let opened = open(&layout);
            require_records(&opened, DiskFault::Full);
            fs::remove_file(filler).unwrap();
            opened.store.put(&example()).unwrap();
            drop(opened);
            let opened = open(&layout);
            assert!(matches!(opened.recovery, Recovery::None));
            assert_eq!(opened.plan.instances.len(), 1);
        },
    );
}

#[test]
fn file_that_cannot_be_read_is_named_and_nothing_is_moved_aside() {
    in_namespace(
        "file_that_cannot_be_read_is_named_and_nothing_is_moved_aside",
        |directory| {
            let layout = root(directory);
            // Damage, so that the database would be moved aside, beside a file whose reading gives EIO.
            fs::write(layout.db().join("conf"), "not sled's").unwrap();
            let failing = layout.db().join("failing");
            fs::write(&failing, "").unwrap();
            let mut bind = Command::new("mount");
            let memory = format!("/proc/{}/mem", std::process::id());
            let bind = bind.args(["--bind", &memory]).arg(&failing);
            assert!(bind.status().unwrap().success());
            let error = Store::open_or_rebuild(&layout).err().unwrap();
            assert_eq!(error.disk_fault(), Some(DiskFault::Device), "{error:?}");
            let named = format!("cannot read {}", failing.display());
            assert!(error.to_string().contains(&named), "{error}");
            assert!(layout.db().join("db").is_file());
            let names = fs::read_dir(layout.state()).unwrap().count();
            assert_eq!(names, 1, "only the database");
        },
    );
}
