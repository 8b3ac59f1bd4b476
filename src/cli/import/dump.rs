//! The dump that the command sends, since the daemon cannot open it.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::admin::api::UploadInfo;

/// The standard input.
const STANDARD_INPUT: &str = "-";

/// A dump that this process has opened.
#[derive(Debug)]
pub(super) struct LocalDump {
    pub(super) info: UploadInfo,
    pub(super) content: File,
}

/// Whether a path means something to this process alone: the standard input, a pipe of the shell, a device.
pub(super) fn is_local(path: &Path) -> bool {
    let is_of_process = path.starts_with("/dev") || path.starts_with("/proc");
    let is_pipe = || {
        // Trusted path: the user has named this dump.
        fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
    };
    path.as_os_str() == STANDARD_INPUT || is_of_process || is_pipe()
}

impl LocalDump {
    /// Opens a dump. A named pipe is waited for.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let content = match path.as_os_str() == STANDARD_INPUT {
            true => File::from(io::stdin().as_fd().try_clone_to_owned()?),
            // Trusted path: the user has named this dump.
            false => File::open(path)?,
        };
        if content.is_terminal() {
            let problem = "it is a terminal; send a dump into the command by a pipe or with <";
            return Err(io::Error::other(problem));
        }
        let found = content.metadata()?;
        if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let file = found.is_file().then_some(found);
        let modified_at = file.as_ref().and_then(|file| file.modified().ok());
        let info = UploadInfo {
            name: PathBuf::from(path),
            bytes: file.as_ref().map(fs::Metadata::len),
            modified_at: modified_at.and_then(|at| Timestamp::try_from(at).ok()),
        };
        Ok(Self { info, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_opened_here_and_files_by_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "SELECT 1;").unwrap();
        let fifo = directory.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        for path in ["-", "/dev/stdin", "/dev/fd/63", "/proc/self/fd/0"] {
            assert!(is_local(Path::new(path)), "{path}");
        }
        assert!(is_local(&fifo));
        assert!(!is_local(&file) && !is_local(directory.path()));
        assert!(!is_local(Path::new("./-")) && !is_local(Path::new("/no/such/file")));

        let dump = LocalDump::open(&file).unwrap();
        assert_eq!((dump.info.name, dump.info.bytes), (file, Some(9)));
        assert!(dump.info.modified_at.is_some());
        let error = LocalDump::open(directory.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
