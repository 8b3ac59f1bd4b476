//! Each project's newest snapshot against its default branch, as the daemon compares them.

use multidb_store::Layout;

use crate::admin::api::ErrorInfo;
use crate::admin::client::{AdminError, with_query};
use crate::cli::Invocation;
use crate::config::{Config, GitRemote};
use crate::control::default_branch::{DEFAULT_BRANCH, misfit};
use crate::control::model::{ExplainView, VerdictView};

use crate::git::refused_form;

use super::{Finding, Level};

/// Compares them, where a daemon answers.
pub(super) async fn examine(config: &Config, invocation: &Invocation) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Ok(client) = invocation.client() else {
        return findings;
    };
    // The daemon asks the remote within this time.
    let client = client.with_timeout(config.fetch_timeout + super::DAEMON_TIMEOUT);
    for (name, project) in &config.projects {
        let query = [
            ("gitref", Some(DEFAULT_BRANCH.to_owned())),
            ("project", Some(name.to_string())),
        ];
        let path = with_query("/v1/snapshots/explain", &query);
        let subject = format!("project {name}");
        match client.get::<ExplainView>(&path).await {
            Ok(explained) => {
                let mut newest = explained.snapshots.iter();
                let newest = newest.find(|verdict| verdict.passed_over_for.is_none());
                findings.extend(newest.map(|newest| fit(&subject, newest)));
            }
            Err(AdminError::Refused(refused)) => {
                // Of a local repository other checks have said so, and of a partial clone.
                let mirror = Layout::new(&config.root).git_mirror(name);
                let is_remote = matches!(project.git, GitRemote::Remote(_));
                if is_remote && refused_form(&project.git, &mirror).is_none() {
                    findings.push(unreadable(&subject, refused));
                }
            }
            // Other checks have said so.
            Err(_) => {}
        }
    }
    findings
}

/// The default branch of a remote has no listing, or cannot be had.
fn unreadable(subject: &str, refused: ErrorInfo) -> Finding {
    let message = match refused.detail {
        Some(detail) => format!("its default branch: {}. {detail}", refused.message),
        None => format!("its default branch: {}", refused.message),
    };
    Finding {
        hint: refused.hint,
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
