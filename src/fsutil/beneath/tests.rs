//! Trees as a superuser of an instance or a dump can make them.

mod hostile;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, mknodat};

use super::*;

/// As deep as in the reproduction that ended the daemon by a stack overflow.
const NESTED: usize = 20_000;

#[test]
fn system_without_openat2_is_told_of_and_other_refusals_are_not() {
    require_openat2().unwrap();
    for missing in [Errno::NOSYS, Errno::PERM] {
        let error = judge_refusal(missing).unwrap_err().to_string();
        assert!(error.contains("the system refuses openat2"), "{error}");
    }
    judge_refusal(Errno::ACCESS).unwrap();
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
}

/// Makes directories in each other, whose path is longer than any system call takes.
fn nest(top: &Path, depth: usize) {
    let mut at = OwnedFd::from(Directory::open(top).unwrap());
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    rustix::fs::openat(&at, "file", flags, Mode::RUSR).unwrap();
}

/// Walks over everything.
fn walk_all(top: &Path) -> Result<Vec<(PathBuf, Kind)>, TreeError> {
    let mut walk = Walk::new(Directory::open(top)?)?;
    let mut found = Vec::new();
    while let Some(kind) = walk.advance()? {
        if kind != Kind::End {
            found.push((walk.relative().to_owned(), kind));
        }
        if kind == Kind::Directory {
            walk.enter()?;
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[test]
fn walk_finds_everything_and_follows_no_link() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("a/b")).unwrap();
    fs::write(tree.path().join("a/b/file"), "text").unwrap();
    symlink("/", tree.path().join("a/link")).unwrap();
    fifo(&tree.path().join("z"));
    let expected = [
        ("a", Kind::Directory),
        ("a/b", Kind::Directory),
        ("a/b/file", Kind::File),
        ("a/link", Kind::Other),
        ("z", Kind::Other),
    ];
    let expected = expected.map(|(path, kind)| (PathBuf::from(path), kind));
    assert_eq!(walk_all(tree.path()).unwrap(), expected);
}

#[test]
fn directories_that_are_nested_too_deeply_end_a_walk_and_not_a_deletion() {
    let tree = tempfile::tempdir_in("/dev/shm").unwrap();
    let top = tree.path().join("top");
    fs::create_dir(&top).unwrap();
    nest(&top, NESTED);
    // Two of them, so that a walk goes on beside a deep directory.
    fs::create_dir(top.join("e")).unwrap();
    nest(&top.join("e"), 3);
    let error = walk_all(&top).unwrap_err();
    assert!(matches!(error, TreeError::TooDeep { .. }), "{error}");
    // On the small stack of an ordinary thread, and with few descriptors.
    remove(&top).unwrap();
    assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0);
}

#[test]
fn as_many_directories_as_are_permitted_are_walked() {
    let tree = tempfile::tempdir().unwrap();
    nest(tree.path(), DEPTH_MAX);
    assert_eq!(walk_all(tree.path()).unwrap().len(), DEPTH_MAX + 1);
    let deeper = tempfile::tempdir().unwrap();
    nest(deeper.path(), DEPTH_MAX + 1);
    walk_all(deeper.path()).unwrap_err();
}

