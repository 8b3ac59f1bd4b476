//! When references of a mirror were last seen on the remote: the times of files in the mirror, which outlive the
//! daemon.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::fsutil::unless_missing;

/// The subject of all branches and tags, which are fetched together.
pub(super) const BRANCHES: &str = "branches";
/// That the remote is a partial clone. No reference has such a name.
pub(super) const PARTIAL: &str = "partial clone";
const DIRECTORY: &str = "multidb-seen";

fn file_of(mirror: &Path, subject: &str) -> PathBuf {
    mirror.join(DIRECTORY).join(subject.replace('/', "%2F"))
}

/// Notes that this was seen.
pub(super) fn note(mirror: &Path, subject: &str, at: SystemTime) -> io::Result<()> {
    fs::create_dir_all(mirror.join(DIRECTORY))?;
    File::create(file_of(mirror, subject))?.set_modified(at)
}

/// Takes the note away.
pub(super) fn forget(mirror: &Path, subject: &str) -> io::Result<()> {
    unless_missing(fs::remove_file(file_of(mirror, subject)))
}

/// Whether it was ever seen.
pub(super) fn is_noted(mirror: &Path, subject: &str) -> bool {
    file_of(mirror, subject).exists()
}

/// How long ago it was seen.
pub(super) fn of(mirror: &Path, subject: &str) -> Option<Duration> {
    let seen = fs::metadata(file_of(mirror, subject)).ok()?;
    seen.modified().ok()?.elapsed().ok()
}
