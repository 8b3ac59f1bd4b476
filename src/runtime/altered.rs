//! The settings that ALTER SYSTEM wrote into an instance's data, one of which may keep its server from starting.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use crate::fsutil::beneath::{Directory, TreeError};

const FILE: &str = "postgresql.auto.conf";
/// The file as it was before its settings were left out.
const SAVED: &str = "postgresql.auto.conf.left-out";
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most settings that an error names.
const SHOWN_MAX: usize = 10;

/// The settings that this data has beyond its snapshot's, with the numbers of their lines.
///
/// # Errors
///
/// A file cannot be read.
pub fn altered(data: &Path, snapshot: &Path) -> Result<Vec<String>, TreeError> {
    let original = read(snapshot).unwrap_or_default();
    let original: HashSet<&str> = original.lines().map(str::trim).collect();
    let present = read(data)?;
    let lines = present.lines().map(str::trim).enumerate();
    let altered = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .filter(|(_, line)| !original.contains(line))
        .map(|(number, line)| format!("line {} of {FILE}: {line}", number + 1));
    Ok(altered.take(SHOWN_MAX).collect())
}

/// Gives the data the settings of its snapshot, or none where that is gone, and keeps its own in a file beside it.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn leave_out(data: &Path, snapshot: &Path) -> Result<(), TreeError> {
    let original = read(snapshot).unwrap_or_default();
    let present = read(data)?;
    if present == original {
        return Ok(());
    }
    // Beside the data, where only the daemon writes.
    let saved = data.with_file_name(SAVED);
    std::fs::write(&saved, &present).map_err(|source| TreeError::Io {
        action: "write",
        path: saved,
        source,
    })?;
    Directory::open(data)?.replace(OsStr::new(FILE), original.as_bytes())
}

fn read(data: &Path) -> Result<String, TreeError> {
    let bytes = Directory::open(data)?.read(FILE, FILE_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn settings_over_those_of_the_snapshot_are_named_and_left_out() {
        let root = tempfile::tempdir().unwrap();
        let [data, snapshot] = ["data", "snapshot"].map(|name| root.path().join(name));
        for directory in [&data, &snapshot] {
            fs::create_dir(directory).unwrap();
        }
        let original = "# Do not edit\nwork_mem = '8MB'\n";
        let present = format!("{original}shared_buffers = '900GB'\n");
        fs::write(snapshot.join(FILE), original).unwrap();
        fs::write(data.join(FILE), &present).unwrap();
        let line = "line 3 of postgresql.auto.conf: shared_buffers = '900GB'";
        assert_eq!(altered(&data, &snapshot).unwrap(), [line]);
        leave_out(&data, &snapshot).unwrap();
        assert_eq!(fs::read_to_string(data.join(FILE)).unwrap(), original);
        let saved = || fs::read_to_string(root.path().join(SAVED)).unwrap();
        assert_eq!(saved(), present);
        assert!(altered(&data, &snapshot).unwrap().is_empty());
        // Without the snapshot all of them are left out.
        leave_out(&data, &root.path().join("gone")).unwrap();
        assert_eq!(fs::read_to_string(data.join(FILE)).unwrap(), "");
        assert_eq!(saved(), original);
    }
}
