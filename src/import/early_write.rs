//! Writing while an import works: the kernel begins at 10 % of the memory or after half a minute, and all of a snapshot
//! that is smaller would be written at its end, when nothing else is left to do.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::fsutil::beneath::{Directory, Kind, TreeError, Walk};
use crate::fsutil::writeback;

/// The least time between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(1);
/// A look is followed by so many times its own time without one, and no more than this: there may be many files.
const PAUSE: u32 = 20;
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Smaller files are left to the end.
const BYTES_MIN: i64 = 1 << 20;

/// Has the kernel write the new data of the files in a directory. Never ends. Subvolumes of Btrfs are left out: each block that
/// is written twice moves there.
pub(super) async fn write_early(directory: &Path) -> Infallible {
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let (begin, directory) = (Instant::now(), directory.to_owned());
        let looked = tokio::task::spawn_blocking(move || begin_writing(&directory)).await;
        if let Ok(Err(error)) = looked {
            tracing::debug!(%error, "the data of an import is not written early");
        }
        pause = (begin.elapsed() * PAUSE).clamp(INTERVAL, PAUSE_MAX);
    }
}

fn begin_writing(directory: &Path) -> Result<(), TreeError> {
    let mut walk = Walk::new(Directory::open(directory)?)?;
    while let Some(kind) = walk.advance()? {
        let done = match kind {
            Kind::Directory => walk.enter().map(|_| ()),
            Kind::File => begin_writing_file(&walk),
            Kind::Other | Kind::End => Ok(()),
        };
        match done {
            Err(TreeError::MountPoint { .. }) => {}
            // The import goes on meanwhile.
            Err(error) if error.is_missing() => {}
            done => done?,
        }
    }
    Ok(())
}

fn begin_writing_file(walk: &Walk) -> Result<(), TreeError> {
    if walk.stat()?.st_size < BYTES_MIN {
        return Ok(());
    }
    let (file, _) = walk.open()?;
    writeback::begin(&file).map_err(|source| TreeError::Io {
        action: "write",
        path: walk.path(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_of_all_levels_are_written_and_others_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("data/base")).unwrap();
        fs::write(directory.path().join("data/base/1"), vec![1; 2 << 20]).unwrap();
        fs::write(directory.path().join("data/small"), "x").unwrap();
        std::os::unix::fs::symlink("/dev/zero", directory.path().join("data/link")).unwrap();
        begin_writing(directory.path()).unwrap();
        begin_writing(&directory.path().join("gone")).unwrap_err();
    }
}
