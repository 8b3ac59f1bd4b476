//! A preparation by a program.

use std::time::Duration;

use super::files::hash_of_command;
use super::{Failure, limit_reached};
use crate::import::cluster::Cluster;
use crate::import::context::Context;
use crate::runtime::ProgramOutput;
use crate::runtime::process::{CommandEnd, CommandRun, run_command};

/// The last lines of its standard error that an error has.
const LINES_MAX: usize = 10;

/// Runs a program with an environment in which libpq reaches the project's database. Returns the hash of the files that
/// ran.
pub(super) async fn run(
    context: &Context,
    cluster: &Cluster,
    command: &[String],
    timeout: Option<Duration>,
) -> Result<String, Failure> {
    let words = command.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash_of_command(&words)).await;
    let sha256 = hashed
        .map_err(|error| Failure::new(error.to_string()))?
        .map_err(|error| Failure::new(format!("cannot read what it names: {error}")))?;
    let run = CommandRun {
        command: command.to_owned(),
        server: cluster.server.uid,
        role: cluster.superuser.clone(),
        database: context.request.settings.database.clone(),
        owner: context.host().data_owner(),
        timeout,
    };
    let ended = run_command(&context.importer.layout, &run).await;
    match ended.map_err(|error| Failure::new(error.message))? {
        CommandEnd::Exited(output) if output.success => Ok(sha256),
        CommandEnd::Exited(output) => Err(failure(&output)),
        CommandEnd::TimedOut => Err(limit_reached(timeout.unwrap_or_default())),
    }
}

fn failure(output: &ProgramOutput) -> Failure {
    let lines: Vec<&str> = output
        .stderr_tail
        .iter()
        .map(|line| line.trim_end())
        .filter(|line| !line.is_empty())
        .collect();
    let problem = match lines.last() {
        Some(last) => format!("{}: {}", output.status, crate::sql::one_line(last)),
        None => output.status.clone(),
    };
    let from = lines.len().saturating_sub(LINES_MAX);
    Failure {
        problem,
        detail: (lines.len() > 1).then(|| lines[from..].join("\n")),
    }
}
