//! The store on a real disk: durability under SIGKILL, and recovery from damage.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::RngExt;

use super::*;
use crate::codec::tests::example;
use crate::records::Pin;

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
        generation: 1,
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

fn names(store: &Store) -> Vec<String> {
    let records = store.instances().unwrap();
    records.into_iter().map(|r| r.name.into()).collect()
}

#[test]
fn records_survive_a_reopening() {
    let root = root();
    let opened = open(&root.layout);
    assert_eq!(opened.recovery, Recovery::New);
    opened.store.put(&record(1)).unwrap();
    opened.store.put(&record(2)).unwrap();
    opened.store.remove(&record(1).name).unwrap();
    drop(opened);
    let opened = open(&root.layout);
    assert_eq!(opened.recovery, Recovery::None);
    assert_eq!(opened.store.instances().unwrap(), [record(2)]);
    assert_eq!(opened.store.get(&record(2).name).unwrap(), Some(record(2)));
    assert_eq!(opened.store.get(&record(1).name).unwrap(), None);
}

#[test]
fn a_second_daemon_on_the_same_root_is_told_so() {
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
        Recovery::Rebuilt {
            instances: 2,
            moved_to: None,
            ..
        }
    ));
    let found = opened.store.get(&pinned.name).unwrap().unwrap();
    assert_eq!(found.pin, Pin::Forever);
    assert!(found.last_used_at >= before, "it could expire by mistake");
}

#[test]
fn unfinished_clones_and_those_that_a_reset_replaced_are_not_rebuilt() {
    let root = root();
    make_clone(&root.layout, &record(1));
    let reset = InstanceRecord {
        uid: crate::InstanceUid::from_bits(99),
        generation: 2,
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
            let tree = &opened.store.instances;
            tree.insert("i7", &b"not a record"[..]).unwrap();
            opened.store.flush().unwrap();
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
        let Recovery::Rebuilt { instances: 50, .. } = opened.recovery else {
            panic!("{damage}: {:?}", opened.recovery);
        };
    }
}

/// The child of the next test: writes records and says which are durable, until it is killed.
const CHILD: &str = "MULTIDB_STORE_CRASH_CHILD";

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    if let Ok(root) = std::env::var(CHILD) {
        return write_until_killed(&Layout::new(root));
    }
    let root = root();
    let mut acknowledged = 0;
    for _ in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("store::tests::what_was_acknowledged_survives_a_kill_at_any_moment")
            .env(CHILD, root.layout.root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let numbers = output.lines().map_while(Result::ok);
            numbers
                .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok())
                .last()
        });
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(20..150)));
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
