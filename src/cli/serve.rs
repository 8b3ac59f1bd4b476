//! `multidb serve`.

use std::process::ExitCode;

use clap::Args;

use super::Invocation;
use crate::logging::{self, LogFormat};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Format of log lines [default: journald under systemd, else text]
    #[arg(
        long,
        env = "MULTIDB_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        value_enum
    )]
    log_format: Option<LogFormat>,
}

pub(super) fn run(args: &ServeArgs, invocation: &Invocation) -> anyhow::Result<ExitCode> {
    logging::init(args.log_format)?;
    let loaded = invocation.loaded()?;
    for warning in &loaded.warnings {
        tracing::warn!(
            key = warning.key,
            line = warning.line,
            warning = warning.message,
            "the configuration has a questionable setting"
        );
    }
    crate::daemon::serve(loaded.config)?;
    Ok(ExitCode::SUCCESS)
}
