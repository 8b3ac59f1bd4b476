//! The checks of `multidb doctor` and of the page "System": problems of the machine and of the installation, each with
//! its remedy.
//!
//! Each check is a function that returns findings. The checks of the machine work without a daemon, since a problem may
//! keep it from starting; the others judge the answers of a daemon in [`Told`]. The command, which also checks the
//! configuration file and whether a daemon answers, and `control` run the same checks.

use multidb_store::ProjectName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Config;
use crate::control::model::{ExplainView, InstanceView, StatusView};

pub(crate) mod daemon;
mod default_branch;
mod disk;
mod instances;
pub(crate) mod notify;
pub(crate) mod pressure;
pub(crate) mod refreshes;
mod repositories;
mod servers;
mod tls;
mod users;

pub(crate) use self::default_branch::Refusal;
pub(crate) use self::repositories::program;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// No problem.
    Ok,
    /// It works, but not well.
    Warn,
    /// It does not work.
    Fail,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Its severity.
    pub level: Level,
    /// The part of the machine that was checked.
    pub subject: String,
    /// The result in words.
    #[serde(rename = "what")]
    pub message: String,
    /// Advice.
    pub hint: Option<String>,
}

impl Finding {
    pub(crate) fn new(level: Level, subject: &str, message: impl Into<String>) -> Self {
        Self {
            level,
            subject: subject.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// The answers of a daemon about itself; empty where none answers.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Its status.
    pub(crate) status: Option<StatusView>,
    /// Its instances.
    pub(crate) instances: Vec<InstanceView>,
    /// The decision for the default branch of each project that it answered for.
    pub(crate) branches: Vec<(ProjectName, Result<ExplainView, Refusal>)>,
}

/// Everything that a daemon can check of itself and its machine.
pub(crate) async fn examine_daemon(config: &Config, told: &Told) -> Vec<Finding> {
    let of_daemon = told.status.as_ref().map(daemon::finding);
    let mut findings: Vec<_> = of_daemon.into_iter().collect();
    findings.push(program(Some(config)));
    findings.extend(examine(config, told).await);
    findings
}

/// Checks the machine by the configuration, and the answers of a daemon.
pub(crate) async fn examine(config: &Config, told: &Told) -> Vec<Finding> {
    let mut findings = repositories::examine(config).await;
    findings.extend(default_branch::examine(config, &told.branches));
    findings.extend(tls::examine(config));
    findings.extend(users::examine(config));
    findings.extend(disk::root(config));
    findings.extend(disk::quarantined(config));
    let (snapshots, found) = disk::snapshots(config);
    findings.extend(found);
    findings.extend(servers::examine(config, &snapshots).await);
    findings.extend(told.instances.iter().filter_map(instances::finding));
    if let Some(status) = &told.status {
        findings.extend(refreshes::examine(status));
        findings.push(pressure::examine(status));
        findings.extend(status.notify.iter().map(notify::finding));
    }
    findings
}
