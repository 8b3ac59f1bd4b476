//! Tests of clones: their contents, their durability, and their cleanup after errors.

use std::process::Command;

use super::*;
use crate::clone::create::PARTIAL;

#[test]
fn clone_equals_its_snapshot() {
    each_method(|root, cloner| {
        let snapshot = root.snapshot(cloner, 50);
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        let (from, to) = (root.layout.snapshot_data(&snapshot.id), root.data(1));
        assert_eq!(
            cloner.tree_size(&from).unwrap(),
            cloner.tree_size(&to).unwrap()
        );
        assert_eq!(
            fs::read(to.join("base/5/7")).unwrap(),
            vec![7; FILE_BYTES],
            "{}",
            cloner.method()
        );
        for name in ["", "empty", "base", "base/5/7"] {
            let about = |data: &Path| {
                let metadata = fs::metadata(data.join(name)).unwrap();
                (metadata.mode(), metadata.uid(), metadata.gid())
            };
            assert_eq!(about(&to), about(&from), "{name}");
        }
        assert_eq!(root.own_clones(), [InstanceUid::from_bits(1)]);
    });
}

#[test]
fn clones_do_not_see_writes_of_each_other() {
    each_method(|root, cloner| {
        let snapshot = root.snapshot(cloner, 10);
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        cloner.create(&instance(2), &CloneSource::Snapshot).unwrap();
        fs::write(root.data(1).join("base/5/7"), "changed").unwrap();
        fs::remove_file(root.data(1).join("base/5/6")).unwrap();
        let from = root.layout.snapshot_data(&snapshot.id);
        for other in [root.data(2), from] {
            assert_eq!(
                fs::read(other.join("base/5/7")).unwrap(),
                vec![7; FILE_BYTES]
            );
            assert!(other.join("base/5/6").exists());
        }
    });
}

#[test]
fn exclusive_bytes_are_those_written_to_a_clone() {
    for variable in [XFS, BTRFS] {
        let root = root(variable);
        let cloner = root.open(Method::Auto);
        root.snapshot(&cloner, 50);
        let uid = instance(1).uid;
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        let before = cloner.exclusive_bytes(uid).unwrap();
        assert!(before <= FILE_BYTES as u64, "{before} bytes at first");
        fs::write(root.data(1).join("base/5/7"), vec![1; FILE_BYTES]).unwrap();
        fs::write(root.data(1).join("new"), vec![1; 1 << 20]).unwrap();
        let taken = cloner.exclusive_bytes(uid).unwrap() - before;
        let written = (1 << 20) + FILE_BYTES as u64;
        assert!(
            (written..written + (64 << 10)).contains(&taken),
            "{taken} bytes"
        );
    }
}

#[test]
fn second_create_of_a_clone_keeps_its_data() {
    each_method(|root, cloner| {
        root.snapshot(cloner, 10);
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        fs::write(root.data(1).join("new"), "kept").unwrap();
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        assert_eq!(fs::read(root.data(1).join("new")).unwrap(), b"kept");
    });
}

#[test]
fn incomplete_clone_of_a_crash_is_replaced() {
    each_method(|root, cloner| {
        root.snapshot(cloner, 10);
        let directory = root.layout.instance(instance(1).uid);
        let partial = directory.join(PARTIAL);
        let crashes: [&dyn Fn(); 4] = [
            &|| {},
            &|| fs::write(directory.join(manifest::TEMPORARY_NAME), "{").unwrap(),
            &|| {
                // A crash of the machine before the manifest was synced.
                fs::write(directory.join(manifest::FILE_NAME), "").unwrap();
                fs::create_dir(&partial).unwrap();
                fs::write(partial.join("half"), "half").unwrap();
            },
            &|| {
                manifest::write(&directory, &instance(1)).unwrap();
                fs::create_dir(&partial).unwrap();
            },
        ];
        for crash in crashes {
            fs::create_dir(&directory).unwrap();
            crash();
            assert_eq!(root.own_clones(), [instance(1).uid]);
            cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
            assert!(!partial.exists() && !root.data(1).join("half").exists());
            assert!(root.data(1).join("PG_VERSION").exists());
            cloner.delete(instance(1).uid).unwrap();

            fs::create_dir(&directory).unwrap();
            crash();
            cloner.delete(instance(1).uid).unwrap();
            root.assert_no_trace();
        }
    });
}

#[test]
fn snapshot_that_is_not_a_subvolume_is_reflinked_on_btrfs() {
    let root = root(BTRFS);
    root.snapshot(&root.open(Method::Reflink), 10);
    let cloner = root.open(Method::Auto);
    assert_eq!(cloner.method(), "btrfs-snapshot");
    assert_eq!(
        cloner
            .create(&instance(1), &CloneSource::Snapshot)
            .unwrap()
            .files,
        10
    );
}

