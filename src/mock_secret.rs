//! The secret behind the challenges to unknown users. It is kept in `state/`, as Postgres keeps its own
//! in `pg_control`: a salt that changes with a restart tells that the user does not exist.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context as _;
use multidb_actors::auth::MockSecret;
use multidb_store::{DiskFault, Layout};

use crate::fsutil::atomic_file;

/// Its name in `state/`.
const FILE: &str = "mock-secret";
/// Only the daemon reads it.
const MODE: u32 = 0o600;

/// Reads the secret, or makes one where there is none.
///
/// # Errors
///
/// The file cannot be read or written, or is too short.
pub fn load(layout: &Layout) -> anyhow::Result<MockSecret> {
    let path = layout.state().join(FILE);
    let what = || format!("cannot read or write {}", path.display());
    match read(&path) {
        Ok(secret) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path).with_context(what),
        Err(error) => Err(error).with_context(what),
    }
}

fn read(path: &Path) -> io::Result<MockSecret> {
    let mut bytes = [0; MockSecret::BYTES];
    File::open(path)?.read_exact(&mut bytes)?;
    Ok(MockSecret::from_bytes(bytes))
}

fn create(path: &Path) -> io::Result<MockSecret> {
    let secret = MockSecret::random();
    match atomic_file::replace(path, secret.as_bytes(), MODE, |_| Ok(())) {
        Err(error) if DiskFault::of(&error).is_some() => {
            tracing::warn!(path = %path.display(), %error, "the secret of mock challenges is not kept, so a restart tells which users exist");
        }
        written => written?,
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_is_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        std::fs::create_dir_all(layout.state()).unwrap();
        let first = load(&layout).unwrap();
        let second = load(&layout).unwrap();
        assert_eq!(first.as_bytes(), second.as_bytes());
        let file = layout.state().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        std::fs::write(&file, b"short").unwrap();
        assert!(load(&layout).is_err());
    }
}
