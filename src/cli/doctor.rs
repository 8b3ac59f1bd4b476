//! `multidb doctor`: checks this machine for problems and suggests fixes.
//!
//! The checks of [`crate::doctor`] work without the daemon, since a problem may keep it from starting. The
//! checks that only a command can do are here: the configuration file as it is now, and whether a daemon answers at its
//! socket.

use std::process::ExitCode;
use std::time::Duration;

use multidb_store::ProjectName;

use super::output::printable;
use super::{Invocation, instance};
use crate::admin::client::{AdminClient, AdminError, with_query};
use crate::config::{Config, ConfigFaults, Loaded};
use crate::control::default_branch::DEFAULT_BRANCH;
use crate::control::model::{ExplainView, StatusView};
use crate::doctor::{self, Finding, Level, Refusal, Told};

/// A healthy daemon answers in milliseconds.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let loaded = Loaded::load(invocation.global.config.as_deref());
    let mut findings = configuration(&loaded);
    findings.push(daemon(invocation).await);
    let config = loaded.ok().map(|loaded| loaded.config);
    findings.push(doctor::program(config.as_ref()));
    // A configuration with faults has no settings to check by.
    if let Some(config) = config {
        let told = ask(invocation, &config).await;
        findings.extend(doctor::examine(&config, &told).await);
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

/// Asks the daemon, where one answers. Where not, another check has said so.
async fn ask(invocation: &Invocation, config: &Config) -> Told {
    let Ok(client) = invocation.client() else {
        return Told::default();
    };
    // The daemon fetches for this within this time, and then knows a partial clone.
    let patient = client
        .clone()
        .with_timeout(config.fetch_timeout + DAEMON_TIMEOUT);
    let client = client.with_timeout(DAEMON_TIMEOUT);
    let mut told = Told {
        branches: branches(&patient, config).await,
        ..Told::default()
    };
    told.status = client.get("/v1/status").await.ok();
    told.instances = instance::all(&client).await.unwrap_or_default();
    told
}

async fn branches(
    client: &AdminClient,
    config: &Config,
) -> Vec<(ProjectName, Result<ExplainView, Refusal>)> {
    let mut told = Vec::new();
    for name in config.projects.keys() {
        let query = [
            ("gitref", Some(DEFAULT_BRANCH.to_owned())),
            ("project", Some(name.to_string())),
        ];
        let path = with_query("/v1/snapshots/explain", &query);
        match client.get(&path).await {
            Ok(explained) => told.push((name.clone(), Ok(explained))),
            Err(AdminError::Refused(info)) => told.push((name.clone(), Err(info.into()))),
            Err(_) => {}
        }
    }
    told
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
        Ok(status) => {
            let found = doctor::daemon::finding(&status);
            let ours = env!("CARGO_PKG_VERSION");
            if found.level != Level::Ok || status.version == ours {
                return found;
            }
            let theirs = status.version;
            finding(
                Level::Warn,
                format!("running version {theirs}, but this program is version {ours}"),
            )
            .hint("Restart the daemon; its instances keep running.")
        }
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
