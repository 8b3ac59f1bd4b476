//! The requests and answers of the service.
//!
//! Answers are serialized as they are. Their field names are a public contract: in the JSON of the
//! admin socket, in `--json` and as column names. Fields may be added, never renamed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{
    Class, DiskFault, InstanceName, PassedError, Prepared, ProjectName, SnapshotId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::import::ErrorPolicy;

mod explain;
mod history;
mod status;

pub use self::explain::{ExplainView, UnconfirmedView, VerdictView};
pub use self::history::HappeningView;
pub use self::status::{
    LimitView, NotifyTestView, NotifyView, PressureStepView, PressureView, PrewarmedView,
    RefreshView, WaitingLoginView,
};
pub use crate::diff::{DiffView, MigrationsDiff, ObjectDiff, SideView, TableRows};
pub use multidb_actors::instance_table::InstanceFilter;

/// Instances to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffOrder {
    /// The first one.
    pub a: InstanceName,
    /// The second one; without it, what the first one was cloned from.
    pub b: Option<InstanceName>,
    /// How long the rows of each are counted.
    pub count_time: Duration,
}

/// A snapshot to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOrder {
    /// The id of the new snapshot.
    pub id: SnapshotId,
    /// Its project.
    pub project: ProjectName,
    /// The data directory or dump.
    pub source: OrderSource,
    /// When the data was taken; read from the source without it.
    pub taken_at: Option<Timestamp>,
    /// The major version of Postgres to restore a dump with; that of the dump without it.
    pub postgres_major: Option<u16>,
    /// What is done at an error of a dump's statement.
    pub errors: ErrorPolicy,
}

/// The source of an import: `{"data_dir": "/path"}` or `{"dump": "/path"}`, absolute, on the daemon's machine;
/// `{"upload": {"name": "-"}}`; `{"server": {"url": "postgres://…"}}`; or `{"instance": "name"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderSource {
    /// The data directory of a Postgres that was shut down cleanly.
    DataDir(PathBuf),
    /// A dump in any format of pg_dump, compressed or not.
    Dump(PathBuf),
    /// A dump in one file, which the client sends to the job that imports it.
    Upload(UploadInfo),
    /// A running server.
    Server(ServerInfo),
    /// An instance as it is now.
    Instance(InstanceName),
}

/// A running server to copy from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerInfo {
    /// Its URL in the form of libpq, without a password.
    pub url: String,
    /// Whether one database is dumped, in place of a copy of all files.
    #[serde(default)]
    pub logical: bool,
    /// The file with the password, absolute, on the daemon's machine.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub passfile: Option<PathBuf>,
}

/// A dump that a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadInfo {
    /// Its path at the client, or `-`, for people.
    #[schema(value_type = String)]
    pub name: PathBuf,
    /// Its size, if it is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// The time of the file, if it is one.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub modified_at: Option<Timestamp>,
}

