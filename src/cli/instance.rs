//! `multidb instance`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use multidb_store::InstanceName;
use serde_json::json;

use super::Invocation;
use super::confirm::{self, Deed};
use super::table::{Align, ago, fields, moment, or_none, printable, size, table, until};
use crate::admin::api::PinBody;
use crate::admin::client::AdminClient;
use crate::control::model::{DeletedView, InstanceView, LogsView};

#[derive(Debug, Subcommand)]
pub(super) enum InstanceCommand {
    /// List all instances
    Ls,
    /// Show one instance, with the disk space that only it takes
    Show {
        /// The instance
        name: InstanceName,
    },
    /// Start its Postgres, as a connection would
    Start {
        /// The instance
        name: InstanceName,
    },
    /// End its sessions and shut its Postgres down; its data is kept
    Stop {
        /// The instance
        name: InstanceName,
        /// Do not ask, even on a terminal
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// End its sessions and replace its data by a fresh clone of its snapshot
    Reset {
        /// The instance
        name: InstanceName,
        /// Do not ask, even on a terminal
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// End its sessions and delete it with its data
    Rm {
        /// The instance
        name: InstanceName,
        /// Do not ask, even on a terminal
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Keep it from expiring
    Pin {
        /// The instance
        name: InstanceName,
        /// For how long, such as 2d; without it, for good
        #[arg(long = "for", value_name = "TIME", value_parser = pin_time)]
        duration: Option<Duration>,
    },
    /// Let it expire again
    Unpin {
        /// The instance
        name: InstanceName,
    },
    /// Print the end of its Postgres' log
    Logs {
        /// The instance
        name: InstanceName,
        /// How many lines
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
        lines: u32,
    },
}

fn pin_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_secs(1) => Ok(time),
        Ok(_) => Err("must be a second at least".to_owned()),
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
        InstanceCommand::Ls => {
            let instances: Vec<InstanceView> = client.get("/v1/instances").await?;
            output.show(&instances, |instances| list(instances, now))?;
        }
        InstanceCommand::Show { name } => {
            let instance: InstanceView = client.get(&format!("/v1/instances/{name}")).await?;
            output.show(&instance, |instance| one(instance, now))?;
        }
        InstanceCommand::Start { name } => act(&client, &name, "start", invocation).await?,
        InstanceCommand::Stop { name, yes } => {
            confirm(&client, &name, Deed::Stop, yes, invocation).await?;
            act(&client, &name, "stop", invocation).await?;
        }
        InstanceCommand::Reset { name, yes } => {
            confirm(&client, &name, Deed::Reset, yes, invocation).await?;
            act(&client, &name, "reset", invocation).await?;
        }
        InstanceCommand::Unpin { name } => act(&client, &name, "unpin", invocation).await?,
        InstanceCommand::Pin { name, duration } => {
            let body = PinBody {
                for_seconds: duration.map(|time| time.as_secs()),
            };
            let path = format!("/v1/instances/{name}/pin");
            let instance: InstanceView = client.post(&path, &body).await?;
            output.show(&instance, pinned)?;
        }
        InstanceCommand::Rm { name, yes } => {
            confirm(&client, &name, Deed::Remove, yes, invocation).await?;
            let DeletedView { sessions_ended } =
                client.delete(&format!("/v1/instances/{name}")).await?;
            let done = json!({"name": name, "deleted": true, "sessions_ended": sessions_ended});
            output.show(&done, |_| {
                format!("instance {name} deleted{}", ended(Some(sessions_ended)))
            })?;
        }
        InstanceCommand::Logs { name, lines } => {
            let path = format!("/v1/instances/{name}/logs?lines={lines}");
            let logs: LogsView = client.get(&path).await?;
            output.show(&logs, |logs| {
                let lines = logs.lines.iter().map(|line| printable(line));
                lines.map(|line| format!("{line}\n")).collect()
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a person first. Only what is asked depends on the instance: that it does not exist is for
/// the command itself to say.
async fn confirm(
    client: &AdminClient,
    name: &InstanceName,
    deed: Deed,
    yes: bool,
    invocation: &Invocation,
) -> anyhow::Result<()> {
    if yes || invocation.global.json || !confirm::somebody_is_there() {
        return Ok(());
    }
    let instance: InstanceView = client.get(&format!("/v1/instances/{name}")).await?;
    match deed.question(&instance) {
        Some(question) => confirm::ask(name, &question),
        None => Ok(()),
    }
}

/// How many sessions a command has ended, to be added to what it did.
fn ended(count: Option<usize>) -> String {
    match count {
        None | Some(0) => String::new(),
        Some(count) => format!(", {} ended", confirm::sessions(count)),
    }
}

async fn act(
    client: &AdminClient,
    name: &InstanceName,
    verb: &str,
    invocation: &Invocation,
) -> anyhow::Result<()> {
    let path = format!("/v1/instances/{name}/{verb}");
    let instance: InstanceView = client.post(&path, &json!({})).await?;
    invocation.output.show(&instance, |instance| match verb {
        "unpin" => pinned(instance),
        "reset" => format!(
            "instance {} is a fresh clone of snapshot {} and {}{}",
            instance.name,
            instance.snapshot,
            instance.state,
            ended(instance.sessions_ended)
        ),
        _ => format!(
            "instance {} is {}{}",
            instance.name,
            instance.state,
            ended(instance.sessions_ended)
        ),
    })
}

fn pinned(instance: &InstanceView) -> String {
    let name = &instance.name;
    match (instance.pinned, instance.pinned_until) {
        (true, None) => format!("instance {name} is pinned for good"),
        (true, Some(until)) => format!("instance {name} is pinned until {}", moment(until)),
        (false, _) => {
            let expires = instance.expires_at.map(moment);
            format!(
                "instance {name} is not pinned and expires at {}",
                or_none(expires)
            )
        }
    }
}

pub(super) fn list(instances: &[InstanceView], now: Timestamp) -> String {
    let columns = [
        ("NAME", Align::Left),
        ("PROJECT", Align::Left),
        ("STATE", Align::Left),
        ("SNAPSHOT", Align::Left),
        ("GITREF", Align::Left),
        ("USER", Align::Left),
        ("CONNECTIONS", Align::Right),
        ("CREATED", Align::Right),
        ("USED", Align::Right),
        ("EXPIRES", Align::Right),
    ];
    let rows = instances.iter().map(|instance| {
        [
            instance.name.clone(),
            instance.project.clone(),
            instance.state.clone(),
            instance.snapshot.clone(),
            or_none(instance.gitref.as_ref()),
            instance.created_by.clone(),
            instance.connections.to_string(),
            ago(instance.created_at, now),
            ago(instance.last_used_at, now),
            expiry(instance, now),
        ]
    });
    table(columns, rows)
}

fn expiry(instance: &InstanceView, now: Timestamp) -> String {
    match instance.expires_at {
        None if instance.pinned => "pinned".to_owned(),
        expires_at => until(expires_at, now),
    }
}

pub(super) fn one(instance: &InstanceView, now: Timestamp) -> String {
    let when = |at: Timestamp| format!("{} ({} ago)", moment(at), ago(at, now));
    let pinned = match (instance.pinned, instance.pinned_until) {
        (false, _) => "no".to_owned(),
        (true, None) => "for good".to_owned(),
        (true, Some(until)) => format!("until {}", moment(until)),
    };
    let expires = instance
        .expires_at
        .map(|at| format!("{} (in {})", moment(at), until(Some(at), now)));
    let awake = instance.awake_because.as_ref();
    let awake = awake.filter(|because| !because.is_empty());
    let awake = awake.map(|because| because.join(", "));
    fields([
        ("name", instance.name.clone()),
        ("project", instance.project.clone()),
        ("state", instance.state.clone()),
        ("failure", or_none(instance.failure.as_ref())),
        ("snapshot", instance.snapshot.clone()),
        ("gitref", or_none(instance.gitref.as_ref())),
        ("commit", or_none(instance.commit.as_ref())),
        ("created", when(instance.created_at)),
        ("created by", instance.created_by.clone()),
        ("last used", when(instance.last_used_at)),
        ("expires", or_none(expires)),
        ("pinned", pinned),
        ("connections", instance.connections.to_string()),
        ("awake because", or_none(awake)),
        ("postgres", instance.postgres_major.to_string()),
        ("runtime", instance.runtime.clone()),
        ("exclusive", or_none(instance.exclusive_bytes.map(size))),
        ("data", instance.data_dir.display().to_string()),
        ("uid", instance.uid.clone()),
        ("generation", instance.generation.to_string()),
    ])
}
