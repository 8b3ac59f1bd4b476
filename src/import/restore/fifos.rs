//! The FIFOs between multidb and the programs of a restore.
//!
//! The programs open their ends by path, so that they can run in containers. multidb never waits in
//! an open: it opens the end of a reader before the writer starts, and the end of a writer once
//! there is a reader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, chownat, openat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use tokio::net::unix::pipe;

use crate::fsutil::beneath::Directory;
use crate::fsutil::directory;
use crate::import::error::ImportError;

/// Their directory in the staging directory.
pub(super) const DIRECTORY: &str = "pipes";
/// How often a FIFO is checked for a reader.
const READER_INTERVAL: Duration = Duration::from_millis(2);

/// The size of a FIFO between a program and multidb, so that the program waits less: as much as any user may have
/// (pipe(7)).
const PIPE_BYTES: usize = 1 << 20;

/// The FIFOs of one restore.
pub(in crate::import) struct Fifos {
    pub(in crate::import) directory: PathBuf,
    /// From the dump to pg_restore.
    pub(super) archive: PathBuf,
    /// From pg_restore to the splitter.
    pub(in crate::import) restored: PathBuf,
}

impl Fifos {
    pub(in crate::import) fn create(
        directory: &Path,
        owner: (u32, u32),
    ) -> Result<Self, ImportError> {
        // Theirs are the FIFOs and not the directory: a process of the dump that is still there must
        // not put others in their place.
        let opened = directory::create_new(directory, 0o711)
            .and_then(|()| Ok(Directory::open(directory)?))
            .map_err(|source| ImportError::io("create", directory, source))?;
        let create = |name: &str| {
            let path = directory.join(name);
            create_fifo(&opened, name, owner)
                .map_err(|error| ImportError::io("create", &path, error.into()))?;
            Ok::<_, ImportError>(path)
        };
        Ok(Self {
            archive: create("archive.fifo")?,
            restored: create("restored.fifo")?,
            directory: directory.to_owned(),
        })
    }
}

fn create_fifo(at: &Directory, name: &str, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(at, name, FileType::Fifo, mode, 0)?;
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Ends the programs of a restore whose daemon died before it opened their FIFOs: they wait in an
/// open, for ever. To open both ends wakes them, and to close them is the end of their data.
pub fn release_programs(staging: &Path) {
    // Without the directory there was no restore.
    let Ok(directory) = Directory::open(&staging.join(DIRECTORY)) else {
        return;
    };
    for name in directory.names().into_iter().flatten().flatten() {
        let is_fifo = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if !directory
            .find(&name)
            .is_ok_and(|found| found.is_some_and(is_fifo))
        {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Err(error) = openat(&directory, &name, flags, Mode::empty()) {
            let path = directory.path().join(&name);
            tracing::warn!(path = %path.display(), %error, "cannot release the programs of an interrupted import");
        }
    }
}

/// Opens a FIFO for writing once it has a reader.
pub(super) async fn open_writer(path: &Path) -> Result<pipe::Sender, ImportError> {
    loop {
        // Trusted path: only multidb can write the directory of the FIFOs.
        match pipe::OpenOptions::new().open_sender(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                tokio::time::sleep(READER_INTERVAL).await;
            }
            other => return other.map_err(|source| ImportError::io("open", path, source)),
        }
    }
}

/// Opens a FIFO for reading, before it has a writer.
pub(in crate::import) fn open_reader(path: &Path) -> Result<pipe::Receiver, ImportError> {
    // Trusted path: only multidb can write the directory of the FIFOs.
    let reader = pipe::OpenOptions::new()
        .open_receiver(path)
        .map_err(|source| ImportError::io("open", path, source))?;
    // It has that of the system if its user may have no more.
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_BYTES) {
        tracing::debug!(%error, path = %path.display(), "a FIFO stays short");
    }
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn programs_of_a_dead_daemon_are_released() {
        let staging = tempfile::tempdir().unwrap();
        let owner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let fifos = Fifos::create(&staging.path().join(DIRECTORY), owner).unwrap();
        let (archive, restored) = (fifos.archive, fifos.restored);
        let reader = std::thread::spawn(move || fs::read(archive).map(|read| read.len()));
        let pg_restore =
            std::thread::spawn(move || fs::OpenOptions::new().write(true).open(restored));
        // They may not wait yet.
        while !reader.is_finished() || !pg_restore.is_finished() {
            release_programs(staging.path());
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap().unwrap(), 0);
        pg_restore.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn writer_opens_once_there_is_a_reader() {
        let directory = tempfile::tempdir().unwrap();
        let owner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let fifos = Fifos::create(&directory.path().join(DIRECTORY), owner).unwrap();
        let path = fifos.restored.clone();
        let reader = tokio::task::spawn_blocking(move || std::fs::read(path));
        let mut writer = open_writer(&fifos.restored).await.unwrap();
        writer.write_all(b"hello").await.unwrap();
        drop(writer);
        assert_eq!(reader.await.unwrap().unwrap(), b"hello");
        let without_reader = open_writer(&fifos.archive);
        let opened = tokio::time::timeout(Duration::from_millis(20), without_reader).await;
        opened.unwrap_err();
    }
}
