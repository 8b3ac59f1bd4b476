//! The preparations of a snapshot: the scripts and commands that the operator runs on restored data before a client can
//! see it.
//!
//! Masking is of use only if the masked values are gone from the files too. So once all preparations have run,
//! [`mod@rewrite`] writes everything anew, and [`leftovers`] removes the files that the cluster does not have.

mod command;
mod files;
mod leftovers;
mod rewrite;
mod sql;

use std::path::PathBuf;
use std::time::Duration;

use multidb_store::Prepared;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(super) use self::leftovers::{Kept, remove_leftovers};
use super::cluster::Cluster;
use super::context::Context;
use super::error::ImportError;
use super::progress::Step;

/// One preparation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// Its work.
    pub run: PreparationRun,
    /// The time that it may take; without one, as long as the import is not cancelled.
    pub timeout: Option<Duration>,
}

/// The work of a preparation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PreparationRun {
    /// The statements of a file, as a superuser and in one transaction.
    Sql(PathBuf),
    /// A program, by its absolute path, and its arguments.
    Command(Vec<String>),
}

impl Preparation {
    /// The command or script that it runs, for people.
    fn name(&self) -> String {
        match &self.run {
            PreparationRun::Sql(path) => format!("sql {}", path.display()),
            PreparationRun::Command(command) => format!("command {}", command.join(" ")),
        }
    }
}

/// Why a preparation failed.
#[derive(Debug)]
struct Failure {
    problem: String,
    detail: Option<String>,
}

impl Failure {
    fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            detail: None,
        }
    }
}

/// Runs all preparations of the project on its cluster, in their order.
///
/// # Errors
///
/// One of them failed, or took longer than it may.
pub(super) async fn prepare(
    context: &Context,
    cluster: &Cluster,
) -> Result<Vec<Prepared>, ImportError> {
    let preparations = &context.request.settings.prepare;
    let mut prepared = Vec::new();
    for (number, preparation) in (1..).zip(preparations) {
        let name = preparation.name();
        let progress = &context.progress;
        progress
            .preparation(number, preparations.len(), &name)
            .await;
        let begin = Instant::now();
        let done = match &preparation.run {
            PreparationRun::Sql(path) => {
                sql::run(context, cluster, path, preparation.timeout).await
            }
            PreparationRun::Command(command) => {
                command::run(context, cluster, command, preparation.timeout).await
            }
        };
        let sha256 = done.map_err(|Failure { problem, detail }| ImportError::Preparation {
            number,
            name: name.clone(),
            problem,
            detail,
        })?;
        let took = begin.elapsed();
        tracing::info!(
            id = %context.request.id,
            number,
            name,
            sha256,
            elapsed_ms = took.as_millis(),
            "preparation done"
        );
        prepared.push(Prepared {
            name,
            sha256,
            millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
    }
    Ok(prepared)
}

/// Writes the whole cluster anew, so that no data that the preparations changed is left in its files. Returns the files
/// that it has then.
///
/// # Errors
///
/// A table cannot be rewritten, or the server failed.
pub(super) async fn rewrite(context: &Context, cluster: &mut Cluster) -> Result<Kept, ImportError> {
    context.progress.begin(Step::Rewrite).await;
    // An open session or a temporary table of a preparation would keep old rows.
    cluster.server.stop().await?;
    cluster.server = context.start_server(cluster.postgres_major, 0).await?;
    rewrite::rewrite(context, cluster).await
}

fn limit_reached(limit: Duration) -> Failure {
    Failure::new(format!(
        "it did not end within {}",
        humantime::format_duration(limit)
    ))
}
