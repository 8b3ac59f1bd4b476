//! `multidb dedup`: snapshots share the blocks that they have in common.

use std::process::ExitCode;

use clap::Subcommand;

use super::table::{Align, count, fields, moment, or_none, size, table};
use super::{Invocation, job, progress};
use crate::control::model::{DedupView, JobView, SnapshotDedupView};

#[derive(Debug, Subcommand)]
pub(super) enum DedupCommand {
    /// Show how far snapshots share their blocks, and how much that saves
    Status,
    /// Compare the snapshots that have not been compared with the newest one, and wait for it
    Run {
        /// Return at once; the work goes on as a job for each project
        #[arg(long)]
        detach: bool,
    },
    /// Pause all comparisons until `dedup resume`, also after a restart of the daemon
    Pause,
    /// Resume them
    Resume,
}

pub(super) async fn run(
    command: &DedupCommand,
    invocation: &Invocation,
) -> anyhow::Result<ExitCode> {
    let client = invocation.client()?;
    let output = &invocation.output;
    match command {
        DedupCommand::Status => {
            let view: DedupView = client.get("/v1/dedup").await?;
            output.show(&view, text)?;
        }
        DedupCommand::Run { detach } => {
            let mut jobs: Vec<JobView> = client.post("/v1/dedup/run", &()).await?;
            if !detach {
                for job in &mut jobs {
                    *job = progress::follow(&client, job.id).await?;
                }
            }
            output.show(&jobs, |jobs| summaries(jobs))?;
            if let Some(error) = jobs.iter().filter(|_| !detach).find_map(job::failure) {
                return Err(error);
            }
        }
        DedupCommand::Pause => {
            let view: DedupView = client.post("/v1/dedup/pause", &()).await?;
            output.show(&view, |_| "the de-duplication is paused".to_owned())?;
        }
        DedupCommand::Resume => {
            let view: DedupView = client.post("/v1/dedup/resume", &()).await?;
            output.show(&view, |_| "the de-duplication goes on".to_owned())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn summaries(jobs: &[JobView]) -> String {
    if jobs.is_empty() {
        return "all snapshots share their blocks with the newest one of their project".to_owned();
    }
    let lines: Vec<String> = jobs.iter().map(job::summary).collect();
    lines.join("\n")
}

pub(super) fn text(view: &DedupView) -> String {
    let state = match (view.paused, view.enabled) {
        (true, _) => "paused".to_owned(),
        (false, true) => "after each import".to_owned(),
        (false, false) => "on command only (dedup.enabled = false)".to_owned(),
    };
    let mut text = fields([
        ("runs", state),
        ("bandwidth", format!("{} a second", size(view.bandwidth))),
        ("examined", size(view.bytes_examined)),
        ("shared", size(view.bytes_shared)),
        ("saved", size(view.bytes_saved)),
        ("snapshots", count(view.snapshots.len(), "snapshot")),
    ]);
    if view.snapshots.is_empty() {
        return text;
    }
    let columns = [
        ("SNAPSHOT", Align::Left),
        ("PROJECT", Align::Left),
        ("TAKEN", Align::Left),
        ("BYTES", Align::Right),
        ("SHARES WITH", Align::Left),
        ("EXAMINED", Align::Right),
        ("SHARED", Align::Right),
        ("SAVED", Align::Right),
        ("EXTENTS", Align::Right),
        ("COMPLETE", Align::Left),
    ];
    text.push('\n');
    text.push_str(&table(columns, view.snapshots.iter().map(row)));
    text
}

fn row(snapshot: &SnapshotDedupView) -> [String; 10] {
    let is_known = snapshot.onto.is_some();
    let bytes = |bytes| or_none(is_known.then(|| size(bytes)));
    [
        snapshot.id.clone(),
        snapshot.project.clone(),
        moment(snapshot.taken_at),
        size(snapshot.bytes),
        or_none(snapshot.onto.as_ref()),
        bytes(snapshot.bytes_examined),
        bytes(snapshot.bytes_shared),
        bytes(snapshot.bytes_saved),
        or_none(snapshot.extents),
        or_none(snapshot.finished_at.map(moment)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_shown() {
        let snapshot = |id: &str, onto: Option<&str>| SnapshotDedupView {
            id: id.to_owned(),
            project: "polls".to_owned(),
            taken_at: "2026-03-10T03:00:00Z".parse().unwrap(),
            bytes: 15 << 30,
            onto: onto.map(str::to_owned),
            finished_at: onto.map(|_| "2026-03-11T03:10:00Z".parse().unwrap()),
            bytes_examined: 15 << 30,
            bytes_shared: 14 << 30,
            bytes_saved: 13 << 30,
            extents: onto.map(|_| 4711),
        };
        let view = DedupView {
            enabled: true,
            paused: false,
            bandwidth: 200 << 20,
            bytes_examined: 15 << 30,
            bytes_shared: 14 << 30,
            bytes_saved: 13 << 30,
            snapshots: vec![
                snapshot("tuesday", None),
                snapshot("monday", Some("tuesday")),
            ],
        };
        insta::assert_snapshot!("dedup_status", text(&view));
        let paused = DedupView {
            paused: true,
            snapshots: Vec::new(),
            ..view
        };
        insta::assert_snapshot!("dedup_status_paused", text(&paused));
    }
}
