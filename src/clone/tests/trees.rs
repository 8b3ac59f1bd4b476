//! Tests of the trees that imports need.

use super::*;

#[test]
fn source_on_another_file_system_is_copied() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(elsewhere.path().join("base")).unwrap();
    fs::write(elsewhere.path().join("base/file"), "content").unwrap();
    fs::write(elsewhere.path().join("postmaster.opts"), "excluded").unwrap();
    for (variable, subvolume) in [(XFS, false), (BTRFS, true)] {
        let root = root(variable);
        let cloner = root.open(Method::Auto);
        let to = root.layout.snapshots().join("copy");
        let (size, sharing) = cloner.clone_tree(elsewhere.path(), &to).unwrap();
        assert_eq!((size.files, size.bytes, sharing), (1, 7, Sharing::Copied));
        assert_eq!(cloner.tree_size(&to).unwrap(), size);
        assert_eq!(btrfs::is_subvolume(&to), subvolume);
        assert!(!to.join("postmaster.opts").exists());

        let again = root.layout.snapshots().join("again");
        cloner.make_data_dir(&again).unwrap();
        let (_, sharing) = cloner.clone_tree(&to, &again).unwrap();
        assert_eq!(sharing, Sharing::Shared);
        assert_eq!(fs::read(again.join("base/file")).unwrap(), b"content");
    }
}

#[test]
fn snapshot_with_random_writes_is_fragmented() {
    use std::os::unix::fs::FileExt;
    let root = root(XFS);
    let cloner = root.open(Method::Auto);
    let snapshot = root.snapshot(&cloner, 10);
    let data = root.layout.snapshot_data(&snapshot.id);
    let extents = snapshot_extents(&data).unwrap();
    assert!(!extents.is_fragmented(), "{extents:?}");
    let file = fs::File::create(data.join("holes")).unwrap();
    for hole in 0..500 {
        file.write_all_at(&[1; 4096], hole * 16384).unwrap();
    }
    let extents = snapshot_extents(&data).unwrap();
    assert!(
        extents.count >= 500 && extents.is_fragmented(),
        "{extents:?}"
    );
}
