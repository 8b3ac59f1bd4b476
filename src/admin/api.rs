//! The paths and the JSON of the admin socket.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`StatusView`] |
//! | `GET /v1/instances` | list of [`InstanceView`] |
//! | `GET /v1/instances/{name}` | [`InstanceView`] with `exclusive_bytes` and `awake_because` |
//! | `DELETE /v1/instances/{name}` | [`DeletedView`] |
//! | `POST /v1/instances/{name}/{start,stop,reset,pin,unpin}` | [`InstanceView`]; `pin` takes a [`PinBody`] |
//! | `GET /v1/instances/{name}/logs?lines=N` | [`LogsView`] |
//! | `GET /v1/snapshots` | list of [`SnapshotView`] |
//! | `GET /v1/snapshots/{id}` | [`SnapshotView`] with `applied` |
//! | `DELETE /v1/snapshots/{id}?force=true` | nothing |
//! | `POST /v1/snapshots/import` | takes an [`ImportBody`]; a line of JSON for each [`ImportEvent`] |
//! | `GET /v1/snapshots/explain?project=P&gitref=REF` | [`ExplainView`] |
//! | `GET /v1/connections` | list of [`ConnectionView`] |
//! | `DELETE /v1/connections/{id}` | nothing |
//! | `POST /v1/users/reload` | [`UsersView`], once the file of users has been read again |
//!
//! What fails answers with [`ErrorBody`] and status 400, 404, 409 or 500. Fields may be added, so
//! readers ignore those that they do not know.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// Its root directory.
    pub root: PathBuf,
    /// What runs Postgres: `docker` or `process`.
    pub runtime: String,
    /// The number of instances in each state that has any.
    pub instances: BTreeMap<String, usize>,
    /// The number of open sessions.
    pub connections: usize,
    /// The number of snapshots.
    pub snapshots: usize,
    /// How snapshots are cloned: `btrfs-snapshot`, `reflink` or `copy`.
    pub clone_method: String,
    /// The bytes free on the root's file system.
    pub disk_free_bytes: u64,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// What it is doing: `cloning`, `stopped`, `starting`, `running`, `stopping`, `failed` or
    /// `deleting`.
    pub state: String,
    /// The snapshot that it is a clone of.
    pub snapshot: String,
    /// The revision that the client named at creation.
    pub gitref: Option<String>,
    /// The commit that the revision meant then.
    pub commit: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a session last began or ended.
    pub last_used_at: Timestamp,
    /// When it will be deleted if nobody uses it; none if never.
    pub expires_at: Option<Timestamp>,
    /// Whether it is exempt from expiry now.
    pub pinned: bool,
    /// Until when it is; none if not, or for good.
    pub pinned_until: Option<Timestamp>,
    /// Its open sessions.
    pub connections: usize,
    /// The major version of its Postgres.
    pub postgres_major: u16,
    /// What runs its Postgres: `docker` or `process`.
    pub runtime: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The identity of its clone, which names directories and containers.
    pub uid: String,
    /// Grows by one with each reset.
    pub generation: u64,
    /// The multidb user who created it.
    pub created_by: String,
    /// Why its last job failed, if it did.
    pub failure: Option<String>,
    /// The bytes that only this clone holds: only where one instance is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_bytes: Option<u64>,
    /// What keeps it running now: its sessions, and what Postgres does of its own accord. Only
    /// where one instance is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awake_because: Option<Vec<String>>,
    /// How many sessions the command ended: only in the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_ended: Option<usize>,
}

/// What the deletion of an instance took with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedView {
    /// How many sessions it ended.
    pub sessions_ended: usize,
}

/// How an instance is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinBody {
    /// For how long; for good where it is none.
    #[serde(default)]
    pub for_seconds: Option<u64>,
}

/// The end of an instance's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsView {
    /// Its lines, oldest first.
    pub lines: Vec<String>,
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersView {
    /// How many users there are; 0 where everybody is trusted.
    pub users: usize,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: String,
    /// When its data was taken from the source database.
    pub taken_at: Timestamp,
    /// When the import ended.
    pub imported_at: Timestamp,
    /// The major version of Postgres that wrote it.
    pub postgres_major: u16,
    /// The sum of its files' sizes.
    pub bytes: u64,
    /// The number of its files.
    pub files: u64,
    /// The number of applied migrations.
    pub migrations: usize,
    /// The number of instances that are clones of it.
    pub instances: usize,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where it came from, for people.
    pub source: String,
    /// The applied migrations: only where one snapshot is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Vec<String>>,
}

