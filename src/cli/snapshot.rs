//! `multidb snapshot`, except for its import.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use multidb_store::{ProjectName, SnapshotId};
use serde_json::json;

use super::instance::pin_time;
use super::output::printable;
use super::table::{
    Align, WidthArgs, ago, coarse, count, fields, fitted, moment, or_none, size, table,
};
use super::{Invocation, confirm, import};
use crate::admin::api::PinBody;
use crate::admin::client::with_query;
use crate::control::model::{ExplainView, SnapshotView};

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotCommand {
    /// Create a snapshot from a data directory, a dump, a running server or an instance
    Import(import::ImportArgs),
    /// Create a project's next snapshot from its configured source
    Refresh(import::RefreshArgs),
    /// List snapshots
    Ls(WidthArgs),
    /// Exempt a snapshot from the keep of its project
    Pin {
        /// Id of the snapshot
        id: SnapshotId,
        /// Time until the pin ends, such as 2d [default: never]
        #[arg(long = "for", value_name = "TIME", value_parser = pin_time)]
        duration: Option<Duration>,
    },
    /// Let the keep of its project delete a snapshot again
    Unpin {
        /// Id of the snapshot
        id: SnapshotId,
    },
    /// Show one snapshot and its applied migrations
    Show {
        /// Id of the snapshot
        id: SnapshotId,
    },
    /// Delete a snapshot
    Rm {
        /// Id of the snapshot
        id: SnapshotId,
        /// Delete it although instances need it for a reset
        #[arg(long)]
        force: bool,
        /// Do not ask for confirmation
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Explain which snapshot a revision gets and why
    Explain {
        /// Commit, branch or tag
        #[arg(long, value_name = "REF")]
        gitref: String,
        /// Project; required if several are configured
        #[arg(long)]
        project: Option<ProjectName>,
    },
}

pub(super) async fn run(
    command: SnapshotCommand,
    invocation: &Invocation,
) -> anyhow::Result<ExitCode> {
    let output = &invocation.output;
    let now = Timestamp::now();
    match command {
        SnapshotCommand::Import(args) => import::run(args, invocation).await?,
        SnapshotCommand::Refresh(args) => import::refresh(args, invocation).await?,
        SnapshotCommand::Ls(args) => {
            let snapshots: Vec<SnapshotView> = invocation.client()?.get("/v1/snapshots").await?;
            output.show(&snapshots, |snapshots| list(snapshots, now, args.limit()))?;
        }
        SnapshotCommand::Show { id } => {
            let path = format!("/v1/snapshots/{id}");
            let snapshot: SnapshotView = invocation.client()?.get(&path).await?;
            output.show(&snapshot, |snapshot| one(snapshot, now))?;
        }
        SnapshotCommand::Pin { id, duration } => {
            let body = PinBody {
                for_seconds: duration.map(|time| time.as_secs()),
            };
            let path = format!("/v1/snapshots/{id}/pin");
            let snapshot: SnapshotView = invocation.client()?.post(&path, &body).await?;
            output.show(&snapshot, pinned)?;
        }
        SnapshotCommand::Unpin { id } => {
            let path = format!("/v1/snapshots/{id}/unpin");
            let snapshot: SnapshotView = invocation.client()?.post(&path, &json!({})).await?;
            output.show(&snapshot, pinned)?;
        }
        SnapshotCommand::Rm { id, force, yes } => {
            confirm_removal(&id, yes, invocation).await?;
            let path = format!("/v1/snapshots/{id}?force={force}");
            let () = invocation.client()?.delete(&path).await?;
            let done = json!({"id": id, "deleted": true});
            output.show(&done, |_| format!("snapshot {id} deleted"))?;
        }
        SnapshotCommand::Explain { gitref, project } => {
            let project = project.map(|project| project.to_string());
            let query = [("gitref", Some(gitref)), ("project", project)];
            let path = with_query("/v1/snapshots/explain", &query);
            let explained: ExplainView = invocation.client()?.get(&path).await?;
            output.show(&explained, |explained| explain(explained, now))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a person for confirmation. A missing snapshot is left to the command itself to report.
async fn confirm_removal(
    id: &SnapshotId,
    yes: bool,
    invocation: &Invocation,
) -> anyhow::Result<()> {
    if yes || invocation.global.json || !confirm::is_interactive() {
        return Ok(());
    }
    let path = format!("/v1/snapshots/{id}");
    let snapshot: SnapshotView = invocation.client()?.get(&path).await?;
    confirm::ask(&format!("snapshot {id}"), &confirm::removal_of(&snapshot))
}

fn pinned(snapshot: &SnapshotView) -> String {
    let id = &snapshot.id;
    match (snapshot.pinned, snapshot.pinned_until) {
        (true, None) => format!("snapshot {id} is pinned permanently"),
        (true, Some(until)) => format!("snapshot {id} is pinned until {}", moment(until)),
        (false, _) => format!("snapshot {id} is not pinned; kept: {}", kept(snapshot)),
    }
}

/// Why it is kept, and until when.
fn kept(snapshot: &SnapshotView) -> String {
    match (snapshot.pinned_until, snapshot.kept_because.as_slice()) {
        (Some(until), _) => format!("pinned until {}", moment(until)),
        (None, []) => "goes after the next import".to_owned(),
        (None, reasons) => reasons.join(", "),
    }
}

/// A table for a terminal of this width, if there is one.
pub(super) fn list(snapshots: &[SnapshotView], now: Timestamp, width: Option<usize>) -> String {
    let columns = [
        ("ID", Align::Left),
        ("PROJECT", Align::Left),
        ("TAKEN", Align::Left),
        ("AGE", Align::Right),
        ("POSTGRES", Align::Right),
        ("SIZE", Align::Right),
        ("EXCLUSIVE", Align::Right),
        ("MIGRATIONS", Align::Right),
        ("INSTANCES", Align::Right),
        ("KEPT", Align::Left),
    ];
    let rows = snapshots.iter().map(|snapshot| {
        [
            snapshot.id.clone(),
            snapshot.project.clone(),
            moment(snapshot.taken_at),
            ago(snapshot.taken_at, now),
            snapshot.postgres_major.to_string(),
            size(snapshot.bytes),
            or_none(snapshot.exclusive_bytes.map(size)),
            snapshot.migrations.to_string(),
            snapshot.instances.to_string(),
            kept(snapshot),
        ]
    });
    let spare = ["PROJECT", "MIGRATIONS", "EXCLUSIVE", "POSTGRES", "AGE"];
    fitted(columns, rows, &spare, width)
}

pub(super) fn one(snapshot: &SnapshotView, now: Timestamp) -> String {
    let when = |at: Timestamp| format!("{} ({} ago)", moment(at), ago(at, now));
    let mut text = fields([
        ("id", snapshot.id.clone()),
        ("project", snapshot.project.clone()),
        ("taken", when(snapshot.taken_at)),
        ("imported", when(snapshot.imported_at)),
        ("source", snapshot.source.clone()),
        ("postgres", snapshot.postgres_major.to_string()),
        ("size", size(snapshot.bytes)),
        ("exclusive", or_none(snapshot.exclusive_bytes.map(size))),
        ("files", snapshot.files.to_string()),
        ("instances", snapshot.instances.to_string()),
        ("kept", kept(snapshot)),
        ("data", snapshot.data_dir.display().to_string()),
        ("migrations", snapshot.migrations.to_string()),
    ]);
    for migration in snapshot.applied.iter().flatten() {
        text.push_str(&format!("  {}\n", printable(migration)));
    }
    text.push_str(&preparations(snapshot));
    text.push_str(&passed_errors(snapshot));
    text
}

/// What ran on its data before it could be seen.
fn preparations(snapshot: &SnapshotView) -> String {
    let preparations = snapshot.preparations.as_deref().unwrap_or_default();
    if preparations.is_empty() {
        return String::new();
    }
    let mut text = "prepared by:\n".to_owned();
    for prepared in preparations {
        let took = humantime::format_duration(Duration::from_millis(prepared.millis));
        let name = printable(&prepared.name);
        text.push_str(&format!("  {name} ({took}, sha256 {})\n", prepared.sha256));
    }
    text
}

/// The errors that the import went past.
fn passed_errors(snapshot: &SnapshotView) -> String {
    let errors = snapshot.passed_errors.as_deref().unwrap_or_default();
    if errors.is_empty() {
        return String::new();
    }
    let mut text = format!("errors passed over: {}\n", snapshot.errors_passed);
    for error in errors {
        let line = format!("{}: {} ({})", error.place, error.error, error.statement);
        text.push_str(&format!("  {}\n", printable(&line)));
    }
    text
}

pub(super) fn explain(explained: &ExplainView, now: Timestamp) -> String {
    let mut text = format!(
        "revision {} of project {} is commit {}, which defines {}\n",
        printable(&explained.gitref),
        explained.project,
        explained.commit,
        count(explained.defined, "migration")
    );
    if let Some(unconfirmed) = &explained.unconfirmed {
        let when = match unconfirmed.age_s {
            Some(age) => format!("{} ago", coarse(Duration::from_secs(age))),
            None => "at an unknown time".to_owned(),
        };
        text.push_str(&format!(
            "the git remote does not answer: this is the revision as it was {when}\n"
        ));
    }
    match &explained.chosen {
        Some(chosen) => text.push_str(&format!(
            "chosen: {chosen}, the newest compatible snapshot\n\n"
        )),
        None => text.push_str("chosen: none, no snapshot is compatible\n\n"),
    }
    let columns = [
        ("SNAPSHOT", Align::Left),
        ("TAKEN", Align::Left),
        ("AGE", Align::Right),
        ("COMPATIBLE", Align::Left),
        ("UNDEFINED MIGRATIONS", Align::Left),
    ];
    let rows = explained.snapshots.iter().map(|verdict| {
        let mut compatible = if verdict.compatible { "yes" } else { "no" }.to_owned();
        if let Some(preferred) = &verdict.passed_over_for {
            compatible.push_str(&format!(", and {preferred} is preferred"));
        }
        let mut missing = verdict.missing.join(", ");
        let more = verdict.missing_total.saturating_sub(verdict.missing.len());
        if more > 0 {
            missing.push_str(&format!(" and {more} more"));
        }
        [
            verdict.id.clone(),
            moment(verdict.taken_at),
            ago(verdict.taken_at, now),
            compatible,
            or_none(Some(missing).filter(|missing| !missing.is_empty())),
        ]
    });
    text.push_str(&table(columns, rows));
    text
}
