//! The newest snapshot of a project against its default branch: the operator who imports a snapshot learns that it fits
//! no client before the first client does. `multidb doctor` says the same.

use actix::Addr;
use multidb_actors::ports::RevisionError;
use multidb_actors::snapshot_index::{ChooseError, Explain, SnapshotIndex};
use multidb_store::{ProjectName, SnapshotId, error_chain};

use super::model::VerdictView;
use super::snapshots::verdict_view;

/// The name of the default branch.
pub(crate) const DEFAULT_BRANCH: &str = "HEAD";

/// A snapshot that does not fit the default branch of its project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The error, which names the migrations that the branch does not define.
    pub(crate) message: String,
    /// The remedy, as a sentence.
    pub(crate) hint: Option<String>,
}

/// The error of a newest snapshot that does not fit the default branch.
pub(crate) fn misfit(newest: &VerdictView) -> Option<Misfit> {
    if newest.compatible {
        return None;
    }
    let more = match newest.missing_total.saturating_sub(newest.missing.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Misfit {
        message: format!(
            "the newest snapshot {} does not fit the default branch, which does not define {}{more}: clients that name the \
             branch get an older snapshot or an error",
            newest.id,
            newest.missing.join(", ")
        ),
        hint: newest.hint.clone(),
    })
}

/// The warning of an import, if its snapshot is the newest one and does not fit the default branch.
pub(super) async fn warning(
    index: &Addr<SnapshotIndex>,
    project: ProjectName,
    snapshot: &SnapshotId,
) -> Option<String> {
    let explained = index.send(Explain {
        project: project.clone(),
        gitref: DEFAULT_BRANCH.to_owned(),
    });
    let (_, decision) = match explained.await.ok()? {
        Ok(explained) => explained,
        Err(ChooseError::Revision(
            error @ (RevisionError::ListingMissing { .. }
            | RevisionError::ListingNotUnderstood { .. }),
        )) => {
            return Some(format!(
                "no client can name the default branch of the repository: {error}"
            ));
        }
        Err(error) => {
            // The repository may come later.
            let error = error_chain(&error);
            tracing::info!(%project, error, "the snapshot was not compared with the default branch");
            return None;
        }
    };
    let newest = decision.candidates().next()?;
    if newest.snapshot.id != *snapshot {
        return None;
    }
    let Misfit { message, hint } = misfit(&verdict_view(newest, DEFAULT_BRANCH))?;
    Some(match hint {
        Some(hint) => format!("{message}. {}", hint.trim_end_matches('.')),
        None => message,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn newest_snapshot_that_does_not_fit_is_told_with_what_it_lacks() {
        let verdict = |missing_total, missing: &[&str]| VerdictView {
            id: "tuesday".to_owned(),
            taken_at: Timestamp::UNIX_EPOCH,
            compatible: missing_total == 0,
            missing_total,
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
            hint: None,
            passed_over_for: None,
        };
        assert_eq!(misfit(&verdict(0, &[])), None);
        let misfit = misfit(&verdict(3, &["a.0001", "a.0002"])).unwrap();
        let lacking = "does not define a.0001, a.0002 and 1 more: ";
        assert!(misfit.message.contains(lacking), "{}", misfit.message);
    }
}
