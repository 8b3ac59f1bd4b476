//! `multidb snapshot import`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use multidb_store::{ProjectName, SnapshotId};

use super::Invocation;
use super::table::{moment, printable, size};
use crate::admin::api::{ImportBody, ImportEvent, ImportSource};
use crate::admin::client::AdminError;
use crate::control::model::SnapshotView;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The id of the new snapshot
    id: SnapshotId,
    /// Its project
    #[arg(long)]
    project: ProjectName,
    #[command(flatten)]
    source: SourceArgs,
    /// When the data was taken: RFC 3339, or a date (its begin, UTC); without it, found out from
    /// the source
    #[arg(long, value_name = "TIME", value_parser = taken_at)]
    taken_at: Option<Timestamp>,
    /// The major version of Postgres to restore a dump into
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(9..=99))]
    postgres_major: Option<u16>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// The data directory of a Postgres that was shut down cleanly; it is only read
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What pg_dump made: plain SQL, custom, directory or tar; .gz and .zst too
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// A running Postgres: not in the help, since it is not available in this version
    #[arg(long, value_name = "URL", hide = true)]
    from_url: Option<String>,
}

fn taken_at(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    // A time without an offset is a date to the parser, which would drop the time.
    let date = text
        .parse::<Date>()
        .ok()
        .filter(|date| date.to_string() == text);
    let begin = date.and_then(|date| TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok());
    begin.ok_or_else(|| {
        "it is neither an RFC 3339 time such as 2026-03-01T04:00:00Z nor a date such as 2026-03-01"
            .to_owned()
    })
}

impl SourceArgs {
    fn into_source(self) -> anyhow::Result<ImportSource> {
        match (self.data_dir, self.dump) {
            (Some(dir), _) => Ok(ImportSource::DataDir(existing(&dir)?)),
            (_, Some(dump)) => Ok(ImportSource::Dump(existing(&dump)?)),
            _ => bail!(
                "--from-url is not available in this version of multidb; \
                 make a dump with pg_dump and import it with --dump"
            ),
        }
    }
}

/// The path as the daemon, whose working directory is another, can find it. What is wrong with
/// it is the daemon's to say: it may see what we may not.
fn existing(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot use the path {}", path.display()))
}

pub(super) async fn run(args: ImportArgs, invocation: &Invocation) -> anyhow::Result<()> {
    let body = ImportBody {
        id: args.id.to_string(),
        project: args.project.to_string(),
        source: args.source.into_source()?,
        taken_at: args.taken_at,
        postgres_major: args.postgres_major,
    };
    let mut display = Display::new();
    let mut result = None;
    let client = invocation.client()?;
    let imported = client.import(&body, |event| match event {
        ImportEvent::Progress { step, done, total } => display.progress(&step, done, total),
        ImportEvent::Done { snapshot } => result = Some(Ok(snapshot)),
        ImportEvent::Failed { error } => result = Some(Err(AdminError::Refused(error))),
    });
    let imported = imported.await;
    display.end();
    imported?;
    let Some(result) = result else {
        bail!("the import ended without a result");
    };
    invocation.output.show(&result?, summary)
}

pub(super) fn summary(snapshot: &SnapshotView) -> String {
    format!(
        "snapshot {} imported: taken at {}, Postgres {}, {}, {} migrations",
        snapshot.id,
        moment(snapshot.taken_at),
        snapshot.postgres_major,
        size(snapshot.bytes),
        snapshot.migrations
    )
}

/// How progress is shown: a bar on a terminal, else a line for each step.
enum Display {
    Bar(ProgressBar),
    Lines { step: String },
}

impl Display {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines {
                step: String::new(),
            };
        }
        let bar = ProgressBar::no_length();
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Bar(bar)
    }

    fn progress(&mut self, step: &str, done: u64, total: Option<u64>) {
        let step = printable(step);
        match self {
            Self::Bar(bar) => {
                bar.set_style(style(total.is_some()));
                bar.set_message(step.into_owned());
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Self::Lines { step: last } if *last == step => {}
            Self::Lines { step: last } => {
                *last = step.into_owned();
                // Where nobody reads it, there is nobody to tell.
                let _unread = writeln!(std::io::stderr(), "{last}");
            }
        }
    }

    fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
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
