//! NOTICEs about how a session's instance came to be. The session goes on.

use multidb_store::{InstanceName, SnapshotId};

use crate::request::Source;

/// A NOTICE of multidb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientNotice {
    /// The message, without the prefix.
    pub message: String,
    /// The DETAIL.
    pub detail: Option<String>,
    /// The HINT.
    pub hint: Option<String>,
}

impl ClientNotice {
    /// The instance was created for this session.
    pub fn created(instance: &InstanceName, snapshot: &SnapshotId) -> Self {
        Self {
            message: format!("created instance \"{instance}\" from snapshot \"{snapshot}\""),
            detail: None,
            hint: None,
        }
    }

    /// The instance exists already, and the client's source would choose another snapshot now.
    pub fn other_snapshot(
        instance: &InstanceName,
        snapshot: &SnapshotId,
        source: &Source,
        now: &SnapshotId,
    ) -> Self {
        Self {
            message: format!(
                "instance \"{instance}\" exists already, created from snapshot \"{snapshot}\""
            ),
            detail: Some(format!(
                "\"{source}\" would choose snapshot \"{now}\" now, but applies only to a new instance."
            )),
            hint: Some("Use another instance name to get a new instance.".to_owned()),
        }
    }

    /// The instance exists already, and the snapshot that the client's source would choose is unknown.
    pub fn source_ignored(instance: &InstanceName, source: &Source) -> Self {
        Self {
            message: format!("instance \"{instance}\" exists already, so \"{source}\" was ignored"),
            detail: None,
            hint: None,
        }
    }
}
