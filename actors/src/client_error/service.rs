//! Errors of an instance: its clone, its start, its Postgres.

use std::time::Duration;

use multidb_store::InstanceName;

use super::{ClientError, text};
use crate::ports::{CloneError, StartError};
use crate::wire::sqlstate;

/// The most lines of Postgres' log in an error.
const LOG_LINES_MAX: usize = 10;
/// The longest line of Postgres' log in an error, in characters.
const LOG_LINE_LENGTH_MAX: usize = 300;

impl ClientError {
    /// The instance's data could not be made.
    pub fn clone_failed(instance: &InstanceName, error: &CloneError) -> Self {
        match error {
            CloneError::NoSpace {
                free_bytes,
                reserve_bytes,
            } => Self::fatal(
                sqlstate::DISK_FULL,
                format!("no disk space for instance \"{instance}\""),
            )
            .detail(format!(
                "{} are free, and limits.disk_reserve keeps {}.",
                text::bytes(*free_bytes),
                text::bytes(*reserve_bytes)
            ))
            .hint("Remove instances or snapshots that are no longer needed."),
            CloneError::SnapshotDamaged { snapshot, .. } => Self::fatal(
                sqlstate::DATA_CORRUPTED,
                format!("snapshot \"{snapshot}\" is damaged"),
            )
            .hint("Choose another snapshot, or have this one imported again."),
            CloneError::Failed { .. } => Self::fatal(
                sqlstate::SYSTEM_ERROR,
                format!("could not make instance \"{instance}\""),
            ),
        }
    }

    /// Postgres did not start on the instance's data.
    pub fn start_failed(instance: &InstanceName, error: &StartError) -> Self {
        let failed = Self::fatal(
            sqlstate::SYSTEM_ERROR,
            format!("could not start Postgres for instance \"{instance}\""),
        );
        match error {
            StartError::Exited { status, log } => {
                let end = text::sentence(&format!("it ended with {status}"));
                let lines = last_lines(log);
                if lines.is_empty() {
                    failed.detail(format!("{end} Its log is empty."))
                } else {
                    failed.detail(format!("{end} Its log ends so:\n{}", lines.join("\n")))
                }
            }
            StartError::Runtime(_) => failed,
        }
    }

    /// The instance's last Postgres has not been stopped, so there can be no new one on its data.
    pub fn stop_failed(instance: &InstanceName) -> Self {
        Self::fatal(
            sqlstate::SYSTEM_ERROR,
            format!("could not start Postgres for instance \"{instance}\""),
        )
        .detail("The one that ran before could not be stopped, which is tried again.")
        .hint("Try again in a moment.")
    }

    /// Postgres did not accept connections in time.
    pub fn start_timeout(instance: &InstanceName, limit: Duration) -> Self {
        Self::fatal(
            sqlstate::CANNOT_CONNECT_NOW,
            format!("instance \"{instance}\" is not ready"),
        )
        .detail(format!(
            "It did not accept connections within {} (limits.start_timeout).",
            text::duration(limit)
        ))
        .hint("Try again in a moment.")
    }

    /// All instances that may run are in use, and none came free in time.
    pub fn too_many_running(instance: &InstanceName, max: usize, waited: Duration) -> Self {
        Self::fatal(
            sqlstate::TOO_MANY_CONNECTIONS,
            format!("too many running instances to start \"{instance}\""),
        )
        .detail(format!(
            "All {max} that limits.max_running allows are in use, and none came free within {}.",
            text::duration(waited)
        ))
        .hint("Try again later, or end the sessions of another instance.")
    }

    /// The instance's Postgres closed the connection, or spoke nonsense, during the login.
    pub fn backend_lost(instance: &InstanceName) -> Self {
        Self::fatal(
            sqlstate::CONNECTION_FAILURE,
            format!("Postgres of instance \"{instance}\" closed the connection during the login"),
        )
        .hint("Try again; \"multidb instance logs\" shows what Postgres said.")
    }
}

/// The end of a log, bounded in both directions.
fn last_lines(log: &[String]) -> Vec<String> {
    let skipped = log.len().saturating_sub(LOG_LINES_MAX);
    log.iter()
        .skip(skipped)
        .map(|line| {
            let end = line.char_indices().nth(LOG_LINE_LENGTH_MAX);
            match end {
                Some((end, _)) => format!("{}…", &line[..end]),
                None => line.clone(),
            }
        })
        .collect()
}
