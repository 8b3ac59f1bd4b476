//! Clones on real file systems: XFS and Btrfs where `scripts/test.sh` mounts them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

/// A root on the file system that a variable names.
struct Root {
    _directory: tempfile::TempDir,
    layout: Layout,
}

const OWNER: (u32, u32) = (4321, 4321);

fn root(variable: &str) -> Root {
    let parent = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} names no directory: use scripts/test.sh"));
    let directory = tempfile::tempdir_in(parent).unwrap();
    let layout = Layout::new(directory.path().join("root"));
    Root {
        _directory: directory,
        layout,
    }
}

fn open(root: &Root) -> TreeCloner {
    TreeCloner::open(root.layout.clone(), Method::Auto, 0, OWNER).unwrap()
}

/// A snapshot of some files that look like a cluster's.
fn snapshot(root: &Root, cloner: &TreeCloner, files: u64) -> SnapshotRecord {
    let id = "monday".parse().unwrap();
    let data = root.layout.snapshot_data(&id);
    fs::create_dir(root.layout.snapshot(&id)).unwrap();
    cloner.make_data_dir(&data).unwrap();
    fs::create_dir_all(data.join("base/5")).unwrap();
    fs::write(data.join("PG_VERSION"), "15\n").unwrap();
    for number in 0..files - 2 {
        fs::write(
            data.join(format!("base/5/{number}")),
            vec![number as u8; 16 << 10],
        )
        .unwrap();
    }
    let secret = data.join("empty");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    chown(&secret, Some(OWNER.0), Some(OWNER.1)).unwrap();
    chown(&data, Some(OWNER.0), Some(OWNER.1)).unwrap();
    let record = SnapshotRecord {
        id,
        project: "p".parse().unwrap(),
        taken_at: jiff::Timestamp::UNIX_EPOCH,
        imported_at: jiff::Timestamp::UNIX_EPOCH,
        postgres_major: 15,
        superuser: "postgres".to_owned(),
        bytes: 0,
        files,
        migrations: Vec::new(),
        source: String::new(),
    };
    manifest::write(&root.layout.snapshot(&record.id), &record).unwrap();
    cloner.sync(&data).unwrap();
    record
}

fn instance(bits: u64) -> InstanceRecord {
    InstanceRecord {
        name: "testdb".parse().unwrap(),
        uid: InstanceUid::from_bits(bits),
        generation: 1,
        phase: multidb_store::Phase::Ready,
        project: "p".parse().unwrap(),
        snapshot: "monday".parse().unwrap(),
        gitref: None,
        commit: None,
        created_by: "staff".to_owned(),
        postgres_major: 15,
        superuser: "postgres".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        last_used_at: jiff::Timestamp::UNIX_EPOCH,
        pin: multidb_store::Pin::None,
    }
}

fn everything(variable: &str, method: &str) {
    let root = root(variable);
    let cloner = open(&root);
    assert_eq!(cloner.method(), method);
    let snapshot = snapshot(&root, &cloner, 50);
    let record = instance(1);
    let data = root.layout.instance_data(record.uid);

    // What a crash in the middle left is replaced.
    let partial = root.layout.instance(record.uid).join(PARTIAL);
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("half"), "half").unwrap();

    cloner.create(&record).unwrap();
    assert!(!partial.exists() && !data.join("half").exists());
    let from = root.layout.snapshot_data(&snapshot.id);
    assert_eq!(fs::read(data.join("base/5/7")).unwrap(), vec![7; 16 << 10]);
    for name in ["", "empty", "base", "base/5/7"] {
        let (ours, theirs) = (
            fs::metadata(data.join(name)).unwrap(),
            fs::metadata(from.join(name)).unwrap(),
        );
        assert_eq!(ours.mode(), theirs.mode(), "{name}");
        assert_eq!(
            (ours.uid(), ours.gid()),
            (theirs.uid(), theirs.gid()),
            "{name}"
        );
    }

    // It holds nothing of its own until it is written to, and then only what was written.
    let before = cloner.exclusive_bytes(record.uid).unwrap();
    assert!(before <= 16 << 10, "{before} bytes at first");
    fs::write(data.join("base/5/7"), vec![1; 16 << 10]).unwrap();
    fs::write(data.join("new"), vec![1; 1 << 20]).unwrap();
    cloner.sync(&data).unwrap();
    let after = cloner.exclusive_bytes(record.uid).unwrap() - before;
    let written = (1 << 20) + (16 << 10);
    assert!(
        (written..written + (64 << 10)).contains(&after),
        "{after} bytes"
    );
    assert_eq!(fs::read(from.join("base/5/7")).unwrap(), vec![7; 16 << 10]);

    // Twice is no error and changes nothing.
    cloner.create(&record).unwrap();
    assert!(data.join("new").exists());
    assert_eq!(cloner.existing().unwrap(), [record.uid]);

    cloner.delete(record.uid).unwrap();
    cloner.delete(record.uid).unwrap();
    assert!(!root.layout.instance(record.uid).exists());
    assert_eq!(fs::read_dir(root.layout.trash()).unwrap().count(), 0);
    assert!(from.join("PG_VERSION").exists());
}

