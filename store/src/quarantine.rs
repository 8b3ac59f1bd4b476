//! `quarantine/`: clones with complete data that no name can have, kept with their manifests until an operator
//! decides. Nothing in it is ever deleted by itself.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};

use crate::ids::InstanceUid;
use crate::layout::Layout;
use crate::records::InstanceRecord;
use crate::{atomic_file, clones, error_chain, manifest};

/// The file beside the manifest that tells why the clone is here.
const NOTE: &str = "quarantine.json";
const NOTE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o711;

/// Why and when a clone was quarantined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// A quarantined clone.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// Its directory.
    pub directory: PathBuf,
    /// Its uid, by the name of the directory; none if the name is no uid.
    pub uid: Option<InstanceUid>,
    /// Why and when it was quarantined; none where that was lost.
    pub note: Option<Note>,
    /// Its record, or why it cannot be read.
    pub manifest: Result<InstanceRecord, String>,
}

/// The quarantined clones, by directory.
pub fn list(layout: &Layout) -> Vec<Quarantined> {
    let directories = clones::subdirectories(&layout.quarantine()).into_iter();
    directories
        .map(|directory| {
            let name = directory.file_name().and_then(|name| name.to_str());
            let uid = name.and_then(|name| name.parse().ok());
            Quarantined {
                note: read_note(&directory),
                manifest: read_record(&directory, uid),
                uid,
                directory,
            }
        })
        .collect()
}

fn read_record(directory: &Path, uid: Option<InstanceUid>) -> Result<InstanceRecord, String> {
    let read = manifest::read::<InstanceRecord>(directory);
    let record = read.map_err(|error| error_chain(&error))?;
    if uid == Some(record.uid) {
        Ok(record)
    } else {
        Err(format!("it names the clone {}", record.uid))
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.manifest, self.uid) {
            (Ok(record), _) => write!(f, "\"{}\" ({})", record.name, record.uid),
            (Err(_), Some(uid)) => uid.fmt(f),
            (Err(_), None) => self.directory.display().fmt(f),
        }
    }
}

fn read_note(directory: &Path) -> Option<Note> {
    let text = manifest::read_file(&directory.join(NOTE)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Moves a clone from `instances/` to the quarantine. Durable when it returns. No server may run on it. A clone that is
/// there already stays there.
///
/// # Errors
///
/// A step failed. The clone is then in one of the two places, and a second call completes the move.
pub fn put(layout: &Layout, uid: InstanceUid, note: &Note) -> io::Result<()> {
    let (from, to) = (
        layout.instance(uid),
        layout.quarantine().join(uid.to_string()),
    );
    let is_moved = !from.exists() && to.exists();
    if !is_moved {
        match fs::create_dir(layout.quarantine()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                made?;
                set_mode(&layout.quarantine())?;
            }
        }
        let text = serde_json::to_vec_pretty(note).map_err(io::Error::other)?;
        atomic_file::replace(&from.join(NOTE), &text, NOTE_MODE, |_| Ok(()))?;
        fs::rename(&from, to)?;
    }
    // Also after a call that moved it and failed at one of these.
    atomic_file::sync_directory(layout.root())?;
    atomic_file::sync_directory(&layout.quarantine())?;
    atomic_file::sync_directory(&layout.instances())
}

/// Moves a quarantined clone back to `instances/`, with this record as its manifest. Durable when it returns. The
/// manifest is first, so that a start after a crash finds the clone in the quarantine, or in its place under the name
/// and the epoch of this record.
///
/// # Errors
///
/// It is not there, its data is missing, or a step failed. It is then in the quarantine as it was, unless the disk failed
/// once it was in its place: the next start of the daemon finds it there, as after a crash.
pub fn take(layout: &Layout, record: &InstanceRecord) -> io::Result<()> {
    let from = layout.quarantine().join(record.uid.to_string());
    let to = layout.instance(record.uid);
    if !from.join("data").is_dir() {
        return Err(io::Error::new(ErrorKind::NotFound, "it has no data"));
    }
    let before = manifest::read::<InstanceRecord>(&from).map_err(io::Error::other)?;
    manifest::write(&from, record).map_err(io::Error::other)?;
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    if let Err(error) = rustix::fs::renameat_with(CWD, &from, CWD, &to, flags) {
        manifest::write(&from, &before).map_err(io::Error::other)?;
        return Err(error.into());
    }
    atomic_file::sync_directory(&layout.instances())?;
    atomic_file::sync_directory(&layout.quarantine())?;
    // Only doctor reads it, and only in the quarantine.
    let _left = fs::remove_file(to.join(NOTE));
    Ok(())
}

fn set_mode(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::example;

    #[test]
    fn clone_goes_to_the_quarantine_with_its_reason_and_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let record = example();
        fs::create_dir_all(layout.instance_data(record.uid)).unwrap();
        manifest::write(&layout.instance(record.uid), &record).unwrap();
        let note = Note {
            why: "its manifest is damaged".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        put(&layout, record.uid, &note).unwrap();
        assert!(!layout.instance(record.uid).exists());
        let [quarantined] = &list(&layout)[..] else {
            panic!("{:?}", list(&layout));
        };
        assert_eq!(quarantined.note.as_ref(), Some(&note));
        assert_eq!(quarantined.manifest.as_ref(), Ok(&record));
        put(&layout, record.uid, &note).unwrap();
        let newer = InstanceRecord {
            epoch: record.epoch + 1,
            ..record.clone()
        };
        // Something in its place is left alone, and so is the clone.
        fs::create_dir_all(layout.instance(record.uid)).unwrap();
        let error = take(&layout, &newer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(list(&layout)[0].manifest.as_ref(), Ok(&record));
        fs::remove_dir(layout.instance(record.uid)).unwrap();
        take(&layout, &newer).unwrap();
        assert!(list(&layout).is_empty());
        assert!(layout.instance_data(record.uid).is_dir());
        let read: InstanceRecord = manifest::read(&layout.instance(record.uid)).unwrap();
        assert_eq!(read, newer);
        assert_eq!(
            take(&layout, &newer).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn clone_with_a_damaged_manifest_is_listed() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let uid = example().uid;
        fs::create_dir_all(layout.instance_data(uid)).unwrap();
        fs::write(layout.instance(uid).join(manifest::FILE_NAME), "{").unwrap();
        let note = Note {
            why: "why".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        put(&layout, uid, &note).unwrap();
        assert!(list(&layout)[0].manifest.is_err());
    }
}
