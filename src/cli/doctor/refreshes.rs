//! The refreshes of projects: whether they succeed, and whether the newest snapshot is as new as its schedule promises.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cli::Invocation;
use crate::cli::table::{ago, coarse};
use crate::control::model::{RefreshView, StatusView};

use super::{Finding, Level};

/// Lists them, where a daemon answers.
pub(super) async fn examine(invocation: &Invocation) -> Vec<Finding> {
    let Ok(client) = invocation.client() else {
        return Vec::new();
    };
    let client = client.with_timeout(super::DAEMON_TIMEOUT);
    // Without one, another check has said so.
    let status = client.get::<StatusView>("/v1/status").await;
    let refreshes = status.map(|status| status.refresh).unwrap_or_default();
    let now = Timestamp::now();
    let findings = refreshes.iter();
    findings
        .map(|(project, refresh)| finding(project, refresh, now))
        .collect()
}

pub(in crate::cli) fn finding(project: &str, refresh: &RefreshView, now: Timestamp) -> Finding {
    let subject = format!("refresh of {project}");
    if let Some(error) = &refresh.last_error {
        let message = format!("the last one failed: {}", error.message);
        return Finding {
            hint: error.hint.clone(),
            ..Finding::new(Level::Warn, &subject, message)
        };
    }
    let Some(period) = refresh.period_seconds.map(Duration::from_secs) else {
        return Finding::new(Level::Ok, &subject, "by command only");
    };
    let limit = SignedDuration::try_from(period * 2).unwrap_or(SignedDuration::MAX);
    match refresh.newest_taken_at {
        Some(taken) if now.duration_since(taken) > limit => {
            let (age, period) = (ago(taken, now), coarse(period));
            let message =
                format!("the newest snapshot is {age} old, and there should be one every {period}");
            Finding::new(Level::Warn, &subject, message)
                .hint("\"multidb job ls\" and the daemon's log say what became of the refreshes.")
        }
        Some(taken) => {
            let message = format!("the newest snapshot is {} old", ago(taken, now));
            Finding::new(Level::Ok, &subject, message)
        }
        None => Finding::new(Level::Warn, &subject, "there is no snapshot yet").hint(format!(
            "Run \"multidb snapshot refresh --project {project}\"."
        )),
    }
}