/// What to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// The id of the new snapshot.
    pub id: String,
    /// Its project.
    pub project: String,
    /// Where the data is.
    pub source: ImportSource,
    /// When the data was taken; the daemon finds out where it is none.
    #[serde(default)]
    pub taken_at: Option<Timestamp>,
    /// The major version to restore a dump into; the daemon chooses where it is none.
    #[serde(default)]
    pub postgres_major: Option<u16>,
}

/// Where data is imported from: `{"data_dir": "/path"}` or `{"dump": "/path"}`, absolute, as the
/// daemon sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportSource {
    /// The data directory of a Postgres that was shut down cleanly.
    DataDir(PathBuf),
    /// A dump that pg_dump made, in any of its formats, compressed or not.
    Dump(PathBuf),
}

/// One line of an import's answer. The last one is `done` or `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum ImportEvent {
    /// It goes on.
    Progress {
        /// What it does, for people.
        step: String,
        /// The bytes done in this step.
        done: u64,
        /// The bytes to do in this step, where they are known.
        total: Option<u64>,
    },
    /// The snapshot is there.
    Done {
        /// The snapshot.
        snapshot: SnapshotView,
    },
    /// Nothing was imported.
    Failed {
        /// Why.
        error: ErrorInfo,
    },
}

/// How a snapshot is chosen for a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainView {
    /// The project.
    pub project: String,
    /// The revision.
    pub gitref: String,
    /// The commit that it means.
    pub commit: String,
    /// The object id of the migration listing there.
    pub listing: String,
    /// The number of migrations that the listing defines.
    pub defined: usize,
    /// The id of the snapshot that is chosen; none where none is compatible.
    pub chosen: Option<String>,
    /// The project's snapshots, newest first.
    pub snapshots: Vec<VerdictView>,
}

/// Whether one snapshot is compatible with a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictView {
    /// The snapshot's id.
    pub id: String,
    /// When its data was taken from the source database.
    pub taken_at: Timestamp,
    /// Whether all its applied migrations are defined at the revision.
    pub compatible: bool,
    /// The number of those that are not.
    pub missing_total: usize,
    /// The first of those that are not.
    pub missing: Vec<String>,
}

/// One open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Its number, unique while the daemon runs.
    pub id: u64,
    /// Where the client is.
    pub peer: String,
    /// The version of TLS that it uses; none if it does not.
    pub tls: Option<String>,
    /// The multidb user.
    pub user: String,
    /// The instance.
    pub instance: String,
    /// The database.
    pub database: String,
    /// The Postgres role.
    pub role: String,
    /// What the client calls itself.
    pub application_name: String,
    /// `idle`, `active`, `idle in transaction`, `in COPY`, `listening` or `replicating`.
    pub state: String,
    /// When the client connected.
    pub connected_at: Timestamp,
    /// The seconds since anything passed.
    pub idle_seconds: u64,
    /// The bytes that came from the client.
    pub client_bytes: u64,
    /// The bytes that came from Postgres.
    pub backend_bytes: u64,
}

/// The answer where something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed.
    pub error: ErrorInfo,
}

/// What failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// In one line.
    pub message: String,
    /// More about it.
    #[serde(default)]
    pub detail: Option<String>,
    /// What to do.
    #[serde(default)]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn an_import_is_asked_for_with_one_source() {
        let body = ImportBody {
            id: "monday".to_owned(),
            project: "polls".to_owned(),
            source: ImportSource::DataDir(PathBuf::from("/d")),
            taken_at: None,
            postgres_major: Some(15),
        };
        let written = to_value(&body).unwrap();
        assert_eq!(written["source"], json!({"data_dir": "/d"}));
        assert_eq!(from_value::<ImportBody>(written).unwrap(), body);
        let short = json!({"id": "i", "project": "p", "source": {"dump": "/x"}});
        let source = from_value::<ImportBody>(short).unwrap().source;
        assert_eq!(source, ImportSource::Dump(PathBuf::from("/x")));
    }

    #[test]
    fn an_event_names_itself() {
        let event = ImportEvent::Progress {
            step: "restore".to_owned(),
            done: 1,
            total: None,
        };
        let expected = json!({"event": "progress", "step": "restore", "done": 1, "total": null});
        assert_eq!(to_value(event).unwrap(), expected);
        let failed = json!({"event": "failed", "error": {"message": "disk full"}});
        let event: ImportEvent = from_value(failed).unwrap();
        assert!(matches!(event, ImportEvent::Failed { error } if error.message == "disk full"));
    }
}
