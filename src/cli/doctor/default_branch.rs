//! Each project's newest snapshot against its default branch, as the daemon compares them.

use crate::admin::client::with_query;
use crate::cli::Invocation;
use crate::config::Config;
use crate::control::model::{ExplainView, VerdictView};

use super::{Finding, Level};

/// Compares them, where a daemon and the repository answer: without them other checks have said why.
pub(super) async fn examine(config: &Config, invocation: &Invocation) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Ok(client) = invocation.client() else {
        return findings;
    };
    // The daemon asks the remote within this time.
    let client = client.with_timeout(config.fetch_timeout + super::DAEMON_TIMEOUT);
    for project in config.projects.keys() {
        let query = [
            ("gitref", Some("HEAD".to_owned())),
            ("project", Some(project.to_string())),
        ];
        let path = with_query("/v1/snapshots/explain", &query);
        if let Ok(explained) = client.get::<ExplainView>(&path).await
            && let Some(newest) = explained.snapshots.first()
        {
            findings.push(finding(project.as_str(), newest));
        }
    }
    findings
}

fn finding(project: &str, newest: &VerdictView) -> Finding {
    let subject = format!("project {project}");
    if newest.compatible {
        let fits = format!("snapshot {} fits the default branch", newest.id);
        return Finding::new(Level::Ok, &subject, fits);
    }
    let more = match newest.missing_total.saturating_sub(newest.missing.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "the newest snapshot {} does not fit the default branch, which does not define {}{more}",
        newest.id,
        newest.missing.join(", ")
    );
    Finding::new(Level::Warn, &subject, message).hint(
        "Clients that name the branch get an older snapshot or an error; \"multidb snapshot explain --gitref HEAD\" shows \
         the whole decision.",
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn newest_snapshot_that_does_not_fit_is_a_warning() {
        let verdict = |missing_total, missing: &[&str]| VerdictView {
            id: "tuesday".to_owned(),
            taken_at: Timestamp::UNIX_EPOCH,
            compatible: missing_total == 0,
            missing_total,
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(finding("p", &verdict(0, &[])).level, Level::Ok);
        let found = finding("p", &verdict(3, &["a.0001", "a.0002"]));
        assert_eq!(found.level, Level::Warn);
        let lacking = "does not define a.0001, a.0002 and 1 more";
        assert!(found.message.ends_with(lacking), "{}", found.message);
    }
}
