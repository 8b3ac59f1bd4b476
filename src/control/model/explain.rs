//! The choice of a snapshot, explained.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The choice of a snapshot for a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// The project.
    pub project: String,
    /// The revision.
    pub gitref: String,
    /// Its commit.
    pub commit: String,
    /// The object id of the migration listing at that commit.
    pub listing: String,
    /// Set where the revision may have moved, since the remote does not answer.
    #[serde(default)]
    pub unconfirmed: Option<UnconfirmedView>,
    /// The number of migrations that the listing defines.
    pub defined: usize,
    /// The id of the chosen snapshot; none if no snapshot is compatible.
    pub chosen: Option<String>,
    /// The project's snapshots, newest first.
    pub snapshots: Vec<VerdictView>,
}

/// The state of a reference as it was when the remote last answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnconfirmedView {
    /// The seconds since then, if they are known.
    pub age_s: Option<u64>,
}

/// The compatibility of one snapshot with a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// The snapshot's id.
    pub id: String,
    /// When its data was taken from the source database.
    #[schema(value_type = String, format = DateTime)]
    pub taken_at: Timestamp,
    /// Whether the revision defines all its applied migrations.
    pub compatible: bool,
    /// The number of applied migrations that the revision does not define.
    pub missing_total: usize,
    /// The first of them.
    pub missing: Vec<String>,
    /// What can be done if it is not compatible, as a sentence.
    #[serde(default)]
    pub hint: Option<String>,
    /// Set for a derived snapshot: the fresh one with the same migrations, which is preferred to it.
    #[serde(default)]
    pub passed_over_for: Option<String>,
}