#[test]
fn clones_on_xfs_share_their_blocks_and_nothing_else() {
    everything("MULTIDB_TEST_XFS", "reflink");
}

#[test]
fn clones_on_btrfs_share_their_blocks_and_nothing_else() {
    everything("MULTIDB_TEST_BTRFS", "btrfs-snapshot");
}

#[test]
fn a_snapshot_that_is_no_subvolume_is_reflinked_on_btrfs() {
    let root = root("MULTIDB_TEST_BTRFS");
    let cloner = TreeCloner::open(root.layout.clone(), Method::Reflink, 0, OWNER).unwrap();
    snapshot(&root, &cloner, 10);
    let cloner = open(&root);
    assert_eq!(cloner.method(), "btrfs-snapshot");
    let report = cloner.create(&instance(1)).unwrap();
    assert_eq!(report.files, 10);
}

#[test]
fn a_damaged_snapshot_is_refused_and_nothing_is_left() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 5] = [
        ("its PG_VERSION cannot be read", |data| {
            fs::remove_file(data.join("PG_VERSION")).unwrap()
        }),
        ("its data is of PostgreSQL 9", |data| {
            fs::write(data.join("PG_VERSION"), "9").unwrap()
        }),
        ("its manifest says 10", |data| {
            fs::remove_file(data.join("base/5/3")).unwrap()
        }),
        ("is a symbolic link", |data| {
            std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
        }),
        ("manifest", |data| {
            fs::remove_file(data.with_file_name("manifest.json")).unwrap()
        }),
    ];
    for (expected, damage) in damage {
        let root = root("MULTIDB_TEST_XFS");
        let cloner = open(&root);
        let snapshot = snapshot(&root, &cloner, 10);
        damage(&root.layout.snapshot_data(&snapshot.id));
        let error = cloner.create(&instance(1)).unwrap_err();
        assert!(
            matches!(error, CloneError::SnapshotDamaged { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(fs::read_dir(root.layout.instances()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(root.layout.trash()).unwrap().count(), 0);
    }
}

#[test]
fn the_reserve_is_kept() {
    let root = root("MULTIDB_TEST_XFS");
    let cloner = TreeCloner::open(root.layout.clone(), Method::Auto, u64::MAX, OWNER).unwrap();
    snapshot(&root, &cloner, 10);
    let error = cloner.create(&instance(1)).unwrap_err();
    assert!(matches!(error, CloneError::NoSpace { .. }), "{error}");
}

#[test]
fn a_directory_that_is_not_ours_is_never_deleted() {
    let root = root("MULTIDB_TEST_XFS");
    let cloner = open(&root);
    let uid = InstanceUid::from_bits(7);
    fs::create_dir(root.layout.instance(uid)).unwrap();
    fs::write(root.layout.instance(uid).join("precious"), "x").unwrap();
    assert!(cloner.delete(uid).is_err());
    assert!(root.layout.instance(uid).join("precious").exists());
    assert_eq!(cloner.existing().unwrap(), []);
}

#[test]
fn a_file_system_without_clones_is_refused_unless_copies_are_asked_for() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let layout = Layout::new(directory.path());
    let error = TreeCloner::open(layout.clone(), Method::Auto, 0, OWNER)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("clone.method = \"copy\""),
        "{error}"
    );
    let root = Root {
        _directory: directory,
        layout,
    };
    let cloner = TreeCloner::open(root.layout.clone(), Method::Copy, 0, OWNER).unwrap();
    snapshot(&root, &cloner, 10);
    cloner.create(&instance(1)).unwrap();
    let copied = root.layout.instance_data(instance(1).uid).join("base/5/7");
    assert_eq!(fs::read(copied).unwrap(), vec![7; 16 << 10]);
}

#[test]
fn what_an_interrupted_deletion_left_is_swept() {
    for variable in ["MULTIDB_TEST_XFS", "MULTIDB_TEST_BTRFS"] {
        let root = root(variable);
        let cloner = open(&root);
        let left = root.layout.trash().join("left");
        fs::create_dir(&left).unwrap();
        cloner.make_data_dir(&left.join("data")).unwrap();
        fs::write(left.join("data/file"), "x").unwrap();
        cloner.sweep_trash().unwrap();
        assert_eq!(fs::read_dir(root.layout.trash()).unwrap().count(), 0);
    }
}

#[test]
fn a_source_on_another_file_system_is_copied() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(elsewhere.path().join("file"), "content").unwrap();
    let root = root("MULTIDB_TEST_XFS");
    let cloner = open(&root);
    let to = root.layout.snapshots().join("copy");
    let (size, sharing) = cloner.clone_tree(elsewhere.path(), &to).unwrap();
    assert_eq!((size.files, size.bytes, sharing), (1, 7, Sharing::Copied));
    let again = root.layout.snapshots().join("again");
    let (_, sharing) = cloner.clone_tree(&to, &again).unwrap();
    assert_eq!(sharing, Sharing::Shared);
    assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "content");
}
