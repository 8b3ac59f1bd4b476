//! Snapshots that every test starts with, imported once in a run.
//!
//! An import takes seconds. So the first test on a file system imports `monday` (from a data
//! directory) and `tuesday` (from a dump) with a separate daemon; all tests get copy-on-write
//! copies of these. A lock makes the others wait, in this process and in others.

mod repository;
mod source;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::{Daemon, DaemonBuilder, Engine};
use crate::disk::{Disk, open_for_others};
use crate::programs;

pub use repository::Repository;
use source::Source;

/// The rows of `polls_question` in the snapshot `monday`.
pub const MONDAY_ROWS: u32 = 1000;

/// The rows of `polls_question` in the snapshot `tuesday`.
pub const TUESDAY_ROWS: u32 = 1200;

/// The inode of a Btrfs subvolume's top directory.
const BTRFS_SUBVOLUME_INODE: u64 = 256;

/// The data shared by the tests on one file system.
#[derive(Debug, Clone)]
pub struct Fixture {
    dir: PathBuf,
}

impl Fixture {
    /// The fixture of a file system, made with this program on first use.
    #[track_caller]
    pub fn of(disk: Disk, binary: &Path) -> Self {
        let fixture = Self {
            dir: disk.mount().join(format!("fixture-{}", version_of(binary))),
        };
        let _lock = lock(&disk.mount().join("fixture.lock"));
        if !fixture.dir.exists() {
            let unfinished = disk.mount().join("fixture-unfinished");
            if unfinished.exists() {
                std::fs::remove_dir_all(&unfinished).expect("an unfinished fixture can be removed");
            }
            make(&unfinished, disk, binary);
            std::fs::rename(&unfinished, &fixture.dir).expect("the fixture can be renamed");
        }
        fixture
    }

    /// A cleanly stopped data directory of `monday`'s state. Tests copy it and never change it.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("monday-data")
    }

    /// A dump of `tuesday`'s state: `tuesday.dump` (custom), `tuesday.sql`, `tuesday.tar` or
    /// `tuesday.dir`.
    pub fn dump(&self, file: &str) -> PathBuf {
        let path = self.dir.join(file);
        assert!(path.exists(), "the fixture has no {file}");
        path
    }

    /// Gives a root directory the two snapshots, as copy-on-write copies.
    pub(crate) fn seed(&self, root: &Path) {
        open_for_others(root);
        let target = root.join("snapshots");
        std::fs::create_dir(&target).expect("the directory of snapshots can be made");
        for snapshot in ["monday", "tuesday"] {
            let from = self.dir.join("snapshots").join(snapshot);
            copy(&from, &target.join(snapshot));
        }
        let mode =
            std::fs::metadata(self.dir.join("snapshots")).expect("the fixture has snapshots");
        std::fs::set_permissions(&target, mode.permissions()).expect("a mode can be set");
    }
}

/// Copies a snapshot's directory, by reflink unless the root is on another file system; a subvolume
/// in it becomes a snapshot of the subvolume.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a snapshot's directory can be made");
    let metadata = std::fs::metadata(from).expect("the fixture has the snapshot");
    std::fs::set_permissions(to, metadata.permissions()).expect("a mode can be set");
    for entry in std::fs::read_dir(from)
        .expect("the fixture can be read")
        .flatten()
    {
        let inode = entry.metadata().expect("an entry has metadata").ino();
        let mut command = if inode == BTRFS_SUBVOLUME_INODE {
            let mut command = Command::new("btrfs");
            command.args(["subvolume", "snapshot"]);
            command
        } else {
            let mut command = Command::new("cp");
            command.args(["--archive", "--reflink=auto"]);
            command
        };
        let target = to.join(entry.file_name());
        programs::run(command.arg(entry.path()).arg(target)).ok();
    }
}

fn make(dir: &Path, disk: Disk, binary: &Path) {
    std::fs::create_dir(dir).expect("the fixture's directory can be made");
    open_for_others(dir);
    let source = Source::create(dir);
    source.monday();
    source.stop();
    let copied = Command::new("cp")
        .args(["--archive", "--reflink=always"])
        .arg(source.data_dir())
        .arg(dir.join("monday-data"))
        .output();
    assert!(copied.is_ok_and(|output| output.status.success()));
    source.start();
    source.tuesday();
    source.dump(dir);
    source.stop();
    let daemon = DaemonBuilder::new(binary, disk, Engine::Process)
        .without_snapshots()
        .start();
    let import = |id: &str, from: &str, path: PathBuf, taken_at: &str| {
        let path = path.display().to_string();
        let args = Daemon::import_args(id, &[from, &path, "--taken-at", taken_at]);
        daemon.cli(&args).ok();
    };
    import(
        "monday",
        "--data-dir",
        dir.join("monday-data"),
        "2026-01-05T03:00:00Z",
    );
    import(
        "tuesday",
        "--dump",
        dir.join("tuesday.dump"),
        "2026-01-06T03:00:00Z",
    );
    daemon.stop();
    std::fs::rename(daemon.root().join("snapshots"), dir.join("snapshots"))
        .expect("the snapshots can be moved");
}

/// Another build of the program makes a fixture of its own.
fn version_of(binary: &Path) -> String {
    let metadata =
        std::fs::metadata(binary).unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    format!("{}-{}", metadata.mtime(), metadata.len())
}

fn lock(path: &Path) -> File {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().expect("the fixture can be locked");
    file
}
