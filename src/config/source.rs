//! Which file the configuration is read from.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ConfigFaults, DEFAULT_PATH, Fault};

/// The file and its text; none where no file was named and there is none at the default path.
pub(super) fn read(path: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigFaults> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some((file.to_owned(), text))),
        Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigFaults {
            file: Some(file.to_owned()),
            faults: vec![Fault::new("", format!("it cannot be read: {error}"))],
        }),
    }
}