/// The daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// The addresses that clients connect to.
    pub listen: Vec<String>,
    /// Its root directory.
    #[schema(value_type = String)]
    pub root: PathBuf,
    /// `docker` or `process`.
    pub runtime: String,
    /// The number of instances by state; states without instances are left out.
    pub instances: BTreeMap<String, usize>,
    /// The number of open sessions.
    pub connections: usize,
    /// The number of snapshots.
    pub snapshots: usize,
    /// The number of jobs that run.
    pub jobs: usize,
    /// `btrfs-snapshot`, `reflink` or `copy`; `unknown` while the disk does not let a probe through.
    pub clone_method: String,
    /// The bytes free on the root's file system.
    pub disk_free_bytes: u64,
    /// The bytes that are exclusive to one of the measured instances and snapshots; none before the first of them.
    #[serde(default)]
    pub exclusive_bytes: Option<u64>,
    /// The bytes that full copies would take beyond what is used; likewise.
    #[serde(default)]
    pub disk_saved_bytes: Option<u64>,
    /// How full that file system is, in percent.
    #[serde(default)]
    pub disk_used_percent: u8,
    /// Above which percentage room is made; none where it is not.
    #[serde(default)]
    pub disk_high_water: Option<u8>,
    /// What was done when it was last above that; none if it never was since the daemon's start.
    #[serde(default)]
    pub disk_pressure: Option<PressureView>,
    /// The instances that may not take more of the disk, and are stopped for that.
    #[serde(default)]
    pub over_limit: Vec<String>,
    /// How much of the memory is used, in percent; none where that cannot be told.
    #[serde(default)]
    pub memory_used_percent: Option<u8>,
    /// Above which percentage no instance starts; none where it does.
    #[serde(default)]
    pub memory_high_water: Option<u8>,
    /// `no_disk_space`, `read_only_disk` or `disk_failed` if records cannot be written.
    pub disk_fault: Option<DiskFault>,
    /// The number of instances that are marked as expired.
    pub marked: usize,
    /// For how many seconds no instance expires, since the wall clock jumped; none where expiry goes on.
    pub expiry_paused_seconds: Option<u64>,
    /// Who has to wait after too many failed logins.
    #[serde(default)]
    pub waiting_logins: Vec<WaitingLoginView>,
    /// The refreshes of the projects that have a source, by project.
    #[serde(default)]
    pub refresh: BTreeMap<String, RefreshView>,
    /// The clones that are kept ready, by project; only of projects with `prewarm`.
    #[serde(default)]
    pub prewarmed: BTreeMap<String, PrewarmedView>,
    /// The targets of notifications.
    #[serde(default)]
    pub notify: Vec<NotifyView>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// `cloning`, `stopped`, `starting`, `running`, `stopping`, `failed`, `unavailable` or
    /// `deleting`.
    pub state: String,
    /// What its start waits for: `slot` while `max_running` instances run, or the memory is above its mark; none otherwise.
    pub waiting_for: Option<String>,
    /// The snapshot that it was cloned from.
    pub snapshot: String,
    /// The instance that it was cloned from, if it was made from one.
    #[serde(default)]
    pub parent: Option<String>,
    /// What a reset gives a clone of another instance: `base`, the state that it began with, or `snapshot`, where that
    /// is not kept. Only in the answers about one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_to: Option<String>,
    /// `durable`, or `scratch`: without fsync, and cloned afresh after an unclean end.
    #[serde(default)]
    pub class: Class,
    /// The seconds without use after which it expires, if it has a time of its own.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// The revision that the client named at creation.
    pub gitref: Option<String>,
    /// The commit of that revision at creation.
    pub commit: Option<String>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a session last began or ended, or an administrator last asked for it. Never goes back.
    #[schema(value_type = String, format = DateTime)]
    pub last_used_at: Timestamp,
    /// When it is deleted if it stays unused and the daemon goes on running; none for never. Never in the past.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was marked as expired; none unless it is marked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub marked_at: Option<Timestamp>,
    /// Whether it is exempt from expiry now.
    pub pinned: bool,
    /// The end of the pin; none without a pin, and for a pin without an end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pinned_until: Option<Timestamp>,
    /// Its open sessions.
    pub connections: usize,
    /// The major version of its Postgres.
    pub postgres_major: u16,
    /// `docker` or `process`.
    pub runtime: String,
    /// Its data directory.
    #[schema(value_type = String)]
    pub data_dir: PathBuf,
    /// The identity of its clone, which names directories and containers.
    pub uid: String,
    /// Grows by one with each reset.
    pub epoch: u64,
    /// The multidb user that created it.
    pub created_by: String,
    /// The error of its last job, if that failed.
    pub failure: Option<String>,
    /// What to do about the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// A login that nobody gets through, since Postgres cannot load a library for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_fault: Option<String>,
    /// The bytes that no snapshot or other clone shares; none until they were measured, in the background.
    #[serde(default)]
    pub exclusive_bytes: Option<u64>,
    /// The sessions and background work of Postgres that keep it running. Only when one instance is
    /// shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awake_because: Option<Vec<String>>,
    /// The last that has happened to it, earliest first. Only when one instance is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<HappeningView>>,
    /// The number of sessions that the command ended. Only in the answer to a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_ended: Option<usize>,
}

/// A deleted instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedView {
    /// The number of sessions that the deletion ended.
    pub sessions_ended: usize,
}

/// The end of an instance's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogsView {
    /// Its lines, oldest first.
    pub lines: Vec<String>,
}

/// A project of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectView {
    /// Its name.
    pub name: String,
    /// The database that its clients connect to, where the configuration names one.
    pub database: String,
    /// The Postgres role of clients that name none.
    pub role: String,
    /// Whether it has a source to refresh from.
    pub refreshes: bool,
}

