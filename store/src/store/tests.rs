//! The store on a real disk: durability under SIGKILL, and recovery from damage.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;

use super::*;
use crate::codec::tests::example;
use crate::manifest;
use crate::records::{Phase, Pin};

struct Root {
    _directory: tempfile::TempDir,
    layout: Layout,
}

fn root() -> Root {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    fs::create_dir_all(layout.instances()).unwrap();
    fs::create_dir_all(layout.state()).unwrap();
    Root {
        _directory: directory,
        layout,
    }
}

fn record(number: u64) -> InstanceRecord {
    InstanceRecord {
        name: format!("i{number}").parse().unwrap(),
        uid: crate::InstanceUid::from_bits(number),
        epoch: 1,
        ..example()
    }
}

/// The directory that a complete clone has.
fn make_clone(layout: &Layout, record: &InstanceRecord) {
    fs::create_dir_all(layout.instance_data(record.uid)).unwrap();
    manifest::write(&layout.instance(record.uid), record).unwrap();
}

fn open(layout: &Layout) -> Opened {
    Store::open_or_rebuild(layout).unwrap()
}

fn records(opened: &Opened) -> Vec<InstanceRecord> {
    let instances = opened.plan.instances.iter();
    instances.map(|one| one.record.clone()).collect()
}

fn names(store: &Store) -> Vec<String> {
    let records = store.instances().unwrap();
    records.into_iter().map(|r| r.name.into()).collect()
}

#[test]
fn records_survive_a_reopening() {
    let root = root();
    let opened = open(&root.layout);
    assert!(matches!(opened.recovery, Recovery::New));
    for number in [1, 2] {
        make_clone(&root.layout, &record(number));
        opened.store.put(&record(number)).unwrap();
    }
    opened.store.remove(&record(1).name, record(1).uid).unwrap();
    fs::remove_dir_all(root.layout.instance(record(1).uid)).unwrap();
    drop(opened);
    let opened = open(&root.layout);
    assert!(matches!(opened.recovery, Recovery::None));
    assert_eq!(opened.store.instances().unwrap(), [record(2)]);
    assert_eq!(records(&opened), [record(2)]);
    assert_eq!(opened.plan.instances[0].origin, RecordOrigin::Database);
}

#[test]
fn late_removal_leaves_the_record_of_another_clone() {
    let root = root();
    let opened = open(&root.layout);
    let anew = InstanceRecord {
        uid: record(2).uid,
        ..record(1)
    };
    opened.store.put(&anew).unwrap();
    opened.store.remove(&anew.name, record(1).uid).unwrap();
    assert_eq!(
        opened.store.instances().unwrap(),
        std::slice::from_ref(&anew)
    );
    opened.store.remove(&anew.name, anew.uid).unwrap();
    assert_eq!(opened.store.instances().unwrap(), []);
}

#[test]
fn epochs_outlive_the_records_and_the_database() {
    let root = root();
    let opened = open(&root.layout);
    let with = |epoch| InstanceRecord { epoch, ..record(1) };
    opened.store.put(&with(7)).unwrap();
    opened.store.remove(&record(1).name, record(1).uid).unwrap();
    drop(opened);
    assert_eq!(open(&root.layout).plan.epoch, 7);
    // The counter is lost too, but a clone in the trash and one in the quarantine have theirs.
    fs::remove_dir_all(root.layout.db()).unwrap();
    for (parent, epoch) in [(root.layout.trash(), 9), (root.layout.quarantine(), 8)] {
        let directory = parent.join(format!("1-{}", record(1).uid));
        fs::create_dir_all(&directory).unwrap();
        manifest::write(&directory, &with(epoch)).unwrap();
        assert_eq!(open(&root.layout).plan.epoch, 9);
        assert!(epoch != 9 || open(&root.layout).plan.instances.is_empty());
    }
    assert_eq!(open(&root.layout).plan.epoch, 9);
}

#[test]
fn panic_of_the_database_is_an_error_and_it_is_opened_again() {
    let root = root();
    let store = open(&root.layout).store;
    store.put(&record(1)).unwrap();
    let panics = std::sync::atomic::AtomicUsize::new(1);
    let counted = store.run(|database| {
        let left = panics.swap(0, std::sync::atomic::Ordering::Relaxed);
        assert!(left == 0, "a defect of sled");
        Ok(database.all()?.len())
    });
    assert_eq!(counted.unwrap(), 1);
    let always = store.run(|_| -> Result<(), StoreError> { panic!("a defect of sled") });
    assert!(
        matches!(always, Err(StoreError::Panicked { .. })),
        "{always:?}"
    );
    store.put(&record(2)).unwrap();
}

