//! The progress of a job on standard error: a bar on a terminal, else a line for each step.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::output::printable;
use crate::admin::client::{AdminClient, AdminError};
use crate::control::model::JobView;

/// How often the spinner of a bar moves.
const TICK_INTERVAL: Duration = Duration::from_millis(120);

/// Shows a job's progress until it has ended, and returns its last status.
pub(super) async fn follow(client: &AdminClient, job: u64) -> anyhow::Result<JobView> {
    let mut display = Display::new();
    let last = client.follow_job(job, |status| display.show(status)).await;
    drop(display);
    match last {
        Err(error @ AdminError::Broken(_)) => Err(error).with_context(|| {
            format!("lost sight of job {job}, which \"multidb job wait {job}\" finds again")
        }),
        last => Ok(last?),
    }
}

struct Display {
    warnings_shown: usize,
    form: Form,
}

enum Form {
    Bar(ProgressBar),
    Lines { step: String },
}

impl Display {
    fn new() -> Self {
        let form = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::no_length();
            bar.enable_steady_tick(TICK_INTERVAL);
            Form::Bar(bar)
        } else {
            Form::Lines {
                step: String::new(),
            }
        };
        Self {
            warnings_shown: 0,
            form,
        }
    }

    fn show(&mut self, job: &JobView) {
        for warning in job.warnings.iter().skip(self.warnings_shown) {
            self.form.print(&format!("warning: {}", printable(warning)));
        }
        self.warnings_shown = job.warnings.len();
        let step = match &job.step {
            Some(step) => printable(step).into_owned(),
            None if job.state == "queued" => "waiting for other jobs to end".to_owned(),
            None => return,
        };
        self.form.step(step, job.bytes_done, job.bytes_total);
    }
}

impl Drop for Display {
    /// Clears the bar, also where the job is no longer followed.
    fn drop(&mut self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

impl Form {
    fn step(&mut self, step: String, done: u64, total: Option<u64>) {
        match self {
            Self::Bar(bar) => {
                bar.set_style(style(total.is_some()));
                bar.set_message(step);
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Self::Lines { step: last } if *last == step => {}
            Self::Lines { step: last } => {
                last.clone_from(&step);
                self.print(&step);
            }
        }
    }

    fn print(&self, line: &str) {
        match self {
            Self::Bar(bar) => bar.println(line),
            // A closed standard error has no reader to be told.
            Self::Lines { .. } => {
                let _unread = writeln!(std::io::stderr(), "{line}");
            }
        }
    }
}

fn style(bounded: bool) -> ProgressStyle {
    let template = if bounded {
        "{spinner} {msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {eta}"
    } else {
        "{spinner} {msg} {elapsed}"
    };
    // The templates are constants: the default style is never needed.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
