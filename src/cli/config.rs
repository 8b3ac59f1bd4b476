//! `multidb config`: the configuration file, checked and shown.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use multidb_actors::ports::RepositoryForm;
use multidb_store::{Layout, error_chain};
use serde::Serialize;

use super::Invocation;
use super::table::{Align, table};
use crate::config::{ConfigFaults, Fault, Loaded, Origin, Setting, missing_files};
use crate::daemon::convert;
use crate::git::refused_form;
use crate::tls::TlsError;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration and print all its faults
    Check,
    /// Show each effective value and its origin
    Show,
}

/// The answer of `config check`.
#[derive(Debug, Serialize)]
struct CheckView {
    valid: bool,
    file: Option<PathBuf>,
    faults: Vec<FaultView>,
    /// Valid settings that are probably mistakes.
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
        ConfigCommand::Check => {
            let checked = loaded.and_then(with_certificate);
            let checked = checked.and_then(with_repositories);
            check(checked.and_then(with_preparations), invocation)
        }
    }
}

/// Also reads the files of `[tls]`, as the daemon does at its start.
fn with_certificate(loaded: Loaded) -> Result<Loaded, ConfigFaults> {
    let Some(tls) = &loaded.config.tls else {
        return Ok(loaded);
    };
    let Err(error) = convert::tls_files(tls).load() else {
        return Ok(loaded);
    };
    let key = match &error {
        TlsError::File { path, .. } if *path == tls.cert => "tls.cert",
        TlsError::File { path, .. } if *path == tls.key => "tls.key",
        TlsError::File { .. } => "tls.client_ca",
        TlsError::Pair { .. } | TlsError::OtherKey { .. } => "tls.key",
    };
    Err(ConfigFaults {
        file: loaded.file,
        faults: vec![Fault {
            key: key.to_owned(),
            message: error_chain(&error),
            line: None,
        }],
    })
}

/// Also looks at the forms of the repositories on this machine.
fn with_repositories(mut loaded: Loaded) -> Result<Loaded, ConfigFaults> {
    let mut faults = Vec::new();
    for (name, project) in &loaded.config.projects {
        let mirror = Layout::new(&loaded.config.root).git_mirror(name);
        let Some(form) = refused_form(&project.git, &mirror) else {
            continue;
        };
        let fault = Fault {
            key: format!("project.{name}.git"),
            message: format!("{}: {} {}", project.git, form.detail(), form.hint()),
            line: None,
        };
        match form {
            RepositoryForm::Reftable => faults.push(fault),
            // Those of its commits that are complete are read.
            RepositoryForm::Partial => loaded.warnings.push(fault),
        }
    }
    if faults.is_empty() {
        return Ok(loaded);
    }
    Err(ConfigFaults {
        file: loaded.file,
        faults,
    })
}

/// Also looks for the files and programs of preparations.
fn with_preparations(loaded: Loaded) -> Result<Loaded, ConfigFaults> {
    let faults = missing_files(&loaded.config);
    if faults.is_empty() {
        return Ok(loaded);
    }
    Err(ConfigFaults {
        file: loaded.file,
        faults,
    })
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
        // People get the faults as an error message.
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

/// The text about a valid configuration.
pub(super) fn valid(loaded: &Loaded) -> String {
    let mut text = match &loaded.file {
        Some(file) => format!("the configuration {} is valid\n", file.display()),
        None => "there is no configuration file; all settings have their defaults\n".to_owned(),
    };
    for warning in &loaded.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// The settings of the file, overridden by the command line.
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