#[test]
fn second_daemon_on_the_same_root_is_refused() {
    let root = root();
    let _held = open(&root.layout);
    let error = Store::open_or_rebuild(&root.layout).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
}

#[test]
fn a_lost_database_is_rebuilt_from_the_manifests() {
    let root = root();
    let opened = open(&root.layout);
    let pinned = InstanceRecord {
        pin: Pin::Forever,
        ..record(1)
    };
    for record in [&pinned, &record(2)] {
        opened.store.put(record).unwrap();
        make_clone(&root.layout, record);
    }
    drop(opened);
    fs::remove_dir_all(root.layout.db()).unwrap();
    let before = Timestamp::now();
    let opened = open(&root.layout);
    assert!(matches!(
        opened.recovery,
        Recovery::Rebuilt { moved_to: None, .. }
    ));
    let found = records(&opened).into_iter().find(|r| r.name == pinned.name);
    let found = found.unwrap();
    assert_eq!(found.pin, Pin::Forever);
    assert!(found.last_used_at >= before, "it could expire by mistake");
}

#[test]
fn unfinished_and_replaced_clones_are_not_rebuilt() {
    let root = root();
    make_clone(&root.layout, &record(1));
    let reset = InstanceRecord {
        uid: crate::InstanceUid::from_bits(99),
        epoch: 2,
        ..record(1)
    };
    make_clone(&root.layout, &reset);
    let unfinished = record(3);
    fs::create_dir_all(root.layout.instance(unfinished.uid)).unwrap();
    manifest::write(&root.layout.instance(unfinished.uid), &unfinished).unwrap();
    let opened = open(&root.layout);
    let found = opened.store.instances().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].uid, reset.uid);
}

#[test]
fn a_damaged_database_is_moved_aside_and_rebuilt() {
    for damage in ["truncate", "garbage", "record"] {
        let root = root();
        let opened = open(&root.layout);
        for number in 0..50 {
            opened.store.put(&record(number)).unwrap();
            make_clone(&root.layout, &record(number));
        }
        let file = root.layout.db().join("db");
        if damage == "record" {
            let broken = |database: &Database| {
                let tree = &database.instances;
                tree.insert("i7", &b"not a record"[..]).unwrap();
                database.flush()
            };
            opened.store.run(broken).unwrap();
        }
        drop(opened);
        let length = fs::metadata(&file).unwrap().len();
        match damage {
            "truncate" => File::options()
                .write(true)
                .open(&file)
                .unwrap()
                .set_len(length / 1000)
                .unwrap(),
            "garbage" => {
                let mut bytes = fs::read(&file).unwrap();
                let end = bytes.len().min(64 << 10);
                rand::rng().fill(&mut bytes[..end]);
                fs::write(&file, bytes).unwrap();
                fs::remove_file(root.layout.db().join("conf")).unwrap();
                fs::write(root.layout.db().join("conf"), b"garbage").unwrap();
            }
            _ => {}
        }
        let opened = open(&root.layout);
        assert_eq!(opened.store.instances().unwrap().len(), 50, "{damage}");
        let Recovery::Rebuilt { moved_to, .. } = opened.recovery else {
            panic!("{damage}: {:?}", opened.recovery);
        };
        // sled takes some damage for an empty database, of which nothing is left to keep.
        let is_kept = moved_to.is_some_and(|path| path.is_dir());
        assert!(is_kept || damage != "record");
    }
}

#[test]
fn instances_whose_records_were_lost_silently_are_found_again() {
    let root = root();
    let opened = open(&root.layout);
    // 1 was reset since, the clone of 2 was completed, 3 has no record, and the deletion of 4 was interrupted.
    let reset = InstanceRecord {
        uid: crate::InstanceUid::from_bits(99),
        epoch: 2,
        ..record(1)
    };
    let phase = |number, phase| InstanceRecord {
        phase,
        ..record(number)
    };
    opened.store.put(&record(1)).unwrap();
    opened.store.put(&phase(2, Phase::Cloning)).unwrap();
    opened.store.put(&phase(4, Phase::Deleting)).unwrap();
    for complete in [&reset, &record(2), &record(3), &record(4)] {
        make_clone(&root.layout, complete);
    }
    drop(opened);

    let opened = open(&root.layout);
    let instances = opened.plan.instances.iter();
    let found: Vec<_> = instances.map(|one| (one.record.uid, one.origin)).collect();
    let expected = [
        (reset.uid, RecordOrigin::Manifest),
        (record(2).uid, RecordOrigin::Finished),
        (record(3).uid, RecordOrigin::Manifest),
        (record(4).uid, RecordOrigin::Kept),
    ];
    assert_eq!(found, expected);
    assert_eq!(opened.store.instances().unwrap(), records(&opened));
    drop(opened);
    let opened = open(&root.layout);
    let mut instances = opened.plan.instances.iter();
    assert!(instances.all(|one| one.origin == RecordOrigin::Database));
}

