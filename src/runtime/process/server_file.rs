//! `state/servers/<uid>.json`, by which a restarted daemon finds a server.
//!
//! Only the daemon can write there; everything in the run directory belongs to the server.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use multidb_actors::ports::RuntimeError;
use multidb_store::{DiskFault, InstanceUid, Layout};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::identity::ProcessIdentity;
use crate::fsutil::{atomic_file, directory, unless_missing};
use crate::runtime::Purpose;
use crate::runtime::postmaster::{DirectoryId, Postmaster};

/// A longer file is not one of ours.
const BYTES_MAX: u64 = 16 << 10;

/// The daemon's file about one server.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerFile {
    /// The purpose of the server.
    pub(super) purpose: Purpose,
    /// The data directory of the server, relative to the root, which may be moved.
    data_dir: PathBuf,
    /// The data directory itself: a copy of the root has another one, on which the server does not run.
    data: DirectoryId,
    /// The postmaster.
    process: ProcessIdentity,
}

impl ServerFile {
    /// About a server with this process on a data directory under the root.
    ///
    /// # Errors
    ///
    /// The data directory is elsewhere.
    pub(super) fn new(
        layout: &Layout,
        purpose: Purpose,
        data_dir: &Path,
        process: ProcessIdentity,
    ) -> io::Result<Self> {
        let relative = data_dir.strip_prefix(layout.root());
        let relative = relative.map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self {
            purpose,
            data_dir: relative.to_owned(),
            data: DirectoryId::of(data_dir)?,
            process,
        })
    }

    /// Writes it. Not durable: after a crash of the machine no server runs.
    pub(super) fn write(&self, layout: &Layout, uid: InstanceUid) -> io::Result<()> {
        directory::create_missing(&layout.servers(), 0o700)?;
        let bytes = serde_json::to_vec(self)?;
        atomic_file::replace_unsynced(&layout.server_file(uid), &bytes, 0o600).map(drop)
    }

    /// Reads it. None if there is none, or another file in its place, or one about a server on other data.
    ///
    /// # Errors
    ///
    /// The disk failed, so that it is unknown whether there is a server.
    pub(super) fn read(layout: &Layout, uid: InstanceUid) -> Result<Option<Self>, RuntimeError> {
        let path = layout.server_file(uid);
        match Self::try_read(&path) {
            Ok(file) => {
                // A server may run on data that is gone.
                let data = DirectoryId::of(&file.data_dir(layout));
                Ok(data.map_or(true, |data| data == file.data).then_some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => match DiskFault::of(&error) {
                Some(fault) => Err(RuntimeError {
                    for_clients: false,
                    message: format!("cannot read {}: {error}", path.display()),
                    hint: Some(fault.hint().to_owned()),
                }),
                None => {
                    tracing::warn!(path = %path.display(), %error, "ignoring a file about a server");
                    Ok(None)
                }
            },
        }
    }

    fn try_read(path: &Path) -> io::Result<Self> {
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
        let file = File::options()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > BYTES_MAX {
            return Err(invalid("it is not a small regular file"));
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        let file: Self = serde_json::from_slice(&bytes)?;
        let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !file.data_dir.components().all(is_name) {
            return Err(invalid("its data directory is not under the root"));
        }
        Ok(file)
    }

    /// Removes it, if it exists.
    pub(super) fn remove(layout: &Layout, uid: InstanceUid) -> io::Result<()> {
        let path = layout.server_file(uid);
        // A read-only file system refuses the removal before it looks for the name.
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        unless_missing(fs::remove_file(path))
    }

    /// The uids of all files.
    pub(super) fn uids(layout: &Layout) -> io::Result<Vec<InstanceUid>> {
        let entries = match fs::read_dir(layout.servers()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let uid = |entry: fs::DirEntry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        };
        Ok(entries.flatten().filter_map(uid).collect())
    }

    /// The data directory of the server.
    pub(super) fn data_dir(&self, layout: &Layout) -> PathBuf {
        layout.root().join(&self.data_dir)
    }

    /// The postmaster, if it still runs.
    pub(super) fn postmaster(&self) -> Option<Postmaster> {
        self.process.find()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn uid() -> InstanceUid {
        InstanceUid::from_bits(7)
    }

    fn file(layout: &Layout) -> ServerFile {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = ProcessIdentity::of(own).unwrap();
        let data_dir = layout.instance_data(uid());
        fs::create_dir_all(&data_dir).unwrap();
        ServerFile::new(layout, Purpose::Instance, &data_dir, process).unwrap()
    }

    #[test]
    fn file_is_for_the_daemon_alone_and_survives_a_move_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("root"));
        assert_eq!(ServerFile::uids(&layout).unwrap(), []);
        file(&layout).write(&layout, uid()).unwrap();
        let mode = fs::metadata(layout.servers()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let moved = Layout::new(directory.path().join("moved"));
        fs::rename(layout.root(), moved.root()).unwrap();
        assert_eq!(ServerFile::uids(&moved).unwrap(), [uid()]);
        let read = ServerFile::read(&moved, uid()).unwrap().unwrap();
        assert_eq!(read.data_dir(&moved), moved.instance_data(uid()));
        assert!(read.postmaster().is_some());
        // In a copy of the root it is about the server of the original.
        let data = moved.instance_data(uid());
        fs::rename(&data, directory.path().join("original")).unwrap();
        fs::create_dir(&data).unwrap();
        assert!(ServerFile::read(&moved, uid()).unwrap().is_none());
        ServerFile::remove(&moved, uid()).unwrap();
        ServerFile::remove(&moved, uid()).unwrap();
        assert!(ServerFile::read(&moved, uid()).unwrap().is_none());
    }

    #[test]
    fn anything_but_a_small_regular_file_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        file(&layout).write(&layout, uid()).unwrap();
        let path = layout.server_file(uid());
        let target = directory.path().join("target");
        fs::rename(&path, &target).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(ServerFile::read(&layout, uid()).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(ServerFile::read(&layout, uid()).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        fs::write(&path, vec![b' '; 1 << 20]).unwrap();
        assert!(ServerFile::read(&layout, uid()).unwrap().is_none());
        let outside = fs::read_to_string(&target).unwrap();
        fs::write(&path, outside.replace("instances/", "../")).unwrap();
        assert!(ServerFile::read(&layout, uid()).unwrap().is_none());
    }
}
