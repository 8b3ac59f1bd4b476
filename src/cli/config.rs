//! `multidb config`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::Invocation;
use super::table::{Align, table};
use crate::config::{ConfigFaults, Fault, Loaded, Origin, Setting};

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
    /// What is valid, but hardly meant.
    warnings: Vec<FaultView>,
}

#[derive(Debug, Serialize)]
struct FaultView {
    key: String,
    message: String,
    line: Option<usize>,
}

fn views(faults: Vec<Fault>) -> Vec<FaultView> {
    let view = |Fault { key, message, line }| FaultView { key, message, line };
    faults.into_iter().map(view).collect()
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
    loaded: Result<Loaded, ConfigFaults>,
    invocation: &Invocation,
) -> anyhow::Result<ExitCode> {
    let checked = loaded.as_ref().map(valid).unwrap_or_default();
    let view = match loaded {
        Ok(loaded) => CheckView {
            valid: true,
            file: loaded.file,
            faults: Vec::new(),
            warnings: views(loaded.warnings),
        },
        // For people, faults are an error like any other.
        Err(faults) if !invocation.global.json => return Err(faults.into()),
        Err(faults) => CheckView {
            valid: false,
            file: faults.file,
            faults: views(faults.faults),
            warnings: Vec::new(),
        },
    };
    invocation.output.show(&view, |_| checked)?;
    Ok(if view.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is told about a configuration without faults.
pub(super) fn valid(loaded: &Loaded) -> String {
    let mut text = match &loaded.file {
        Some(file) => format!("the configuration {} is valid\n", file.display()),
        None => "there is no configuration file; the defaults are valid\n".to_owned(),
    };
    for warning in &loaded.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
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
