//! Tests of the probe, and of the choice of a method.

use super::*;

#[test]
fn probe_finds_the_methods_and_leaves_nothing() {
    for (variable, name, subvolumes) in [(XFS, "xfs", false), (BTRFS, "btrfs", true)] {
        let root = root(variable);
        let findings = root.open(Method::Auto).findings().unwrap();
        assert_eq!(findings.file_system, name);
        assert_eq!(findings.reflink, Ok(()));
        assert_eq!(findings.subvolumes.is_ok(), subvolumes);
        assert_eq!((findings.apart.len(), findings.advice()), (0, None));
        assert!(findings.free_bytes > 0);
        assert_eq!(root.count(root.layout.snapshots()), 0);
        root.assert_no_trace();
    }
}

#[test]
fn leftovers_of_a_killed_probe_are_removed() {
    let root = root(BTRFS);
    let cloner = root.open(Method::Auto);
    let left = root.layout.snapshots().join(".multidb-probe-1-1");
    cloner.make_data_dir(&left).unwrap();
    root.open(Method::Auto);
    assert!(!left.exists());
}

#[test]
fn file_system_without_clones_is_refused_unless_copies_are_configured() {
    let root = root_in(Path::new("/dev/shm"));
    for method in [Method::Auto, Method::Reflink, Method::BtrfsSnapshot] {
        let error = TreeCloner::open(root.layout.clone(), method, 0, OWNER).unwrap_err();
        for part in ["tmpfs", "mkfs.xfs", "clone.method = \"copy\""] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    let cloner = root.open(Method::Copy);
    root.snapshot(&cloner, 10);
    cloner.create(&instance(1), &CloneSource::Snapshot).unwrap();
    let bytes = cloner.exclusive_bytes(instance(1).uid).unwrap();
    assert!(bytes >= 8 * FILE_BYTES as u64, "{bytes}");
}

#[test]
fn directories_on_two_file_systems_are_refused() {
    let (root, elsewhere) = (root(XFS), root(BTRFS));
    fs::create_dir(root.layout.root()).unwrap();
    std::os::unix::fs::symlink(elsewhere.directory.path(), root.layout.trash()).unwrap();
    let error = TreeCloner::open(root.layout.clone(), Method::Copy, 0, OWNER).unwrap_err();
    assert!(error.to_string().contains("one file system"), "{error}");
}

#[test]
fn method_that_does_not_work_is_refused() {
    let root = root(XFS);
    let error = TreeCloner::open(root.layout.clone(), Method::BtrfsSnapshot, 0, OWNER).unwrap_err();
    assert!(
        error.to_string().contains("it is not Btrfs")
            && error.to_string().contains("clone.method = \"auto\""),
        "{error}"
    );
}

#[test]
fn directories_get_their_modes_even_if_they_existed() {
    let root = root(XFS);
    let layout = &root.layout;
    fs::create_dir_all(layout.instances()).unwrap();
    fs::set_permissions(layout.instances(), fs::Permissions::from_mode(0o700)).unwrap();
    root.open(Method::Auto);
    for (directory, mode) in [
        (layout.snapshots(), 0o711),
        (layout.instances(), 0o711),
        (layout.state(), 0o711),
        (layout.state().join("git"), 0o700),
        (layout.trash(), 0o700),
        (layout.run(), 0o710),
    ] {
        let metadata = fs::metadata(&directory).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{}", directory.display());
    }
    assert_eq!(fs::metadata(layout.run()).unwrap().gid(), OWNER.1);
}
