//! `multidb config`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::Invocation;
use super::table::{Align, table};
use crate::config::{Loaded, Origin, Setting};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the configuration is valid, with all its faults
    Check,
    /// Show each effective value and where it came from
    Show,
}

/// What `config check` prints.
#[derive(Debug, Serialize)]
struct CheckView {
    valid: bool,
    file: Option<PathBuf>,
    faults: Vec<FaultView>,
}

#[derive(Debug, Serialize)]
struct FaultView {
    key: String,
    message: String,
}

pub(super) fn run(command: &ConfigCommand, invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let loaded = Loaded::load(invocation.global.config.as_deref());
    match command {
        ConfigCommand::Show => {
            let loaded = loaded?;
            let settings = effective(&loaded, invocation);
            invocation
                .output
                .show(&settings, |settings| shown(settings))?;
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Check => check(loaded, invocation),
    }
}

fn check(
    loaded: Result<Loaded, crate::config::ConfigFaults>,
    invocation: &Invocation,
) -> anyhow::Result<ExitCode> {
    let view = match loaded {
        Ok(loaded) => CheckView {
            valid: true,
            file: loaded.file,
            faults: Vec::new(),
        },
        // For people, faults are an error like any other.
        Err(faults) if !invocation.global.json => return Err(faults.into()),
        Err(faults) => CheckView {
            valid: false,
            file: faults.file,
            faults: faults
                .faults
                .into_iter()
                .map(|fault| FaultView {
                    key: fault.key,
                    message: fault.message,
                })
                .collect(),
        },
    };
    invocation.output.show(&view, |view| match &view.file {
        Some(file) => format!("the configuration {} is valid", file.display()),
        None => "there is no configuration file; the defaults are valid".to_owned(),
    })?;
    Ok(if view.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The settings, with what the command line says over the file.
fn effective(loaded: &Loaded, invocation: &Invocation) -> Vec<Setting> {
    let mut settings = loaded.settings.clone();
    if let Some(socket) = &invocation.global.socket
        && let Some(setting) = settings.iter_mut().find(|s| s.key == "admin_socket")
    {
        setting.value = format!("{:?}", socket.display().to_string());
        setting.origin = Origin::Option;
    }
    settings
}

fn shown(settings: &[Setting]) -> String {
    let columns = [
        ("KEY", Align::Left),
        ("VALUE", Align::Left),
        ("ORIGIN", Align::Left),
    ];
    let rows = settings.iter().map(|setting| {
        let origin = match setting.origin {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Option => "option",
        };
        [
            setting.key.clone(),
            setting.value.clone(),
            origin.to_owned(),
        ]
    });
    table(columns, rows)
}