/// sled takes a damaged page for the end of its log, and returns no error.
#[test]
fn a_damaged_page_anywhere_loses_no_instance() {
    let root = root();
    let opened = open(&root.layout);
    for number in 0..50 {
        opened.store.put(&record(number)).unwrap();
        make_clone(&root.layout, &record(number));
    }
    drop(opened);
    let file = root.layout.db().join("db");
    let whole = fs::read(&file).unwrap();
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let step = (written / 40).max(1);
    for at in (0..written).step_by(step) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xFF;
        fs::write(&file, &damaged).unwrap();
        let opened = open(&root.layout);
        let found = opened.store.instances().unwrap().len();
        assert_eq!(found, 50, "a damaged byte at {at}: {:?}", opened.recovery);
        drop(opened);
        if let Some(aside) = fs::read_dir(root.layout.state())
            .unwrap()
            .flatten()
            .find(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("db.damaged")
            })
        {
            fs::remove_dir_all(aside.path()).unwrap();
        }
    }
}

/// Set in the child of the next test, which limits the size of its files for a while.
const FULL: &str = "MULTIDB_STORE_FULL_CHILD";

#[test]
fn database_that_failed_on_a_full_disk_works_again_when_there_is_space() {
    if let Ok(root) = std::env::var(FULL) {
        return write_to_a_full_disk(&Layout::new(root));
    }
    let root = root();
    // A limit is that of the whole process, which other tests share. A write beyond it raises SIGXFSZ, and
    // returns an error only where the signal is ignored.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("store::tests::database_that_failed_on_a_full_disk_works_again_when_there_is_space")
        .env(FULL, root.layout.root())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("continued"),
        "{output:?}"
    );
}

fn write_to_a_full_disk(layout: &Layout) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let store = open(layout).store;
    store.put(&record(1)).unwrap();
    let limit = getrlimit(Resource::Fsize);
    let none = Rlimit {
        current: Some(0),
        ..limit
    };
    setrlimit(Resource::Fsize, none).unwrap();
    let full = (2..2000).find_map(|number| store.put(&record(number)).err());
    let full = full.unwrap();
    assert_eq!(full.disk_fault(), Some(DiskFault::Full), "{full:?}");
    assert_eq!(store.fault(), Some(DiskFault::Full));
    setrlimit(Resource::Fsize, limit).unwrap();
    store.put(&record(2000)).unwrap();
    assert_eq!(store.fault(), None);
    let found = names(&store);
    assert!(found.contains(&"i1".to_owned()) && found.contains(&"i2000".to_owned()));
    writeln!(std::io::stdout(), "\ncontinued").unwrap();
}

/// Set in the child of the next test, which writes records and prints the durable ones until it is killed.
const CHILD: &str = "MULTIDB_STORE_CRASH_CHILD";

#[test]
fn acknowledged_records_survive_a_kill_at_any_moment() {
    if let Ok(root) = std::env::var(CHILD) {
        return write_until_killed(&Layout::new(root));
    }
    let root = root();
    let mut acknowledged = 0;
    for _ in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("store::tests::acknowledged_records_survive_a_kill_at_any_moment")
            .env(CHILD, root.layout.root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (began, begins) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let numbers = output.lines().map_while(Result::ok);
            numbers
                .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok())
                .inspect(|_| began.send(()).unwrap_or_default())
                .last()
        });
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..100)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = reader.join().unwrap().map_or(acknowledged, |n| n + 1);
        let opened = open(&root.layout);
        assert!(
            matches!(opened.recovery, Recovery::None | Recovery::New),
            "{:?}",
            opened.recovery
        );
        let found = names(&opened.store).len() as u64;
        assert!(found >= acknowledged, "{found} of {acknowledged} are there");
    }
    assert!(acknowledged > 0, "the child never wrote");
}

fn write_until_killed(layout: &Layout) {
    let store = open(layout).store;
    let first = store.instances().unwrap().len() as u64;
    for number in first.. {
        store.put(&record(number)).unwrap();
        writeln!(std::io::stdout(), "\ndurable {number}").unwrap();
    }
}
