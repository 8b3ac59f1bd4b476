//! Parts of the daemon's status.

use jiff::Timestamp;
use multidb_store::SnapshotId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::JobErrorView;

/// A disk that is, or was, above `limits.disk_high_water`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PressureView {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The bytes that are used above the mark; 0 if it is below it again.
    pub bytes_above: u64,
    /// The last steps that were taken, oldest first.
    pub steps: Vec<PressureStepView>,
    /// Whether there is nothing more that may be deleted by itself.
    pub nothing_left: bool,
}

/// A step that made room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PressureStepView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What was done, for people.
    pub what: String,
    /// The bytes that the disk had more of afterwards.
    pub bytes_freed: u64,
}

/// The clones of a project's newest snapshot that are kept ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrewarmedView {
    /// How many are configured.
    pub wanted: usize,
    /// How many there are.
    pub ready: usize,
    /// Their snapshot; none while there are none.
    #[schema(value_type = Option<String>)]
    pub snapshot: Option<SnapshotId>,
    /// The bytes that are theirs alone.
    pub exclusive_bytes: u64,
}

/// A limit of the configuration, as `config show` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitView {
    /// Its key in the configuration.
    pub key: String,
    /// The effective value.
    pub value: String,
    /// `default`, `file` or `option`.
    pub origin: String,
}

/// A user who has to wait at an address after too many failed logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingLoginView {
    /// The address, or the network of an IPv6 address.
    pub address: String,
    /// The user; none for all that have failed at an address with too many failures of its own.
    pub user: Option<String>,
    /// The seconds that are left.
    pub seconds: u64,
}

/// A target of notifications, since the daemon started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyView {
    /// The program, or the URL without what may be secret in it.
    pub target: String,
    /// The events that it is told.
    pub on: Vec<String>,
    /// The messages that wait.
    pub queued: usize,
    /// The messages that it took.
    pub sent: u64,
    /// The messages that it did not take in all attempts, or refused.
    pub failed: u64,
    /// The messages that were dropped, since too many waited.
    pub dropped: u64,
    /// When it last took one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_sent_at: Option<Timestamp>,
    /// The error of the last attempt; none unless that failed.
    pub last_error: Option<String>,
}

/// What became of a message that tried a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyTestView {
    /// The program, or the URL without what may be secret in it.
    pub target: String,
    /// Why it did not take it; none if it did.
    pub error: Option<String>,
}

/// The refreshes of one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshView {
    /// When the last one ended that made a snapshot.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success_at: Option<Timestamp>,
    /// Why the last one failed; none unless it did.
    pub last_error: Option<JobErrorView>,
    /// When the next one begins by itself; none without a schedule.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// How many have failed since the last one that did not.
    pub failures: usize,
    /// When the data of the project's newest snapshot was taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest_taken_at: Option<Timestamp>,
    /// The longest time between two refreshes of its schedule; none without one.
    pub period_seconds: Option<u64>,
}