/// The users that may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsersView {
    /// Their number; 0 with `auth.method = "trust"`.
    pub users: usize,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotView {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: String,
    /// When its data was taken from the source database.
    #[schema(value_type = String, format = DateTime)]
    pub taken_at: Timestamp,
    /// When the import ended.
    #[schema(value_type = String, format = DateTime)]
    pub imported_at: Timestamp,
    /// The major version of Postgres that wrote it.
    pub postgres_major: u16,
    /// The sum of its files' sizes.
    pub bytes: u64,
    /// The bytes that no other snapshot or instance shares; none until they were measured, in the background.
    #[serde(default)]
    pub exclusive_bytes: Option<u64>,
    /// The number of its files.
    pub files: u64,
    /// The number of applied migrations.
    pub migrations: usize,
    /// The number of instances that were cloned from it.
    pub instances: usize,
    /// Its data directory.
    #[schema(value_type = String)]
    pub data_dir: PathBuf,
    /// What it was made from, for people.
    pub source: String,
    /// The instance that it was made from, if it was made from one.
    #[serde(default)]
    pub from_instance: Option<String>,
    /// Whether it was made from that by itself, by `publish = "auto"`.
    #[serde(default)]
    pub derived: bool,
    /// The applied migrations. Only when one snapshot is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Vec<String>>,
    /// How many errors of the dump's statements the import went past.
    #[serde(default)]
    pub errors_passed: u64,
    /// The first of them. Only when one snapshot is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_errors: Option<Vec<PassedError>>,
    /// The SHA-256 of each preparation that ran on its data, in their order.
    #[serde(default)]
    pub prepared_by: Vec<String>,
    /// These preparations. Only when one snapshot is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparations: Option<Vec<Prepared>>,
    /// Whether it is exempt from the rule of its project now.
    #[serde(default)]
    pub pinned: bool,
    /// The end of the pin; none without a pin, and for a pin without an end.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pinned_until: Option<Timestamp>,
    /// Why it is kept, and until when; empty if it goes at the next occasion.
    #[serde(default)]
    pub kept_because: Vec<String>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its number.
    pub id: u64,
    /// The kind of its work: `import`, `refresh` or `dedup`.
    pub kind: String,
    /// The project that it works for.
    pub project: String,
    /// The snapshot that it makes, if it makes one.
    pub snapshot: Option<String>,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// Its current or last step, for people.
    pub step: Option<String>,
    /// The bytes done in this step.
    pub bytes_done: u64,
    /// The bytes of this step, if known.
    pub bytes_total: Option<u64>,
    /// When it began to run; none while it is queued.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Why it failed; none unless it did.
    pub error: Option<JobErrorView>,
    /// Remarks that are no failure, oldest first.
    pub warnings: Vec<String>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobErrorView {
    /// A stable word in `snake_case`, for programs.
    pub code: String,
    /// The message, in one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// Advice, in a sentence.
    pub hint: Option<String>,
}

impl JobView {
    /// Whether it has ended. It does not change afterwards.
    pub fn is_ended(&self) -> bool {
        self.ended_at.is_some()
    }
}

/// How far snapshots share their blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DedupView {
    /// Whether it begins by itself, after each import.
    pub enabled: bool,
    /// Whether it waits for `dedup resume`.
    pub paused: bool,
    /// It reads at most so many bytes a second.
    pub bandwidth: u64,
    /// The bytes of all snapshots that were compared.
    pub bytes_examined: u64,
    /// The bytes of them whose blocks are those of a newer snapshot.
    pub bytes_shared: u64,
    /// The bytes of them that were freed.
    pub bytes_saved: u64,
    /// The snapshots by project, newest first.
    pub snapshots: Vec<SnapshotDedupView>,
}

/// How far one snapshot shares the blocks of a newer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotDedupView {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: String,
    /// When its data was taken.
    #[schema(value_type = String, format = DateTime)]
    pub taken_at: Timestamp,
    /// The sum of its files' sizes.
    pub bytes: u64,
    /// The newer snapshot; none before the first comparison, and for the newest one.
    pub onto: Option<String>,
    /// When the comparison was complete; none while it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The bytes that were compared.
    pub bytes_examined: u64,
    /// The bytes whose blocks are those of the newer one.
    pub bytes_shared: u64,
    /// The bytes of them that were freed.
    pub bytes_saved: u64,
    /// Its extents after the comparison.
    pub extents: Option<u64>,
}

/// One open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionView {
    /// Its number, unique while the daemon runs.
    pub id: u64,
    /// The client's address.
    pub peer: String,
    /// The TLS version; none without TLS.
    pub tls: Option<String>,
    /// The multidb user.
    pub user: String,
    /// The instance; none for the console.
    pub instance: Option<String>,
    /// The database.
    pub database: String,
    /// The Postgres role; none for the console.
    pub role: Option<String>,
    /// The client's `application_name`.
    pub application_name: String,
    /// `idle`, `active`, `idle in transaction`, `in COPY`, `listening` or `replicating`.
    pub state: String,
    /// When the client connected.
    #[schema(value_type = String, format = DateTime)]
    pub connected_at: Timestamp,
    /// The seconds since the last byte in either direction.
    pub idle_seconds: u64,
    /// The bytes received from the client.
    pub client_bytes: u64,
    /// The bytes received from Postgres.
    pub backend_bytes: u64,
}
