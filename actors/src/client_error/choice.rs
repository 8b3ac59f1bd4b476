//! Errors of finding or creating an instance. Only authenticated clients see them, so they name existing instances,
//! snapshots and projects.

use multidb_store::InstanceName;

use super::ClientError;
use crate::ports::RevisionError;
use crate::project::ProjectError;
use crate::snapshot_index::ChooseError;
use crate::snapshot_index::cause::Cause;
use crate::snapshot_index::decision::NearestMiss;
use crate::supervisor::AcquireError;
use crate::text::{self, quoted};
use crate::wire::sqlstate;

impl From<&AcquireError> for ClientError {
    fn from(error: &AcquireError) -> Self {
        let message = error.to_string();
        match error {
            AcquireError::ShuttingDown => Self::shutting_down(),
            AcquireError::NoSuchInstance { instance } => {
                Self::new(sqlstate::INVALID_CATALOG_NAME, message).hint(creation_hint(instance))
            }
            AcquireError::GivenUp { instance } => Self::given_up(instance),
            AcquireError::InstanceOfOtherProject { .. } => {
                Self::new(sqlstate::INVALID_PARAMETER_VALUE, message)
                    .hint("Use another instance name, or leave the project out.")
            }
            AcquireError::Unavailable { unavailable, .. } => {
                Self::of_unavailable(message, unavailable)
            }
            AcquireError::TtlTooLong { retention, .. } => {
                Self::new(sqlstate::INVALID_PARAMETER_VALUE, message).hint(format!(
                    "Give a ttl of at most {} (limits.retention), or leave it out; \"multidb instance pin\" keeps an instance for longer.",
                    text::duration(*retention)
                ))
            }
            AcquireError::NoSuchParent { .. } => Self::new(sqlstate::INVALID_CATALOG_NAME, message)
                .hint("List instances with \"multidb instance ls\"."),
            AcquireError::Parent { parent, error, .. } => Self::of_instance(parent, error),
            AcquireError::Unanswered => Self::internal(),
            AcquireError::Project(error) => {
                Self::of_project(error, "Add \"project:NAME\" to the user name.")
            }
            AcquireError::Denied(reason) => reason.into(),
            AcquireError::Choose(error) => error.into(),
        }
    }
}

fn creation_hint(instance: &InstanceName) -> String {
    format!(
        "To create it, add \"gitref:REVISION\", \"snapshot:latest\" or \"asof:DATE\" to the user name, as in \"instance:{instance},gitref:REVISION\"."
    )
}

impl ClientError {
    /// The error of a request without a project. The hint says how to name one.
    pub(super) fn of_project(error: &ProjectError, how_to_name: &str) -> Self {
        let message = error.to_string();
        let projects = |known| format!("Configured projects: {}.", text::list(known));
        match error {
            ProjectError::NoProject => Self::new(sqlstate::INVALID_CATALOG_NAME, message)
                .hint("Add a [project.NAME] section to multidb's configuration."),
            ProjectError::NoSuchProject { known, .. } => {
                Self::new(sqlstate::INVALID_CATALOG_NAME, message).detail(projects(known))
            }
            ProjectError::ProjectNeeded { known } => {
                Self::new(sqlstate::INVALID_PARAMETER_VALUE, message)
                    .detail(projects(known))
                    .hint(how_to_name)
            }
        }
    }
}