/// A part of the error, and the function that damages a data directory.
type Damage = (&'static str, fn(&Path));

#[test]
fn damaged_snapshot_is_refused_and_leaves_nothing() {
    let damage: [Damage; 9] = [
        ("it has no PG_VERSION", |data| {
            fs::remove_file(data.join("PG_VERSION")).unwrap();
        }),
        ("PG_VERSION is a FIFO", |data| {
            fs::remove_file(data.join("PG_VERSION")).unwrap();
            fifo(&data.join("PG_VERSION"));
        }),
        ("base/fifo is a FIFO", |data| fifo(&data.join("base/fifo"))),
        ("is nested more than 32 directories deep", |data| {
            fs::create_dir_all(data.join("d/".repeat(40))).unwrap();
        }),
        ("its data is from PostgreSQL 9", |data| {
            fs::write(data.join("PG_VERSION"), "9").unwrap();
        }),
        ("its data directory is missing", |data| {
            fs::remove_dir_all(data).unwrap();
        }),
        ("it has 9 files, but its manifest says 10", |data| {
            fs::remove_file(data.join("base/5/3")).unwrap();
        }),
        ("is a symbolic link", |data| {
            std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
        }),
        ("manifest.json", |data| {
            fs::remove_file(data.with_file_name("manifest.json")).unwrap();
        }),
    ];
    let cases = damage
        .into_iter()
        .flat_map(|case| [(XFS, case), (BTRFS, case)]);
    for (file_system, (expected, damage)) in cases {
        let root = root(file_system);
        let cloner = root.open(Method::Auto);
        let snapshot = root.snapshot(&cloner, 10);
        damage(&root.layout.snapshot_data(&snapshot.id));
        let error = cloner
            .create(&instance(1), &CloneSource::Snapshot)
            .unwrap_err();
        assert!(
            matches!(error, CloneError::SnapshotDamaged { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
        root.assert_no_trace();
    }
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// Its files would be missing in a snapshot of the subvolume that it is in.
#[test]
fn snapshot_with_a_nested_subvolume_is_refused() {
    let root = root(BTRFS);
    let cloner = root.open(Method::Auto);
    let snapshot = root.snapshot(&cloner, 10);
    let inner = root.layout.snapshot_data(&snapshot.id).join("base/inner");
    btrfs::create_subvolume(&inner).unwrap();
    let error = cloner
        .create(&instance(1), &CloneSource::Snapshot)
        .unwrap_err();
    assert!(
        error.to_string().contains("base/inner is a subvolume"),
        "{error}"
    );
    root.assert_no_trace();
}

#[test]
fn clone_has_no_setuid_bits() {
    let root = root(XFS);
    let cloner = root.open(Method::Auto);
    let snapshot = root.snapshot(&cloner, 10);
    let data = root.layout.snapshot_data(&snapshot.id);
    for (name, mode) in [("base/5/3", 0o6755), ("base", 0o3755)] {
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
    for name in ["base/5/3", "base"] {
        let mode = fs::metadata(root.data(1).join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
    }
}

#[test]
fn clone_that_would_use_the_reserve_is_refused() {
    let root = root(XFS);
    let cloner = TreeCloner::open(root.layout.clone(), Method::Auto, u64::MAX, OWNER).unwrap();
    root.snapshot(&cloner, 10);
    let error = cloner
        .create(&instance(1), &CloneSource::Snapshot)
        .unwrap_err();
    assert!(matches!(error, CloneError::NoSpace { .. }), "{error}");
    root.assert_no_trace();
}

/// The smallest XFS that mkfs.xfs can create, in a file.
struct SmallXfs(tempfile::TempDir);

impl SmallXfs {
    fn mount() -> Self {
        let disk = Self(tempfile::tempdir_in(directory_in(XFS)).unwrap());
        fs::create_dir(disk.path()).unwrap();
        let image = fs::File::create(disk.image()).unwrap();
        image.set_len(320 << 20).unwrap();
        run(Command::new("mkfs.xfs").arg("-q").arg(disk.image()));
        disk.mount_image();
        disk
    }

    fn mount_image(&self) {
        let paths = [self.image(), self.path()];
        run(Command::new("mount").args(["-o", "loop"]).args(paths));
    }

    /// Simulates a power cut: unsynced data is lost, then the disk is mounted again.
    fn cut_power(&self) {
        run(Command::new("xfs_io")
            .args(["-x", "-c", "shutdown"])
            .arg(self.path()));
        run(Command::new("umount").arg(self.path()));
        self.mount_image();
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mount")
    }
}

impl Drop for SmallXfs {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.path()));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

#[test]
fn created_clone_survives_a_power_cut() {
    let disk = SmallXfs::mount();
    let root = root_in(&disk.path());
    let cloner = root.open(Method::Auto);
    let snapshot = root.snapshot(&cloner, 200);
    cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
    fs::write(root.directory.path().join("unsynced"), "lost").unwrap();
    disk.cut_power();
    let lost = root.directory.path().join("unsynced");
    assert!(
        !fs::read(lost).is_ok_and(|text| text == b"lost"),
        "the cut lost nothing"
    );
    assert_eq!(root.own_clones(), [instance(1).uid]);
    assert_eq!(cloner.tree_size(&root.data(1)).unwrap().files, 200);
    let from = root.layout.snapshot_data(&snapshot.id);
    for name in ["PG_VERSION", "base/5/0", "base/5/197"] {
        let read = |data: &Path| fs::read(data.join(name)).unwrap();
        assert_eq!(read(&root.data(1)), read(&from), "{name}");
    }
}

#[test]
fn full_disk_refuses_a_clone_and_keeps_the_others() {
    let disk = SmallXfs::mount();
    {
        let root = root_in(&disk.path());
        let cloner = root.open(Method::Auto);
        root.snapshot(&cloner, 3000);
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        let ballast = disk.path().join("ballast");
        let mut chunk: usize = 16 << 20;
        let mut file = fs::File::create(&ballast).unwrap();
        while chunk >= 4096 {
            match std::io::Write::write_all(&mut file, &vec![1; chunk]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => chunk /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        let error = cloner
            .create(&instance(2), &CloneSource::Snapshot)
            .unwrap_err();
        assert!(matches!(error, CloneError::NoSpace { .. }), "{error}");
        assert_eq!(root.own_clones(), [instance(1).uid]);
        assert_eq!(root.count(root.layout.instances()), 1);
        assert_eq!(root.count(root.layout.trash()), 0);

        drop(file);
        fs::remove_file(ballast).unwrap();
        cloner.create(&instance(2), &CloneSource::Snapshot).unwrap();
    }
}

/// The base of an instance, and its data, which is a copy of it.
#[test]
fn clone_begins_anew_with_a_base_of_its_own() {
    use multidb_actors::ports::ClonedFrom;
    each_method(|root, cloner| {
        root.snapshot(cloner, 20);
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        let base = |bits| root.layout.instance_base(InstanceUid::from_bits(bits));
        fs::write(root.data(1).join("base/5/3"), "of the instance").unwrap();
        cloner.clone_tree(&root.data(1), &base(1)).unwrap();
        for (from, to) in [(1, 2), (2, 3)] {
            let source = CloneSource::Base(InstanceUid::from_bits(from));
            let made = cloner.create(&instance(to), &source).unwrap();
            assert_eq!(made.source, ClonedFrom::Base);
            assert_eq!(made.files, 20, "{}", cloner.method());
            fs::write(root.data(from).join("base/5/7"), "changed").unwrap();
            for tree in [base(to), root.data(to)] {
                let size = cloner.tree_size(&tree).unwrap();
                assert_eq!(size.files, 20);
                let read = |name: &str| fs::read(tree.join(name)).unwrap();
                assert_eq!(read("base/5/3"), b"of the instance");
                assert_eq!(read("base/5/7"), vec![7; FILE_BYTES]);
                let metadata = fs::metadata(tree.join("empty")).unwrap();
                assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (OWNER.0, 0o662));
            }
        }
        for bits in 1..=3 {
            cloner.delete(InstanceUid::from_bits(bits)).unwrap();
        }
        root.assert_no_trace();
    });
}

/// A snapshot of a running server's subvolume has the same files as a copy of it.
#[test]
fn both_ways_to_copy_a_running_server_copy_the_same() {
    let root = root(BTRFS);
    let cloner = root.open(Method::Auto);
    root.snapshot(&cloner, 10);
    cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
    let data = root.data(1);
    for directory in [
        "pg_wal",
        "pg_wal/archive_status",
        "pg_replslot/slot",
        "base/pgsql_tmp",
    ] {
        fs::create_dir_all(data.join(directory)).unwrap();
    }
    for file in [
        "postmaster.pid",
        "backup_label",
        "pg_wal/000000010000000000000001",
        "pg_wal/archive_status/x.done",
        "pg_replslot/slot/state",
        "base/pgsql_tmp/1",
        "base/5/pgsql_tmp.1",
        "base/5/backup_label",
        "base/5/setuid",
    ] {
        fs::write(data.join(file), "x").unwrap();
    }
    let mode = fs::Permissions::from_mode(0o4640);
    fs::set_permissions(data.join("base/5/setuid"), mode).unwrap();
    let [copied, taken] = ["copied", "taken"].map(|name| root.layout.instances().join(name));
    let (size, _) = copy::copy(&data, &copied, FileCopy::Reflink, Activity::Running).unwrap();
    let files = crate::clone::running::snapshot_running(&data, &taken).unwrap();
    assert_eq!(files, size.files);
    let listed = |tree: &Path| {
        let mut find = Command::new("find");
        let arguments = [".", "-printf", "%p %m %U %y\n"];
        let listed = find.current_dir(tree).args(arguments).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(listed(&taken), listed(&copied));
    assert!(copied.join("base/5/setuid").exists() && !copied.join("postmaster.pid").exists());
}
