//! `multidb doctor`: looks at this machine, and says what to do about what is wrong.
//!
//! Each check is a function that gives findings; [`run`] asks all of them, whatever they find. It
//! looks for itself, since what is wrong may well be why the daemon does not run.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::Invocation;
use super::table::printable;
use crate::admin::client::AdminError;
use crate::config::{ConfigFaults, Loaded};
use crate::control::model::StatusView;

mod disk;
mod repositories;
mod servers;
mod tls;

/// A daemon that is well answers in milliseconds.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(5);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// It is well.
    Ok,
    /// It works, but not as it could.
    Warn,
    /// It does not work.
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) level: Level,
    /// What was looked at.
    pub(super) subject: String,
    /// What is there.
    pub(super) what: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn new(level: Level, subject: &str, what: impl Into<String>) -> Self {
        Self {
            level,
            subject: subject.to_owned(),
            what: what.into(),
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
    // What a configuration with faults means is not guessed.
    if let Some(config) = config {
        findings.extend(repositories::examine(&config).await);
        findings.extend(tls::examine(&config));
        findings.extend(disk::root(&config));
        let (snapshots, found) = disk::snapshots(&config);
        findings.extend(found);
        findings.extend(servers::examine(&config, &snapshots).await);
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
    let finding = |level, what: String| Finding::new(level, "configuration", what);
    match loaded {
        Err(faults) => finding(Level::Fail, faults.to_string())
            .hint("Mend what is listed, and ask \"multidb config check\" again."),
        Ok(Loaded { file: None, .. }) => finding(
            Level::Warn,
            "there is no file, so all is default".to_owned(),
        )
        .hint("Without a project no instance can be made: write /etc/multidb/multidb.toml."),
        Ok(Loaded {
            file: Some(file),
            config,
            ..
        }) if config.projects.is_empty() => {
            finding(Level::Warn, format!("{} names no project", file.display()))
                .hint("Without a project no instance can be made: add a [project.NAME].")
        }
        Ok(Loaded {
            file: Some(file), ..
        }) => finding(Level::Ok, format!("{} is valid", file.display())),
    }
}

async fn daemon(invocation: &Invocation) -> Finding {
    let finding = |level, what: String| Finding::new(level, "daemon", what);
    let client = match invocation.client() {
        Ok(client) => client.with_timeout(DAEMON_TIMEOUT),
        Err(_) => {
            return finding(
                Level::Warn,
                "not asked, since its socket is not known".to_owned(),
            );
        }
    };
    match client.get::<StatusView>("/v1/status").await {
        Ok(status) if status.version == env!("CARGO_PKG_VERSION") => {
            finding(Level::Ok, format!("version {} answers", status.version))
        }
        Ok(status) => finding(
            Level::Warn,
            format!(
                "it is version {}, and this program {}",
                status.version,
                env!("CARGO_PKG_VERSION")
            ),
        )
        .hint("Restart the daemon; its instances go on."),
        Err(error) => {
            let what = multidb_store::error_chain(&error);
            match error.hint() {
                Some(hint) => finding(level_of(&error), what).hint(hint),
                None => finding(level_of(&error), what),
            }
        }
    }
}

/// A daemon that does not run may be meant so: doctor is also asked before the first start.
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
        let mut lines = finding.what.lines();
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
