//! The FIFOs between multidb and the programs of a restore.
//!
//! The programs open their ends by path, so that they can run in containers. multidb never waits in
//! an open: it opens the end of a reader before the writer starts, and the end of a writer once
//! there is a reader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use tokio::net::unix::pipe;

use crate::import::copy::{make_dir, set_owner};
use crate::import::error::ImportError;

/// How often a FIFO is checked for a reader.
const READER_INTERVAL: Duration = Duration::from_millis(2);

/// The FIFOs of one restore.
pub(super) struct Fifos {
    pub(super) directory: PathBuf,
    /// From the dump to pg_restore.
    pub(super) archive: PathBuf,
    /// From pg_restore to the rewriter.
    pub(super) restored: PathBuf,
    /// From the rewriter to psql.
    pub(super) script: PathBuf,
}

impl Fifos {
    pub(super) fn create(directory: &Path, owner: (u32, u32)) -> Result<Self, ImportError> {
        make_dir(directory, 0o700, owner)?;
        let create = |name: &str| {
            let path = directory.join(name);
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0)
                .map_err(|error| ImportError::io("create", &path, error.into()))?;
            set_owner(&path, owner)?;
            Ok::<_, ImportError>(path)
        };
        Ok(Self {
            archive: create("archive.fifo")?,
            restored: create("restored.fifo")?,
            script: create("script.fifo")?,
            directory: directory.to_owned(),
        })
    }
}

/// Opens a FIFO for writing once it has a reader.
pub(super) async fn open_writer(path: &Path) -> Result<pipe::Sender, ImportError> {
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                tokio::time::sleep(READER_INTERVAL).await;
            }
            other => return other.map_err(|source| ImportError::io("open", path, source)),
        }
    }
}

/// Opens a FIFO for reading, before it has a writer.
pub(super) fn open_reader(path: &Path) -> Result<pipe::Receiver, ImportError> {
    pipe::OpenOptions::new()
        .open_receiver(path)
        .map_err(|source| ImportError::io("open", path, source))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn writer_opens_once_there_is_a_reader() {
        let directory = tempfile::tempdir().unwrap();
        let owner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let fifos = Fifos::create(&directory.path().join("pipes"), owner).unwrap();
        let path = fifos.script.clone();
        let reader = tokio::task::spawn_blocking(move || std::fs::read(path));
        let mut writer = open_writer(&fifos.script).await.unwrap();
        writer.write_all(b"hello").await.unwrap();
        drop(writer);
        assert_eq!(reader.await.unwrap().unwrap(), b"hello");
        let without_reader = open_writer(&fifos.archive);
        let opened = tokio::time::timeout(Duration::from_millis(20), without_reader).await;
        opened.unwrap_err();
    }
}
