//! The refreshes of projects: whether they succeed, and whether the newest snapshot is as new as its schedule promises.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Finding, Level};
use crate::control::model::{RefreshView, StatusView};
use crate::text::{ago, coarse};

/// Checks the refreshes of all projects.
pub(super) fn examine(status: &StatusView) -> Vec<Finding> {
    let now = Timestamp::now();
    let refreshes = status.refresh.iter();
    refreshes
        .map(|(project, refresh)| finding(project, refresh, now))
        .collect()
}

pub(crate) fn finding(project: &str, refresh: &RefreshView, now: Timestamp) -> Finding {
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
