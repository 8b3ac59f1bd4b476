//! Each project's newest snapshot against its default branch, as the daemon compares them.

use multidb_store::{Layout, ProjectName};

use super::{Finding, Level};
use crate::config::{Config, GitRemote};
use crate::control::default_branch::misfit;
use crate::control::model::{ExplainView, VerdictView};
use crate::git::refused_form;

/// Why a daemon has no decision for a revision.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The message, in one line.
    pub(crate) message: String,
    /// More about it, in sentences.
    pub(crate) detail: Option<String>,
    /// Advice, in a sentence.
    pub(crate) hint: Option<String>,
}

/// Judges a daemon's answers about each project's default branch.
pub(super) fn examine(
    config: &Config,
    told: &[(ProjectName, Result<ExplainView, Refusal>)],
) -> Vec<Finding> {
    let judged = told
        .iter()
        .filter_map(|(name, explained)| judge(config, name, explained));
    judged.collect()
}

fn judge(
    config: &Config,
    name: &ProjectName,
    explained: &Result<ExplainView, Refusal>,
) -> Option<Finding> {
    let subject = format!("project {name}");
    match explained {
        Ok(explained) => {
            let mut newest = explained.snapshots.iter();
            let newest = newest.find(|verdict| verdict.passed_over_for.is_none());
            newest.map(|newest| fit(&subject, newest))
        }
        Err(refused) => {
            // Of a local repository other checks have said so, and of a partial clone.
            let project = config.projects.get(name)?;
            let mirror = Layout::new(&config.root).git_mirror(name);
            let is_remote = matches!(project.git, GitRemote::Remote(_));
            let is_told = is_remote && refused_form(&project.git, &mirror).is_none();
            is_told.then(|| unreadable(&subject, refused))
        }
    }
}

/// The default branch of a remote has no listing, or cannot be had.
fn unreadable(subject: &str, refused: &Refusal) -> Finding {
    let message = match &refused.detail {
        Some(detail) => format!("its default branch: {}. {detail}", refused.message),
        None => format!("its default branch: {}", refused.message),
    };
    Finding {
        hint: refused.hint.clone(),
        ..Finding::new(Level::Warn, subject, message)
    }
}

fn fit(subject: &str, newest: &VerdictView) -> Finding {
    let Some(misfit) = misfit(newest) else {
        let fits = format!("snapshot {} fits the default branch", newest.id);
        return Finding::new(Level::Ok, subject, fits);
    };
    Finding {
        hint: misfit.hint,
        ..Finding::new(Level::Warn, subject, misfit.message)
    }
}
