//! The labels of multidb's containers: the root and the purpose of each.
//!
//! A daemon touches only containers whose label has the identity of its root, so that daemons with different roots can
//! share an engine with each other and with other programs, and a root that was moved finds its containers. The path of
//! the root is a label for people. It counts only where there is no identity, in containers of an earlier version.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use multidb_store::{InstanceUid, RootId};

use crate::runtime::{Purpose, ServerSpec};

const ROOT: &str = "multidb.root";
const ROOT_ID: &str = "multidb.root-id";
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
    id: RootId,
    root: PathBuf,
}

impl Labels {
    pub(super) fn new(id: RootId, root: &Path) -> Self {
        let root = root.to_owned();
        Self { id, root }
    }

    /// The filter for the containers of all roots.
    pub(super) fn filter() -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![ROOT.to_owned()])])
    }

    /// The filter for the containers of a server, of all roots: a copied root has the same uids.
    pub(super) fn filter_of(uid: InstanceUid) -> HashMap<String, Vec<String>> {
        let labels = vec![ROOT.to_owned(), format!("{UID}={uid}")];
        HashMap::from([("label".to_owned(), labels)])
    }

    /// The name of a server's container. It has a part of the root's identity, since a copied root has the same uids.
    pub(super) fn container_name(&self, uid: InstanceUid) -> String {
        const ROOT_DIGITS: usize = 8;
        format!("multidb-{uid}-{}", &self.root_name()[..ROOT_DIGITS])
    }

    /// Whether a container with these labels has this data directory, regardless of its root.
    pub(super) fn name_data(labels: &HashMap<String, String>, data_dir: &Path) -> bool {
        let data = labels.get(DATA);
        data.is_some_and(|data| is_same_directory(Path::new(data), data_dir))
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
        let root = Path::new(labels.get(ROOT)?);
        let is_ours = match labels.get(ROOT_ID) {
            Some(id) => id.parse() == Ok(self.id),
            None => is_same_directory(root, &self.root),
        };
        if !is_ours {
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
            data_dir: self.moved(root, labels.get(DATA)?),
            log: self.moved(root, labels.get(LOG)?),
        })
    }

    /// The present place of a path under the root, which may have been moved since the container was made.
    fn moved(&self, root: &Path, path: &str) -> PathBuf {
        match Path::new(path).strip_prefix(root) {
            Ok(below) => self.root.join(below),
            Err(_) => path.into(),
        }
    }

    /// A short name for the root, the same in every run of the daemon.
    pub(super) fn root_name(&self) -> String {
        self.id.to_string()
    }

    fn with<const N: usize>(&self, labels: [(&str, String); N]) -> HashMap<String, String> {
        labels
            .into_iter()
            .chain([
                (ROOT, self.root.to_string_lossy().into_owned()),
                (ROOT_ID, self.id.to_string()),
            ])
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

/// Whether two paths lead to one directory.
fn is_same_directory(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(root: &str) -> ServerSpec {
        ServerSpec {
            uid: InstanceUid::from_bits(0xabc),
            name: "pr-1".to_owned(),
            purpose: Purpose::Import,
            postgres_major: 15,
            data_dir: Path::new(root).join("data"),
            log: Path::new(root).join("log"),
            settings: Vec::new(),
        }
    }

    fn server_in(root: &str) -> Option<Role> {
        let spec = spec(root);
        Some(Role::Server {
            uid: spec.uid,
            purpose: Purpose::Import,
            data_dir: spec.data_dir,
            log: spec.log,
        })
    }

    fn labels(id: u128, root: &str) -> Labels {
        Labels::new(RootId::from_bits(id), Path::new(root))
    }

    #[test]
    fn labels_are_read_back_and_those_of_another_root_are_ignored() {
        let ours = labels(1, "/srv/multidb");
        let made = ours.server(&spec("/srv/multidb"));
        assert_eq!(ours.role(&made), server_in("/srv/multidb"));
        // Another root that lies where ours was.
        assert_eq!(labels(2, "/srv/multidb").role(&made), None);
        assert_eq!(ours.role(&ours.pause()), Some(Role::Pause));
        let daemon = "d1".to_owned();
        assert_eq!(
            ours.role(&ours.program("d1")),
            Some(Role::Program { daemon })
        );
        assert_eq!(ours.role(&HashMap::new()), None);
        let others = labels(2, "/srv/multidb").root_name();
        assert_ne!(ours.root_name(), others);
    }

    #[test]
    fn containers_of_a_root_that_was_moved_are_found_with_their_present_paths() {
        let made = labels(1, "/srv/old").server(&spec("/srv/old"));
        assert_eq!(labels(1, "/srv/new").role(&made), server_in("/srv/new"));
    }

    #[test]
    fn containers_of_the_earlier_version_are_known_by_the_path_of_their_root() {
        let directory = tempfile::tempdir().unwrap();
        let (root, link) = (directory.path().join("root"), directory.path().join("link"));
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&root, &link).unwrap();
        let (root, link) = (root.to_str().unwrap(), link.to_str().unwrap());
        let mut made = labels(1, root).server(&spec(root));
        made.remove(ROOT_ID);
        assert_eq!(labels(2, root).role(&made), server_in(root));
        assert_eq!(labels(2, link).role(&made), server_in(link));
        assert_eq!(labels(2, "/srv/other").role(&made), None);
    }
}
