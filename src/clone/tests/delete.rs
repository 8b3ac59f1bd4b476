//! Tests of deletions.

use super::*;

#[test]
fn deleted_clone_leaves_nothing_and_its_snapshot_stays() {
    each_method(|root, cloner| {
        let snapshot = root.snapshot(cloner, 10);
        cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
        cloner.delete(instance(1).uid).unwrap();
        cloner.delete(instance(1).uid).unwrap();
        root.assert_no_trace();
        let from = root.layout.snapshot_data(&snapshot.id);
        assert_eq!(cloner.tree_size(&from).unwrap().files, 10);
    });
}

#[test]
fn directory_that_multidb_did_not_create_is_not_touched() {
    let root = root(XFS);
    let cloner = root.open(Method::Auto);
    root.snapshot(&cloner, 10);
    let uid = instance(1).uid;
    let directory = root.layout.instance(uid);
    let foreign: [&dyn Fn(); 3] = [
        &|| {},
        &|| manifest::write(&directory, &instance(2)).unwrap(),
        &|| fs::write(directory.join(manifest::FILE_NAME), "{ half of it").unwrap(),
    ];
    for make in foreign {
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("precious"), "x").unwrap();
        make();
        for error in [
            cloner.delete(uid).unwrap_err(),
            cloner
                .create(&instance(1), &CloneSource::Snapshot)
                .unwrap_err(),
        ] {
            assert!(error.to_string().contains("is not touched"), "{error}");
        }
        assert_eq!(root.own_clones(), []);
        assert!(directory.join("precious").exists());
        fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn sweep_deletes_leftovers_of_interrupted_deletions() {
    for variable in [XFS, BTRFS] {
        let root = root(variable);
        let cloner = root.open(Method::Auto);
        let left = root.layout.trash().join("left");
        fs::create_dir(&left).unwrap();
        cloner.make_data_dir(&left.join("data")).unwrap();
        fs::write(left.join("data/file"), "x").unwrap();
        // Deeper than any that multidb creates.
        cloner.make_data_dir(&left.join("data/deep")).unwrap();
        fs::write(root.layout.trash().join("a-file"), "x").unwrap();
        cloner.sweep_trash().unwrap();
        root.assert_no_trace();
    }
}

#[test]
fn sweep_and_deletions_can_run_in_parallel() {
    let root = root(XFS);
    let cloner = root.open(Method::Auto);
    root.snapshot(&cloner, 20);
    std::thread::scope(|scope| {
        let sweeps = scope.spawn(|| {
            for _ in 0..200 {
                cloner.sweep_trash().unwrap();
            }
        });
        for bits in 0..20 {
            cloner
                .create(&instance(bits), &CloneSource::Snapshot)
                .unwrap();
            cloner.delete(instance(bits).uid).unwrap();
        }
        sweeps.join().unwrap();
    });
    root.assert_no_trace();
}

/// Any user can make a subvolume in a directory of its own, and make it read-only.
#[test]
fn subvolumes_that_a_stranger_nested_are_deleted() {
    let root = root(BTRFS);
    let cloner = root.open(Method::Auto);
    root.snapshot(&cloner, 10);
    cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
    let inner = root.data(1).join("base/inner");
    let innermost = inner.join("directory/innermost");
    btrfs::create_subvolume(&inner).unwrap();
    fs::create_dir(inner.join("directory")).unwrap();
    btrfs::create_subvolume(&innermost).unwrap();
    for subvolume in [&innermost, &inner] {
        fs::write(subvolume.join("file"), "x").unwrap();
        let status = std::process::Command::new("btrfs")
            .args(["property", "set", "-ts"])
            .arg(subvolume)
            .args(["ro", "true"])
            .status();
        assert!(status.unwrap().success());
        fs::write(subvolume.join("other"), "x").unwrap_err();
    }
    cloner.delete(instance(1).uid).unwrap();
    root.assert_no_trace();
}
