//! Trees that are measured while something writes to them.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use super::*;

const MIB: usize = 1 << 20;
const SLACK: u64 = 256 << 10;

fn write(file: &mut File, at: usize, bytes: usize) {
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&vec![7; bytes]).unwrap();
}

/// Whether so many bytes were measured, but for the rounding of the file system.
fn assert_measured(tree: &mut GrowingTree, path: &Path, mib: usize) {
    let measured = tree.measure(path).unwrap();
    let expected = (mib * MIB) as u64;
    assert!(
        measured.abs_diff(expected) <= SLACK,
        "{}: {measured}",
        path.display()
    );
}

#[test]
fn growing_tree_is_measured_before_its_bytes_are_on_the_disk() {
    for variable in [XFS, BTRFS] {
        let directory = tempfile::tempdir_in(directory_in(variable)).unwrap();
        let [shared, path] = ["shared", "tree"].map(|name| directory.path().join(name));
        for path in [&shared, &path] {
            fs::create_dir(path).unwrap();
        }
        let original = shared.join("1");
        fs::write(&original, vec![1; 8 * MIB]).unwrap();
        File::open(&original).unwrap().sync_all().unwrap();
        let mut file = File::create_new(path.join("1")).unwrap();
        rustix::fs::ioctl_ficlone(&file, File::open(&original).unwrap()).unwrap();
        let mut tree = GrowingTree::default();
        assert_measured(&mut tree, &path, 0);
        // Longer, and not on the disk yet.
        write(&mut file, 8 * MIB, 4 * MIB);
        assert_measured(&mut tree, &path, 4);
        // In the place of shared blocks.
        write(&mut file, 0, 2 * MIB);
        file.sync_all().unwrap();
        assert_measured(&mut tree, &path, 6);
        drop(file);
        let settled = exclusive_bytes(&path).unwrap();
        assert!(
            settled.abs_diff(6 * MIB as u64) <= SLACK,
            "{variable}: {settled}"
        );

        fs::remove_file(path.join("1")).unwrap();
        assert_eq!(tree.measure(&path).unwrap(), 0, "{variable}");
        fs::remove_dir(&path).unwrap();
        assert_eq!(tree.measure(&path).unwrap(), 0, "{variable}");
    }
}
