//! The newest snapshot of a project against its default branch: who imports one learns that it fits no client before the
//! first client does.

use actix::Addr;
use multidb_actors::client_error::ClientError;
use multidb_actors::ports::RevisionError;
use multidb_actors::snapshot_index::{ChooseError, Explain, SnapshotIndex};
use multidb_store::{ProjectName, SnapshotId, error_chain};

/// The name of the default branch.
pub(super) const DEFAULT_BRANCH: &str = "HEAD";

/// Why a snapshot does not fit the default branch of its project, if it is the newest one and does not.
pub(super) async fn misfit(
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
    let newest = decision.verdicts.first()?;
    let nearest = newest.miss().filter(|miss| miss.snapshot == *snapshot)?;
    let lacking = nearest.missing.first()?;
    let more = match nearest.missing_total {
        1 => String::new(),
        several => format!(" and {} more", several - 1),
    };
    let mut warning = format!(
        "the default branch of the repository does not define \"{lacking}\"{more}, which the snapshot has: clients that \
         name the branch get an older snapshot or an error"
    );
    let error = ChooseError::NoCompatibleSnapshot {
        project,
        gitref: DEFAULT_BRANCH.to_owned(),
        nearest,
    };
    if let Some(hint) = ClientError::from(&error).hint {
        warning.push_str(". ");
        warning.push_str(hint.trim_end_matches('.'));
    }
    Some(warning)
}
