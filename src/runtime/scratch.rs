//! Servers without fsync, and whether the last one on some data ended cleanly.
//!
//! ```text
//! instances/<uid>/scratch.json     durable before a server starts without fsync; removed when the data is on the disk
//!                                  after a clean shutdown
//! ```
//!
//! | file | `pg_control` | the data |
//! | --- | --- | --- |
//! | none | any | is as a durable server, or the clone, left it |
//! | of this boot | shut down | is complete in the page cache |
//! | of this boot | anything else | ended uncleanly |
//! | of another boot | any | ended uncleanly: the machine went down before the data was on the disk |

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use multidb_store::{InstanceUid, Layout, atomic_file};
use serde::{Deserialize, Serialize};

use super::process::boot_id;
use crate::fsutil::beneath::Directory;

const FILE: &str = "scratch.json";
const FILE_BYTES_MAX: u64 = 4096;
/// The place of the cluster's state in `global/pg_control` (`ControlFileData`, src/include/catalog/pg_control.h), the
/// same in all supported majors, and its value after a shutdown.
const CONTROL_STATE: std::ops::Range<usize> = 16..20;
const SHUT_DOWN: u32 = 1;
const CONTROL_BYTES_MAX: u64 = 8192;

/// The settings of a scratch instance: nothing is done for the sake of a crash, and little in the background.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("checkpoint_timeout", "1h"),
    ("bgwriter_lru_maxpages", "0"),
];

/// The scratch instances of a root.
pub(super) struct Scratch {
    layout: Layout,
    /// The number of starts of each instance, so that the end of an older run removes no file of a newer one.
    starts: Mutex<HashMap<InstanceUid, u64>>,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Unsynced {
    /// The boot of the machine in which the server started.
    boot_id: String,
}

/// How the last run without fsync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastEnd {
    /// Cleanly, or there was none.
    Clean,
    /// Not cleanly: the data must not be used.
    Unclean,
}

impl Scratch {
    /// The scratch instances under this root.
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            starts: Mutex::default(),
        }
    }

    /// The settings, over all others.
    pub(super) fn settings() -> Vec<(String, String)> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        SETTINGS.into_iter().map(own).collect()
    }

    /// Notes durably that a server starts without fsync, unless the last one ended uncleanly. Blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub(super) fn begin(&self, uid: InstanceUid) -> io::Result<LastEnd> {
        let mut starts = self.starts();
        let boot_id = boot_id()?;
        if let Some(last) = self.read(uid)? {
            if last.boot_id != boot_id || !self.is_shut_down(uid) {
                return Ok(LastEnd::Unclean);
            }
        } else {
            let content = serde_json::to_vec(&Unsynced { boot_id })?;
            atomic_file::replace(&self.file(uid), &content, 0o600, |_| Ok(()))?;
        }
        *starts.entry(uid).or_default() += 1;
        Ok(LastEnd::Clean)
    }

    /// Brings the data of a server that was shut down to the disk, and notes that. Blocks for as long as the disk needs.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub(super) fn end(&self, uid: InstanceUid) -> io::Result<()> {
        // Trusted path: only multidb can write the instance's directory.
        if !fs::exists(self.file(uid))? || !self.is_shut_down(uid) {
            return Ok(());
        }
        let ended = self.starts().get(&uid).copied();
        let directory = fs::File::open(self.layout.instance(uid))?;
        rustix::fs::syncfs(&directory)?;
        let mut starts = self.starts();
        if starts.get(&uid).copied() == ended {
            starts.remove(&uid);
            // Trusted path: as above.
            fs::remove_file(self.file(uid))?;
            directory.sync_all()?;
        }
        Ok(())
    }

    /// Whether `pg_control` says that the cluster was shut down. An unreadable file counts as no.
    fn is_shut_down(&self, uid: InstanceUid) -> bool {
        let data = Directory::open(&self.layout.instance_data(uid));
        let control = data.and_then(|data| data.read("global/pg_control", CONTROL_BYTES_MAX));
        let Ok(Some(control)) = control else {
            return false;
        };
        let state = control.get(CONTROL_STATE);
        let state = state.and_then(|state| state.try_into().ok());
        state.map(u32::from_ne_bytes) == Some(SHUT_DOWN)
    }

    fn read(&self, uid: InstanceUid) -> io::Result<Option<Unsynced>> {
        let directory = Directory::open(&self.layout.instance(uid))?;
        let content = directory.read(FILE, FILE_BYTES_MAX)?;
        // A file that is damaged is of no known boot.
        Ok(content.map(|content| {
            serde_json::from_slice(&content).unwrap_or(Unsynced {
                boot_id: String::new(),
            })
        }))
    }

    fn file(&self, uid: InstanceUid) -> PathBuf {
        self.layout.instance(uid).join(FILE)
    }

    fn starts(&self) -> MutexGuard<'_, HashMap<InstanceUid, u64>> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root {
        _dir: tempfile::TempDir,
        layout: Layout,
        scratch: Scratch,
    }

    fn uid() -> InstanceUid {
        InstanceUid::from_bits(7)
    }

    fn root() -> Root {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.instance_data(uid()).join("global")).unwrap();
        let scratch = Scratch::new(layout.clone());
        Root {
            _dir: dir,
            layout,
            scratch,
        }
    }

    impl Root {
        fn set_state(&self, state: u32) {
            let mut control = vec![0; 296];
            control[CONTROL_STATE].copy_from_slice(&state.to_ne_bytes());
            let path = self.layout.instance_data(uid()).join("global/pg_control");
            fs::write(path, control).unwrap();
        }

        fn begin(&self) -> LastEnd {
            self.scratch.begin(uid()).unwrap()
        }
    }

    #[test]
    fn only_a_clean_shutdown_of_this_boot_is_used_again() {
        const IN_PRODUCTION: u32 = 6;
        let root = root();
        root.set_state(IN_PRODUCTION);
        assert_eq!(root.begin(), LastEnd::Clean, "nothing ran without fsync");
        assert_eq!(root.begin(), LastEnd::Unclean);
        root.scratch.end(uid()).unwrap();
        assert_eq!(root.begin(), LastEnd::Unclean);
        root.set_state(SHUT_DOWN);
        assert_eq!(
            root.begin(),
            LastEnd::Clean,
            "before its data is on the disk"
        );
        let other_boot = r#"{"boot_id": "another"}"#;
        fs::write(root.scratch.file(uid()), other_boot).unwrap();
        assert_eq!(root.begin(), LastEnd::Unclean, "the machine went down");
        fs::write(root.scratch.file(uid()), "damage").unwrap();
        assert_eq!(root.begin(), LastEnd::Unclean);
        root.scratch.end(uid()).unwrap();
        assert!(!fs::exists(root.scratch.file(uid())).unwrap());
        root.set_state(IN_PRODUCTION);
        assert_eq!(root.begin(), LastEnd::Clean, "a snapshot's own state");
    }
}