impl From<&ChooseError> for ClientError {
    fn from(error: &ChooseError) -> Self {
        let message = error.to_string();
        match error {
            ChooseError::NoSuchSnapshot { .. } => Self::new(sqlstate::INVALID_CATALOG_NAME, message)
                .hint("List snapshots with \"multidb snapshot ls\", or take the newest with \"snapshot:latest\"."),
            ChooseError::NoSnapshots { .. } => Self::new(sqlstate::INVALID_CATALOG_NAME, message)
                .hint("Import one with \"multidb snapshot import\"."),
            ChooseError::NoSnapshotAsOf { oldest, .. } => {
                Self::new(sqlstate::INVALID_CATALOG_NAME, message)
                    .detail(format!("Its oldest snapshot was taken at {oldest}."))
            }
            ChooseError::NoCompatibleSnapshot { nearest, .. } => {
                Self::new(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .detail(missing_migrations(nearest))
                    .hint(cause_hint(&nearest.cause))
            }
            ChooseError::IndexUnavailable => Self::internal(),
            ChooseError::Revision(error) => error.into(),
        }
    }
}

fn missing_migrations(nearest: &NearestMiss) -> String {
    let missing: Vec<String> = nearest.missing.iter().map(|m| quoted(m)).collect();
    format!(
        "The nearest is snapshot \"{}\", which has migrations that the revision does not define: {}.",
        nearest.snapshot,
        text::list_of(&missing, nearest.missing_total),
    )
}

/// Advice where migrations are missing for this cause.
fn cause_hint(cause: &Cause) -> String {
    const CHOOSE: &str = "choose a snapshot with \"snapshot:\" or \"asof:\"";
    match cause {
        Cause::EmptyListing => {
            format!("The revision's listing is empty. Commit one that has them, or {CHOOSE}.")
        }
        Cause::NothingInCommon => format!(
            "The revision's listing has no migration of that snapshot: see that it is this project's, in the form of the snapshot's migrations, or {CHOOSE}."
        ),
        Cause::UnknownApps { apps } => {
            let globs: Vec<String> = apps.iter().map(|app| format!("\"{app}.*\"")).collect();
            format!(
                "The revision's listing has nothing of {}. If these apps are removed or of packages, set ignore = [{}] in the project's section of multidb's configuration; otherwise {CHOOSE}.",
                text::list(apps),
                globs.join(", ")
            )
        }
        Cause::Squashed { squashed } => format!(
            "The squashed migration {} may replace them: add \"replaces\" and their names to its line in the listing, or {CHOOSE}.",
            quoted(squashed)
        ),
        Cause::Newer => format!(
            "Rebase onto a revision that defines them, import an older snapshot, or {CHOOSE}."
        ),
        Cause::Other => {
            format!("Take a revision that defines them, import an older snapshot, or {CHOOSE}.")
        }
    }
}

impl From<&RevisionError> for ClientError {
    fn from(error: &RevisionError) -> Self {
        let refusal = |sqlstate| {
            let mut refusal = Self::new(sqlstate, error.to_string());
            if let Some(detail) = error.detail() {
                refusal = refusal.detail(detail);
            }
            match error.hint() {
                Some(hint) => refusal.hint(hint),
                None => refusal,
            }
        };
        match error {
            RevisionError::Unknown { .. }
            | RevisionError::Expression { .. }
            | RevisionError::Ambiguous { .. } => refusal(sqlstate::INVALID_PARAMETER_VALUE),
            RevisionError::BeingFetched => refusal(sqlstate::CANNOT_CONNECT_NOW),
            RevisionError::ListingMissing { .. } => refusal(sqlstate::INVALID_PARAMETER_VALUE).hint(
                "Choose a revision that has the file, or a snapshot with \"snapshot:\" or \"asof:\".",
            ),
            RevisionError::ListingNotUnderstood { .. } => refusal(sqlstate::INVALID_PARAMETER_VALUE).hint(
                "Write a migration a line, such as \"polls.0001_initial\", or choose a snapshot with \"snapshot:\" or \"asof:\".",
            ),
            RevisionError::Repository { form, .. } => {
                let unreadable =
                    Self::new(sqlstate::SYSTEM_ERROR, "the git repository cannot be read");
                match form {
                    Some(form) => unreadable.detail(form.detail()).hint(form.hint()),
                    None => unreadable,
                }
            }
            RevisionError::Disk(error) => {
                Self::of_disk("the git repository cannot be fetched".to_owned(), error)
            }
        }
    }
}
