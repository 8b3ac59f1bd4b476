//! The labels of multidb's containers: the root and the purpose of each.
//!
//! A daemon touches only containers whose label names its root directory, so that daemons with
//! different roots can share an engine with each other and with other programs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use multidb_store::InstanceUid;

use crate::runtime::{Purpose, ServerSpec};

const ROOT: &str = "multidb.root";
const PURPOSE: &str = "multidb.purpose";
const UID: &str = "multidb.uid";
const NAME: &str = "multidb.instance";
const DATA: &str = "multidb.data";
const LOG: &str = "multidb.log";
const DAEMON: &str = "multidb.daemon";

/// The purpose of a container, with the data for taking it over or ending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// It runs a server.
    Server {
        /// The instance or import of the server.
        uid: InstanceUid,
        /// The purpose of the server.
        purpose: Purpose,
        /// The data directory.
        data_dir: PathBuf,
        /// The file that its log is saved to.
        log: PathBuf,
    },
    /// It runs one program for the daemon with this identity.
    Program {
        /// The daemon's identity.
        daemon: String,
    },
    /// It holds the shared network namespace.
    Pause,
}

/// The labels of all containers under one root.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    root: String,
}

impl Labels {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_string_lossy().into_owned(),
        }
    }

    /// The filter for the containers of this root.
    pub(super) fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{ROOT}={}", self.root)])])
    }

    pub(super) fn server(&self, spec: &ServerSpec) -> HashMap<String, String> {
        let purpose = match spec.purpose {
            Purpose::Instance => "instance",
            Purpose::Import => "import",
        };
        self.with([
            (PURPOSE, purpose.to_owned()),
            (UID, spec.uid.to_string()),
            (NAME, spec.name.clone()),
            (DATA, spec.data_dir.to_string_lossy().into_owned()),
            (LOG, spec.log.to_string_lossy().into_owned()),
        ])
    }

    pub(super) fn program(&self, daemon: &str) -> HashMap<String, String> {
        self.with([(PURPOSE, "program".to_owned()), (DAEMON, daemon.to_owned())])
    }

    pub(super) fn pause(&self) -> HashMap<String, String> {
        self.with([(PURPOSE, "pause".to_owned())])
    }

    /// The purpose in these labels; `None` if the container is not of this root.
    pub(super) fn role(&self, labels: &HashMap<String, String>) -> Option<Role> {
        if labels.get(ROOT)? != &self.root {
            return None;
        }
        let purpose = match labels.get(PURPOSE)?.as_str() {
            "instance" => Purpose::Instance,
            "import" => Purpose::Import,
            "program" => {
                let daemon = labels.get(DAEMON)?.clone();
                return Some(Role::Program { daemon });
            }
            "pause" => return Some(Role::Pause),
            _ => return None,
        };
        Some(Role::Server {
            uid: labels.get(UID)?.parse().ok()?,
            purpose,
            data_dir: labels.get(DATA)?.into(),
            log: labels.get(LOG)?.into(),
        })
    }

    /// A short name for the root, the same in every run of the daemon: FNV-1a of its path.
    pub(super) fn root_digest(&self) -> String {
        let digest = self.root.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{digest:016x}")
    }

    fn with<const N: usize>(&self, labels: [(&str, String); N]) -> HashMap<String, String> {
        labels
            .into_iter()
            .chain([(ROOT, self.root.clone())])
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_back_and_those_of_another_root_are_ignored() {
        let ours = Labels::new(Path::new("/srv/multidb"));
        let other = Labels::new(Path::new("/srv/other"));
        let spec = ServerSpec {
            uid: InstanceUid::from_bits(0xabc),
            name: "pr-1".to_owned(),
            purpose: Purpose::Import,
            postgres_major: 15,
            data_dir: "/srv/multidb/data".into(),
            log: "/srv/multidb/log".into(),
            settings: Vec::new(),
        };
        let role = ours.role(&ours.server(&spec));
        assert_eq!(
            role,
            Some(Role::Server {
                uid: spec.uid,
                purpose: Purpose::Import,
                data_dir: spec.data_dir.clone(),
                log: spec.log.clone(),
            })
        );
        assert_eq!(other.role(&ours.server(&spec)), None);
        assert_eq!(ours.role(&ours.pause()), Some(Role::Pause));
        let daemon = "d1".to_owned();
        assert_eq!(
            ours.role(&ours.program("d1")),
            Some(Role::Program { daemon })
        );
        assert_eq!(ours.role(&HashMap::new()), None);
        assert_ne!(ours.root_digest(), other.root_digest());
    }
}
