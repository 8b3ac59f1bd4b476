//! `multidb notify`: the targets of notifications, tried.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::Invocation;
use super::output::printable;
use crate::control::model::NotifyTestView;

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Send a test message to each target of notifications, and show which ones took it
    Test,
}

pub(super) async fn run(
    command: &NotifyCommand,
    invocation: &Invocation,
) -> anyhow::Result<ExitCode> {
    let NotifyCommand::Test = command;
    let client = invocation.client()?;
    let tested: Vec<NotifyTestView> = client.post("/v1/notify/test", &json!({})).await?;
    invocation.output.show(&tested, |tested| text(tested))?;
    let failed = tested.iter().any(|target| target.error.is_some());
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

pub(super) fn text(tested: &[NotifyTestView]) -> String {
    if tested.is_empty() {
        return "no target: the daemon's configuration has no [[notify]]\n".to_owned();
    }
    let line = |one: &NotifyTestView| match &one.error {
        None => format!("ok    {}\n", printable(&one.target)),
        Some(error) => format!("FAIL  {}: {}\n", printable(&one.target), printable(error)),
    };
    tested.iter().map(line).collect()
}
