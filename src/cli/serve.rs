//! `multidb serve`.

use std::process::ExitCode;

use clap::Args;

use super::Invocation;
use crate::config::missing_files;
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
    // The instances do not need them, so the daemon starts; imports of the project fail until they are there.
    for missing in missing_files(&loaded.config) {
        tracing::warn!(
            key = missing.key,
            problem = missing.message,
            "a preparation cannot run, so imports of its project will fail: correct it before the next one"
        );
    }
    crate::daemon::serve(loaded)?;
    Ok(ExitCode::SUCCESS)
}
