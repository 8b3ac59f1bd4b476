//! `multidb instance`: the instances, shown and changed.

use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use multidb_actors::instance::lifecycle::StateName;
use multidb_store::{InstanceName, InstanceUid, ProjectName};
use serde_json::json;

use super::Invocation;
use super::confirm::{self, Destructive};
use super::table::WidthArgs;
use crate::admin::api::{PinBody, RecoverBody, RenameBody};
use crate::admin::client::{AdminClient, AdminError, with_query};
use crate::control::model::{DeletedView, InstanceView, LogsView};

mod create;
mod diff;
pub(super) mod text;

/// The instances of one request: a list of any length is read page by page.
const PAGE_LENGTH: usize = 500;

#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Name of the instance
    name: InstanceName,
    /// Stop it first, and leave out the settings that ALTER SYSTEM made in it
    #[arg(long)]
    without_alter_system: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum InstanceCommand {
    /// List instances
    Ls(ListArgs),
    /// Show one instance and the disk space that only it uses
    Show {
        /// Name of the instance
        name: InstanceName,
    },
    /// Create an instance and start it, as a connection does
    Create(create::CreateArgs),
    /// Start an instance's Postgres, as a connection does
    Start(StartArgs),
    /// End an instance's sessions and stop its Postgres; keep its data
    Stop {
        /// Name of the instance
        name: InstanceName,
        /// Do not ask for confirmation
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// End an instance's sessions and replace its data with a fresh clone of its snapshot
    Reset {
        /// Name of the instance
        name: InstanceName,
        /// Do not ask for confirmation
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// End an instance's sessions and delete it with its data
    Rm {
        /// Name of the instance
        name: InstanceName,
        /// Do not ask for confirmation
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Use an instance again that has failed, or bring back a clone from the quarantine
    Recover {
        /// Name of the instance, or the name that the clone had
        name: InstanceName,
        /// Clone to bring back [default: the newest of that name]
        #[arg(long)]
        uid: Option<InstanceUid>,
        /// Name that the clone gets, if its own is taken
        #[arg(long = "as", value_name = "NEWNAME")]
        new_name: Option<InstanceName>,
    },
    /// Give an instance another name; its sessions go on
    Rename {
        /// Name of the instance
        name: InstanceName,
        /// Its new name
        #[arg(value_name = "NEWNAME")]
        new_name: InstanceName,
    },
    /// Exempt an instance from expiry
    Pin {
        /// Name of the instance
        name: InstanceName,
        /// Time until the pin ends, such as 2d [default: never]
        #[arg(long = "for", value_name = "TIME", value_parser = pin_time)]
        duration: Option<Duration>,
    },
    /// Let an instance expire again
    Unpin {
        /// Name of the instance
        name: InstanceName,
    },
    /// Compare an instance with another one, or with what it was cloned from
    Diff(diff::DiffArgs),
    /// Print the last lines of an instance's Postgres log
    Logs {
        /// Name of the instance
        name: InstanceName,
        /// Number of lines
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
        lines: u32,
    },
}

#[derive(Debug, Default, Args)]
pub(super) struct ListArgs {
    /// Only list instances of this project
    #[arg(long)]
    project: Option<ProjectName>,
    /// Only list instances in this state
    #[arg(long, value_parser = PossibleValuesParser::new(StateName::ALL.map(StateName::as_str)))]
    state: Option<String>,
    /// Only list instances that this multidb user created
    #[arg(long, value_name = "USER")]
    created_by: Option<String>,
    /// List at most N instances, the first by name
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    width: WidthArgs,
}

pub(super) fn pin_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_secs(1) => Ok(time),
        Ok(_) => Err("must be at least one second".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) async fn run(
    command: InstanceCommand,
    invocation: &Invocation,
) -> anyhow::Result<ExitCode> {
    let client = invocation.client()?;
    let now = Timestamp::now();
    let output = &invocation.output;
    match command {
        InstanceCommand::Ls(args) => {
            let instances = list(&client, &args).await?;
            let width = args.width.limit();
            output.show(&instances, |instances| text::list(instances, now, width))?;
        }
        InstanceCommand::Show { name } => {
            let instance: InstanceView = client.get(&format!("/v1/instances/{name}")).await?;
            output.show(&instance, |instance| text::one(instance, now))?;
        }
        InstanceCommand::Create(args) => {
            let instance = create::create(&client, args).await?;
            output.show(&instance, text::created)?;
        }
        InstanceCommand::Start(args) => {
            let instance = start(&client, &args).await?;
            output.show(&instance, text::changed)?;
        }
        InstanceCommand::Stop { name, yes } => {
            confirm(&client, &name, Destructive::Stop, yes, invocation).await?;
            let instance = post(&client, &name, "stop").await?;
            output.show(&instance, text::changed)?;
        }
        InstanceCommand::Reset { name, yes } => {
            confirm(&client, &name, Destructive::Reset, yes, invocation).await?;
            let instance = post(&client, &name, "reset").await?;
            output.show(&instance, text::reset)?;
        }
        InstanceCommand::Rm { name, yes } => {
            confirm(&client, &name, Destructive::Remove, yes, invocation).await?;
            remove(&client, &name, invocation).await?;
        }
        InstanceCommand::Recover {
            name,
            uid,
            new_name,
        } => {
            let instance = recover(&client, &name, uid, new_name).await?;
            output.show(&instance, text::recovered)?;
        }
        InstanceCommand::Rename { name, new_name } => {
            let instance = rename(&client, &name, &new_name).await?;
            output.show(&instance, |instance| text::renamed(&name, instance))?;
        }
        InstanceCommand::Pin { name, duration } => {
            let instance = pin(&client, &name, duration).await?;
            output.show(&instance, text::pinned)?;
        }
        InstanceCommand::Unpin { name } => {
            let instance = post(&client, &name, "unpin").await?;
            output.show(&instance, text::pinned)?;
        }
        InstanceCommand::Diff(args) => {
            let compared = diff::diff(&client, &args).await?;
            output.show(&compared, |compared| diff::text(compared, diff::width()))?;
        }
        InstanceCommand::Logs { name, lines } => {
            let path = format!("/v1/instances/{name}/logs?lines={lines}");
            output.show(&client.get::<LogsView>(&path).await?, text::logs)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn rename(
    client: &AdminClient,
    name: &InstanceName,
    new_name: &InstanceName,
) -> Result<InstanceView, AdminError> {
    let body = RenameBody {
        new_name: new_name.to_string(),
    };
    let path = format!("/v1/instances/{name}/rename");
    client.post(&path, &body).await
}

/// Reads all instances.
pub(super) async fn all(client: &AdminClient) -> Result<Vec<InstanceView>, AdminError> {
    list(client, &ListArgs::default()).await
}

/// Reads the selected instances page by page.
async fn list(client: &AdminClient, args: &ListArgs) -> Result<Vec<InstanceView>, AdminError> {
    let mut found: Vec<InstanceView> = Vec::new();
    loop {
        let missing = args.limit.map(|limit| limit.saturating_sub(found.len()));
        let length = missing.unwrap_or(PAGE_LENGTH).min(PAGE_LENGTH);
        if length == 0 {
            return Ok(found);
        }
        let path = with_query(
            "/v1/instances",
            &[
                ("project", args.project.as_ref().map(ToString::to_string)),
                ("state", args.state.clone()),
                ("created_by", args.created_by.clone()),
                ("after", found.last().map(|last| last.name.clone())),
                ("limit", Some(length.to_string())),
            ],
        );
        let page: Vec<InstanceView> = client.get(&path).await?;
        let is_last = page.len() < length;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

async fn start(client: &AdminClient, args: &StartArgs) -> Result<InstanceView, AdminError> {
    let verb = if args.without_alter_system {
        "start?without_alter_system=true"
    } else {
        "start"
    };
    post(client, &args.name, verb).await
}

async fn recover(
    client: &AdminClient,
    name: &InstanceName,
    uid: Option<InstanceUid>,
    new_name: Option<InstanceName>,
) -> Result<InstanceView, AdminError> {
    let body = RecoverBody {
        uid: uid.map(|uid| uid.to_string()),
        new_name: new_name.map(|name| name.to_string()),
    };
    let path = format!("/v1/instances/{name}/recover");
    client.post(&path, &body).await
}

async fn pin(
    client: &AdminClient,
    name: &InstanceName,
    duration: Option<Duration>,
) -> Result<InstanceView, AdminError> {
    let body = PinBody {
        for_seconds: duration.map(|time| time.as_secs()),
    };
    let path = format!("/v1/instances/{name}/pin");
    client.post(&path, &body).await
}

async fn post(
    client: &AdminClient,
    name: &InstanceName,
    verb: &str,
) -> Result<InstanceView, AdminError> {
    let path = format!("/v1/instances/{name}/{verb}");
    client.post(&path, &json!({})).await
}

async fn remove(
    client: &AdminClient,
    name: &InstanceName,
    invocation: &Invocation,
) -> anyhow::Result<()> {
    let path = format!("/v1/instances/{name}");
    let DeletedView { sessions_ended } = client.delete(&path).await?;
    let done = json!({"name": name, "deleted": true, "sessions_ended": sessions_ended});
    let ended = text::ended(Some(sessions_ended));
    invocation
        .output
        .show(&done, |_| format!("instance {name} deleted{ended}"))
}

/// Asks a person for confirmation. A missing instance is left to the command itself to report.
async fn confirm(
    client: &AdminClient,
    name: &InstanceName,
    command: Destructive,
    yes: bool,
    invocation: &Invocation,
) -> anyhow::Result<()> {
    if yes || invocation.global.json || !confirm::is_interactive() {
        return Ok(());
    }
    let instance: InstanceView = client.get(&format!("/v1/instances/{name}")).await?;
    match command.question(&instance) {
        Some(question) => confirm::ask(&format!("instance {name}"), &question),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
