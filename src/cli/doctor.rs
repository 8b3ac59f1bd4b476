//! `multidb doctor`: checks this machine for problems and suggests fixes.
//!
//! Each check is a function that returns findings, and [`run`] runs all of them. They work without
//! the daemon, since a problem may keep it from starting.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::Invocation;
use super::output::printable;
use super::status::waits;
use crate::admin::client::AdminError;
use crate::config::{ConfigFaults, Loaded};
use crate::control::model::StatusView;

mod default_branch;
mod disk;
mod instances;
pub(super) mod notify;
pub(super) mod pressure;
pub(super) mod refreshes;
mod repositories;
mod servers;
mod tls;
mod users;

/// A healthy daemon answers in milliseconds.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(5);

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// No problem.
    Ok,
    /// It works, but not well.
    Warn,
    /// It does not work.
    Fail,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Its severity.
    pub(super) level: Level,
    /// The part of the machine that was checked.
    pub(super) subject: String,
    /// The result in words.
    #[serde(rename = "what")]
    pub(super) message: String,
    /// Advice.
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn new(level: Level, subject: &str, message: impl Into<String>) -> Self {
        Self {
            level,
            subject: subject.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

pub(super) async fn run(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let loaded = Loaded::load(invocation.global.config.as_deref());
    let mut findings = configuration(&loaded);
    findings.push(daemon(invocation).await);
    let config = loaded.ok().map(|loaded| loaded.config);
    findings.push(repositories::program(config.as_ref()));
    // A configuration with faults has no settings to check by.
    if let Some(config) = config {
        // The daemon fetches for this, and then knows a partial clone.
        let branches = default_branch::examine(&config, invocation).await;
        findings.extend(repositories::examine(&config).await);
        findings.extend(branches);
        findings.extend(tls::examine(&config));
        findings.extend(users::examine(&config));
        findings.extend(disk::root(&config));
        findings.extend(disk::quarantined(&config));
        let (snapshots, found) = disk::snapshots(&config);
        findings.extend(found);
        findings.extend(servers::examine(&config, &snapshots).await);
        findings.extend(instances::examine(invocation).await);
        findings.extend(refreshes::examine(invocation).await);
        findings.extend(pressure::examine(invocation).await);
        findings.extend(notify::examine(invocation).await);
    }
    invocation
        .output
        .show(&findings, |findings| text(findings))?;
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn configuration(loaded: &Result<Loaded, ConfigFaults>) -> Vec<Finding> {
    let warnings = loaded.iter().flat_map(|loaded| &loaded.warnings);
    let warnings =
        warnings.map(|warning| Finding::new(Level::Warn, "configuration", warning.to_string()));
    std::iter::once(validity(loaded)).chain(warnings).collect()
}

fn validity(loaded: &Result<Loaded, ConfigFaults>) -> Finding {
    let finding = |level, message: String| Finding::new(level, "configuration", message);
    match loaded {
        Err(faults) => finding(Level::Fail, faults.to_string())
            .hint("Fix these faults, then run \"multidb config check\"."),
        Ok(Loaded { file: None, .. }) => finding(
            Level::Warn,
            "no file, so all settings have their defaults".to_owned(),
        )
        .hint("Instances need a project: write /etc/multidb/multidb.toml."),
        Ok(Loaded {
            file: Some(file),
            config,
            ..
        }) if config.projects.is_empty() => {
            finding(Level::Warn, format!("{} has no project", file.display()))
                .hint("Instances need a project: add a [project.NAME] section.")
        }
        Ok(Loaded {
            file: Some(file), ..
        }) => finding(Level::Ok, format!("{} is valid", file.display())),
    }
}

async fn daemon(invocation: &Invocation) -> Finding {
    let finding = |level, message: String| Finding::new(level, "daemon", message);
    let client = match invocation.client() {
        Ok(client) => client.with_timeout(DAEMON_TIMEOUT),
        Err(_) => {
            return finding(
                Level::Warn,
                "not checked, since its socket is unknown".to_owned(),
            );
        }
    };
    match client.get::<StatusView>("/v1/status").await {
        Ok(StatusView {
            disk_fault: Some(fault),
            ..
        }) => finding(
            Level::Fail,
            format!("running, but {fault}, so no record can be written"),
        )
        .hint(fault.hint()),
        Ok(StatusView {
            expiry_paused_seconds: Some(_),
            ..
        }) => finding(
            Level::Warn,
            "running, but the wall clock jumped, so no instance expires for now".to_owned(),
        )
        .hint("Check the machine's clock and its synchronization, such as by timedatectl."),
        Ok(StatusView { waiting_logins, .. }) if !waiting_logins.is_empty() => {
            let waiting: Vec<String> = waiting_logins.iter().map(waits).collect();
            finding(
                Level::Warn,
                format!("running, but after failed logins {}", waiting.join("; ")),
            )
            .hint(
                "If it is a program with an old password, give it the new one; others log in at that address as usual.",
            )
        }
        Ok(status) if status.version == env!("CARGO_PKG_VERSION") => {
            finding(Level::Ok, format!("running, version {}", status.version))
        }
        Ok(status) => finding(
            Level::Warn,
            format!(
                "running version {}, but this program is version {}",
                status.version,
                env!("CARGO_PKG_VERSION")
            ),
        )
        .hint("Restart the daemon; its instances keep running."),
        Err(error) => {
            let found = finding(level_of(&error), multidb_store::error_chain(&error));
            match error.hint() {
                Some(hint) => found.hint(hint),
                None => found,
            }
        }
    }
}

/// A daemon that is not running is no failure: doctor also runs before the first start.
fn level_of(error: &AdminError) -> Level {
    match error {
        AdminError::NotRunning { .. } => Level::Warn,
        _ => Level::Fail,
    }
}

pub(super) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        let mut lines = finding.message.lines();
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!(
            "{level}  {}: {}\n",
            finding.subject,
            printable(first)
        ));
        for line in lines {
            text.push_str(&format!("      {}\n", printable(line)));
        }
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("      hint: {hint}\n"));
        }
    }
    text
}
