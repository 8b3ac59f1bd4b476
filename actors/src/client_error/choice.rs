//! Errors of choosing a snapshot. Only authenticated clients see them, so they name what exists.

use jiff::Timestamp;
use multidb_store::{InstanceName, ProjectName, SnapshotId};

use super::ClientError;
use super::text::{self, LIST_LENGTH_MAX};
use crate::ports::RevisionError;
use crate::request::quoted;
use crate::wire::sqlstate;

/// The snapshot that came nearest to being compatible with a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestMiss {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The first of its applied migrations that the revision does not define.
    pub missing: Vec<String>,
    /// How many there are in all.
    pub missing_total: usize,
}

impl ClientError {
    /// The instance does not exist, and the client did not say what to create it from.
    pub fn no_such_instance(instance: &InstanceName) -> Self {
        Self::fatal(
            sqlstate::INVALID_CATALOG_NAME,
            format!("instance \"{instance}\" does not exist"),
        )
        .hint(format!(
            "To create it, say what from: \"instance:{instance},gitref:REVISION\", \"snapshot:latest\" or \"asof:DATE\"."
        ))
    }

    /// The instance belongs to another project than the client says.
    pub fn instance_of_other_project(
        instance: &InstanceName,
        project: &ProjectName,
        asked: &ProjectName,
    ) -> Self {
        Self::fatal(
            sqlstate::INVALID_PARAMETER_VALUE,
            format!("instance \"{instance}\" belongs to project \"{project}\", not \"{asked}\""),
        )
        .hint("Use another instance name, or leave the project out.")
    }

    /// No such project is configured.
    pub fn no_such_project(project: &ProjectName, known: &[ProjectName]) -> Self {
        let error = Self::fatal(
            sqlstate::INVALID_CATALOG_NAME,
            format!("project \"{project}\" does not exist"),
        );
        if known.is_empty() {
            error.detail("No project is configured.")
        } else {
            error.detail(format!("The projects are {}.", text::list(known)))
        }
    }

    /// No project is configured at all, so nothing can be created.
    pub fn no_project() -> Self {
        Self::fatal(sqlstate::INVALID_CATALOG_NAME, "no project is configured")
            .hint("Add a [project.NAME] section to multidb's configuration.")
    }

    /// Several projects are configured, and the client did not say which.
    pub fn project_needed(known: &[ProjectName]) -> Self {
        Self::fatal(
            sqlstate::INVALID_PARAMETER_VALUE,
            "several projects are configured and none is named",
        )
        .detail(format!("The projects are {}.", text::list(known)))
        .hint("Add project:NAME to the user name.")
    }

    /// The project has no snapshot of this id.
    pub fn no_such_snapshot(snapshot: &SnapshotId, project: &ProjectName) -> Self {
        Self::fatal(
            sqlstate::INVALID_CATALOG_NAME,
            format!("project \"{project}\" has no snapshot \"{snapshot}\""),
        )
        .hint("\"multidb snapshot ls\" lists the snapshots; snapshot:latest takes the newest.")
    }

    /// The project has no snapshot at all.
    pub fn no_snapshots(project: &ProjectName) -> Self {
        Self::fatal(
            sqlstate::INVALID_CATALOG_NAME,
            format!("project \"{project}\" has no snapshots"),
        )
        .hint("\"multidb snapshot import\" makes one.")
    }

    /// All snapshots of the project are newer than the client asks for.
    pub fn no_snapshot_as_of(time: Timestamp, project: &ProjectName, oldest: Timestamp) -> Self {
        Self::fatal(
            sqlstate::INVALID_CATALOG_NAME,
            format!("project \"{project}\" has no snapshot as old as {time}"),
        )
        .detail(format!("Its oldest snapshot was taken at {oldest}."))
    }

    /// No snapshot of the project is compatible with the revision. Without a nearest miss, the
    /// project has no snapshots.
    pub fn no_compatible_snapshot(
        gitref: &str,
        project: &ProjectName,
        nearest: Option<&NearestMiss>,
    ) -> Self {
        let Some(nearest) = nearest else {
            return Self::no_snapshots(project);
        };
        let shown = nearest.missing.len().min(LIST_LENGTH_MAX);
        let missing: Vec<String> = nearest
            .missing
            .iter()
            .take(shown)
            .map(|m| quoted(m))
            .collect();
        let more = nearest.missing_total.saturating_sub(shown);
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        Self::fatal(
            sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "no snapshot of project \"{project}\" is compatible with revision {}",
                quoted(gitref)
            ),
        )
        .detail(format!(
            "The nearest is snapshot \"{}\", which has applied what the revision does not define: {}{more}.",
            nearest.snapshot,
            missing.join(", "),
        ))
        .hint("Rebase onto a revision that defines them, import an older snapshot, or choose one with snapshot: or asof:.")
    }
}

impl From<RevisionError> for ClientError {
    fn from(error: RevisionError) -> Self {
        match error {
            RevisionError::Unknown {
                gitref,
                fetch_failure,
            } => {
                let error = Self::fatal(
                    sqlstate::INVALID_PARAMETER_VALUE,
                    format!("revision {} is unknown", quoted(&gitref)),
                );
                // The failure's own text may hold URLs with credentials, so the log has it.
                match fetch_failure {
                    Some(_) => error
                        .detail("The git remote could not be asked; multidb's log says why.")
                        .hint("Try again once the remote answers."),
                    None => {
                        error.hint("Give a commit, branch or tag, and push it before you connect.")
                    }
                }
            }
            RevisionError::Ambiguous { gitref, candidates } => Self::fatal(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("revision {} is ambiguous", quoted(&gitref)),
            )
            .detail(format!("It may be {}.", text::list(&candidates)))
            .hint("Give more digits of the commit."),
            RevisionError::ListingMissing { commit, path } => Self::fatal(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!(
                    "revision {commit} has no migration listing {}",
                    quoted(&path)
                ),
            )
            .hint("Choose a revision that has the file, or a snapshot with snapshot: or asof:."),
            RevisionError::Repository { .. } => {
                Self::fatal(sqlstate::SYSTEM_ERROR, "the git repository cannot be read")
            }
        }
    }
}
