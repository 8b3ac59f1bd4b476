//! `multidb config`: the configuration file, checked and shown.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use multidb_actors::ports::RepositoryForm;
use multidb_store::{Layout, error_chain, root};
use serde::Serialize;

use super::Invocation;
use super::table::{Align, table};
use crate::config::{
    AuthMethod, Config, ConfigFaults, Fault, Loaded, Origin, Setting, missing_files,
    unusable_targets,
};
use crate::daemon::convert;
use crate::git::refused_form;
use crate::runtime::data_owner;
use crate::tls::TlsError;
use crate::users::LiveUsers;

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
        ConfigCommand::Check => check(loaded.and_then(with_machine), invocation),
    }
}

/// What a start of the daemon finds beyond the file itself, as far as it can be looked at without a daemon.
fn with_machine(mut loaded: Loaded) -> Result<Loaded, ConfigFaults> {
    let mut faults = Vec::new();
    faults.extend(certificate(&loaded.config));
    faults.extend(certificate_of_http(&loaded.config));
    faults.extend(secrets_of_hooks(&loaded.config));
    faults.extend(data_owner_of(&loaded.config));
    faults.extend(root_of(&loaded.config));
    faults.extend(users_of(&loaded.config));
    let (refused, questionable) = repositories(&loaded.config);
    faults.extend(refused);
    faults.extend(missing_files(&loaded.config));
    faults.extend(unusable_targets(&loaded.config));
    loaded.warnings.extend(questionable);
    if faults.is_empty() {
        return Ok(loaded);
    }
    Err(ConfigFaults {
        file: loaded.file,
        faults,
    })
}

fn fault(key: impl Into<String>, message: impl Into<String>) -> Fault {
    Fault {
        key: key.into(),
        message: message.into(),
        line: None,
    }
}

/// Reads the files of `[tls]`.
fn certificate(config: &Config) -> Option<Fault> {
    let tls = config.tls.as_ref()?;
    let error = convert::tls_files(tls).load().err()?;
    let key = match &error {
        TlsError::File { path, .. } if *path == tls.cert => "tls.cert",
        TlsError::File { path, .. } if *path == tls.key => "tls.key",
        TlsError::File { .. } => "tls.client_ca",
        TlsError::Pair { .. } | TlsError::OtherKey { .. } => "tls.key",
    };
    Some(fault(key, error_chain(&error)))
}

/// Reads the files of `[http]`, if they are its own.
fn certificate_of_http(config: &Config) -> Option<Fault> {
    let certificate = config.http.as_ref()?.certificate.as_ref()?;
    let of_tls = config.tls.as_ref().map(|tls| &tls.cert);
    if of_tls == Some(&certificate.cert) {
        return None;
    }
    let files = convert::certificate_files(certificate);
    let error = files.load_certificate().err()?;
    let key = match &error {
        TlsError::File { path, .. } if *path == certificate.cert => "http.cert",
        _ => "http.key",
    };
    Some(fault(key, error_chain(&error)))
}

/// Reads the secrets of the webhooks, without which no delivery is taken.
fn secrets_of_hooks(config: &Config) -> Vec<Fault> {
    let hooks = config.http.iter().flat_map(|http| &http.hooks);
    let unread = hooks.filter_map(|hook| {
        let error = hook.read_secret().err()?;
        let key = format!("http.hooks.{}.secret_file", hook.project);
        Some(fault(&key, error))
    });
    unread.collect()
}

/// Looks for Postgres' user.
fn data_owner_of(config: &Config) -> Option<Fault> {
    let error = data_owner(&config.runtime.user).err()?;
    Some(fault("runtime.user", error.message))
}

/// Looks whether the root is multidb's, or can become so.
fn root_of(config: &Config) -> Option<Fault> {
    let error = root::inspect(&Layout::new(&config.root)).err()?;
    Some(fault("root", error_chain(&error)))
}

/// Reads the users' file.
fn users_of(config: &Config) -> Vec<Fault> {
    if config.auth.method == AuthMethod::Trust {
        return Vec::new();
    }
    let Err(read) = LiveUsers::open(config.auth.clone()) else {
        return Vec::new();
    };
    // They are in another file, which the message has to name.
    let faults = read.faults.iter();
    let message = |one: &Fault| format!("{}: {one}", config.auth.users_file.display());
    faults
        .map(|one| fault("auth.users_file", message(one)))
        .collect()
}

/// Looks at the forms of the repositories on this machine: those that cannot be read, and those that only partly can.
fn repositories(config: &Config) -> (Vec<Fault>, Vec<Fault>) {
    let layout = Layout::new(&config.root);
    let (mut refused, mut questionable) = (Vec::new(), Vec::new());
    for (name, project) in &config.projects {
        let Some(form) = refused_form(&project.git, &layout.git_mirror(name)) else {
            continue;
        };
        let message = format!("{}: {} {}", project.git, form.detail(), form.hint());
        let found = fault(format!("project.{name}.git"), message);
        match form {
            RepositoryForm::Reftable => refused.push(found),
            // Its complete commits are read.
            RepositoryForm::Partial => questionable.push(found),
        }
    }
    (refused, questionable)
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
        setting.value = socket.display().to_string().into();
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
        [
            setting.key.clone(),
            setting.value.to_string(),
            setting.origin.name().to_owned(),
        ]
    });
    table(columns, rows)
}
