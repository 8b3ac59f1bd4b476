//! `multidb job`.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Subcommand;
use jiff::Timestamp;
use multidb_store::JobId;

use super::output::printable;
use super::table::{Align, WidthArgs, ago, fields, fitted, moment, or_none, size};
use super::{Invocation, progress};
use crate::admin::api::ErrorInfo;
use crate::admin::client::AdminError;
use crate::control::model::JobView;

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List the jobs that are queued or run, and the last 100 that ended
    Ls(WidthArgs),
    /// Show a job
    Show {
        /// The number that `job ls` shows
        id: JobId,
    },
    /// Show a job's progress until it has ended; exits with 1 if it failed or was cancelled
    Wait {
        /// The number that `job ls` shows
        id: JobId,
    },
    /// Cancel a job, and return when nothing is left of it
    Cancel {
        /// The number that `job ls` shows
        id: JobId,
    },
}

pub(super) async fn run(command: &JobCommand, invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let client = invocation.client()?;
    let output = &invocation.output;
    let now = Timestamp::now();
    match command {
        JobCommand::Ls(args) => {
            let jobs: Vec<JobView> = client.get("/v1/jobs").await?;
            output.show(&jobs, |jobs| list(jobs, now, args.limit()))?;
        }
        JobCommand::Show { id } => {
            let job: JobView = client.get(&format!("/v1/jobs/{id}")).await?;
            output.show(&job, |job| one(job, now))?;
        }
        JobCommand::Wait { id } => {
            let job = progress::follow(&client, id.number()).await?;
            output.show(&job, summary)?;
            if let Some(error) = failure(&job) {
                return Err(error);
            }
        }
        JobCommand::Cancel { id } => {
            let job: JobView = client.post(&format!("/v1/jobs/{id}/cancel"), &()).await?;
            output.show(&job, summary)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The error of a job that has ended, unless it is done.
pub(super) fn failure(job: &JobView) -> Option<anyhow::Error> {
    let id = job.id;
    match &job.error {
        Some(error) => {
            let refused = AdminError::Refused(ErrorInfo {
                code: error.code.clone(),
                message: error.message.clone(),
                detail: error.detail.clone(),
                hint: error.hint.clone(),
            });
            Some(anyhow::Error::new(refused).context(format!("job {id} failed")))
        }
        None if job.state == "done" => None,
        None => Some(anyhow!("job {id} was cancelled")),
    }
}

/// One line about a job.
pub(super) fn summary(job: &JobView) -> String {
    let snapshot = job.snapshot.as_ref();
    let of = snapshot.map_or_else(String::new, |id| format!(" of snapshot {id}"));
    format!("job {} ({}{of}): {}", job.id, job.kind, job.state)
}

/// A table for a terminal of this width, if there is one.
pub(super) fn list(jobs: &[JobView], now: Timestamp, width: Option<usize>) -> String {
    let columns = [
        ("ID", Align::Right),
        ("KIND", Align::Left),
        ("PROJECT", Align::Left),
        ("SNAPSHOT", Align::Left),
        ("STATE", Align::Left),
        ("STARTED", Align::Left),
        ("TOOK", Align::Right),
        ("STEP", Align::Left),
    ];
    let rows = jobs.iter().map(|job| {
        let step = match progress(job) {
            Some(progress) => format!("{}, {progress}", step(job)),
            None => step(job),
        };
        [
            job.id.to_string(),
            job.kind.clone(),
            job.project.clone(),
            or_none(job.snapshot.as_ref()),
            job.state.clone(),
            or_none(job.started_at.map(moment)),
            took(job, now),
            step,
        ]
    });
    fitted(columns, rows, &["PROJECT", "TOOK", "STARTED"], width)
}

pub(super) fn one(job: &JobView, now: Timestamp) -> String {
    let mut text = fields([
        ("id", job.id.to_string()),
        ("kind", job.kind.clone()),
        ("project", job.project.clone()),
        ("snapshot", or_none(job.snapshot.as_ref())),
        ("state", job.state.clone()),
        ("step", step(job)),
        ("progress", or_none(progress(job))),
        ("started", or_none(job.started_at.map(moment))),
        ("ended", or_none(job.ended_at.map(moment))),
        ("took", took(job, now)),
    ]);
    let error = job.error.as_ref();
    let parts = [
        ("error", error.map(|error| &error.message)),
        ("detail", error.and_then(|error| error.detail.as_ref())),
        ("hint", error.and_then(|error| error.hint.as_ref())),
    ];
    let warnings = job
        .warnings
        .iter()
        .map(|warning| ("warning", Some(warning)));
    for (label, part) in parts.into_iter().chain(warnings) {
        for line in part.iter().flat_map(|part| part.lines()) {
            text.push_str(&format!("{label}: {}\n", printable(line)));
        }
    }
    text
}

pub(super) fn step(job: &JobView) -> String {
    or_none(job.step.as_ref())
}

/// The bytes of the current step: `1.5 GiB of 3.0 GiB`.
fn progress(job: &JobView) -> Option<String> {
    match (job.bytes_done, job.bytes_total) {
        _ if job.is_ended() => None,
        (done, Some(total)) => Some(format!("{} of {}", size(done), size(total))),
        (0, None) => None,
        (done, None) => Some(size(done)),
    }
}

/// How long it ran until its end, or until now.
pub(super) fn took(job: &JobView, now: Timestamp) -> String {
    let end = job.ended_at.unwrap_or(now);
    or_none(job.started_at.map(|started| ago(started, end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::errors;
    use crate::control::model::JobErrorView;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn running() -> JobView {
        JobView {
            id: 7,
            kind: "import".to_owned(),
            project: "polls".to_owned(),
            snapshot: Some("monday".to_owned()),
            state: "running".to_owned(),
            step: Some("restoring the dump".to_owned()),
            bytes_done: 3 << 29,
            bytes_total: Some(3 << 30),
            started_at: Some(at("2026-03-10T11:58:00Z")),
            ended_at: None,
            error: None,
            warnings: vec!["settings made by ALTER SYSTEM are left out: port".to_owned()],
        }
    }

    fn failed() -> JobView {
        JobView {
            id: 6,
            state: "failed".to_owned(),
            ended_at: Some(at("2026-03-10T11:58:45Z")),
            error: Some(JobErrorView {
                code: "import_failed".to_owned(),
                message: "Postgres exited while it started".to_owned(),
                detail: Some("FATAL: one\nFATAL: two\u{1b}[2J".to_owned()),
                hint: Some("Make the dump again.".to_owned()),
            }),
            warnings: Vec::new(),
            ..running()
        }
    }

    fn queued() -> JobView {
        JobView {
            id: 8,
            state: "queued".to_owned(),
            step: None,
            bytes_done: 0,
            bytes_total: None,
            started_at: None,
            warnings: Vec::new(),
            ..running()
        }
    }

    #[test]
    fn jobs_are_shown() {
        let now = at("2026-03-10T12:00:00Z");
        insta::assert_snapshot!("job_ls", list(&[failed(), running(), queued()], now, None));
        insta::assert_snapshot!("job_show", one(&running(), now));
        insta::assert_snapshot!("job_show_failed", one(&failed(), now));
        insta::assert_snapshot!("job_summary", summary(&failed()));
    }

    #[test]
    fn failure_of_a_job_is_told_with_detail_and_hint() {
        let error = failure(&failed()).unwrap();
        insta::assert_snapshot!("job_failure", errors::text(&error));
        let done = JobView {
            state: "done".to_owned(),
            error: None,
            ..failed()
        };
        assert!(failure(&done).is_none());
    }
}