#[test]
fn only_regular_files_are_read_and_only_so_far() {
    let tree = tempfile::tempdir().unwrap();
    let path = |name: &str| tree.path().join(name);
    fs::write(path("file"), "text").unwrap();
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("directory/inner"), "inner").unwrap();
    symlink("file", path("link")).unwrap();
    symlink("/dev/zero", path("zero")).unwrap();
    symlink("directory", path("way")).unwrap();
    fifo(&path("fifo"));
    let directory = Directory::open(tree.path()).unwrap();
    let read = |name: &str| directory.read(name, 5);
    assert_eq!(read("file").unwrap().unwrap(), b"text");
    assert_eq!(read("directory/inner").unwrap().unwrap(), b"inner");
    assert_eq!(read("none").unwrap(), None);
    for name in ["link", "zero", "fifo", "directory", "way/inner"] {
        let error = read(name).unwrap_err();
        assert!(
            matches!(error, TreeError::Foreign { .. }),
            "{name}: {error}"
        );
        if name != "way/inner" {
            let error = read_file(&path(name), 5).unwrap_err();
            assert!(
                matches!(error, TreeError::Foreign { .. }),
                "{name}: {error}"
            );
        }
    }
    for outside in ["../file", "/etc/passwd"] {
        directory.read(outside, 5000).unwrap_err();
    }
    let error = directory.read("file", 3).unwrap_err();
    assert!(matches!(error, TreeError::TooLong { .. }), "{error}");
    fs::File::create(path("endless"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = read("endless").unwrap_err();
    assert!(matches!(error, TreeError::TooLong { .. }), "{error}");
}

#[test]
fn replaced_file_keeps_its_mode_and_leaves_its_other_links_alone() {
    let tree = tempfile::tempdir().unwrap();
    let (inside, outside) = (tree.path().join("inside"), tree.path().join("outside"));
    fs::create_dir(&inside).unwrap();
    fs::write(&outside, "kept").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o4640)).unwrap();
    fs::hard_link(&outside, inside.join("file")).unwrap();
    let directory = Directory::open(&inside).unwrap();
    directory.replace(OsStr::new("file"), b"new").unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    assert_eq!(fs::read_to_string(inside.join("file")).unwrap(), "new");
    let mode = fs::metadata(inside.join("file")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);
    symlink(&outside, inside.join("link")).unwrap();
    fifo(&inside.join("fifo"));
    for name in ["link", "fifo"] {
        directory.replace(OsStr::new(name), b"new").unwrap_err();
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    assert_eq!(fs::read_dir(&inside).unwrap().count(), 3);
}

#[test]
fn link_in_the_place_of_a_tree_is_removed_and_not_followed() {
    let tree = tempfile::tempdir().unwrap();
    let (kept, link) = (tree.path().join("kept"), tree.path().join("link"));
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "").unwrap();
    symlink(&kept, &link).unwrap();
    Directory::open(&link).unwrap_err();
    remove(&link).unwrap();
    assert!(!link.is_symlink());
    assert!(kept.join("file").exists());
    remove(&link).unwrap();
    remove(&tree.path().join("none/below")).unwrap();
}

#[test]
fn tree_that_is_moved_meanwhile_is_deleted_and_nothing_else() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let (doomed, elsewhere) = (root.path().join("doomed"), root.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("kept"), "").unwrap();
    for round in 0..10 {
        fs::create_dir(&doomed).unwrap();
        nest(&doomed, 100);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mover = scope.spawn(|| {
                // Moves a directory with all in it out of the tree, and back.
                let (inner, out) = (doomed.join("d/d/d"), elsewhere.join("out"));
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let _moved = fs::rename(&inner, &out);
                    let _back = fs::rename(&out, &inner);
                }
            });
            // It ends, perhaps with the error of a tree that never rests.
            let removed = remove(&doomed);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            mover.join().unwrap();
            if let Err(error) = removed {
                assert!(
                    matches!(error, TreeError::StillWritten { .. }),
                    "{round}: {error}"
                );
            }
        });
        remove(&doomed).unwrap();
        remove(&elsewhere.join("out")).unwrap();
        assert!(elsewhere.join("kept").exists());
    }
}

#[test]
fn tree_that_somebody_fills_all_the_time_is_an_error_in_the_end() {
    let root = tempfile::tempdir().unwrap();
    let doomed = root.path().join("doomed");
    fs::create_dir(&doomed).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As a process of the same user: from any other, a directory is taken before it is listed.
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                let _made = fs::create_dir_all(doomed.join(format!("{}/x", number % 50)));
            }
        });
        let parent = Directory::open(root.path()).unwrap();
        let time_max = std::time::Duration::from_secs(1);
        let name = OsStr::new("doomed");
        let removed = delete::remove_within(time_max, parent.as_fd(), name, &doomed);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
        if let Err(error) = removed {
            assert!(matches!(error, TreeError::StillWritten { .. }), "{error}");
        }
    });
    remove(&doomed).unwrap();
    assert!(!doomed.exists());
}
