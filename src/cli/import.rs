//! `multidb snapshot import` and `multidb snapshot refresh`.

mod dump;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use multidb_store::{InstanceName, ProjectName, SnapshotId};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::dump::{LocalDump, is_local};
use super::table::{moment, size};
use super::{Invocation, job, progress};
use crate::admin::api::{ErrorPolicy, ImportBody, ImportSource, RefreshBody, ServerInfo};
use crate::admin::client::{AdminClient, AdminError, escaped};
use crate::control::model::{JobView, SnapshotView};
use crate::text::count;

/// Starts an import.
const IMPORT: &str = "/v1/snapshots/import";
/// Starts a refresh.
const REFRESH: &str = "/v1/snapshots/refresh";

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The id of the new snapshot
    id: SnapshotId,
    /// Its project
    #[arg(long)]
    project: ProjectName,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    server: ServerArgs,
    /// When the data was taken: RFC 3339, or a date (its begin, UTC); without it, found out from
    /// the source
    #[arg(long, value_name = "TIME", value_parser = taken_at)]
    taken_at: Option<Timestamp>,
    /// The major version of Postgres to restore a dump into
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(9..=99))]
    postgres_major: Option<u16>,
    #[command(flatten)]
    errors: ErrorArgs,
    /// Print the job that imports, and do not wait for it; a dump that this command must send is sent first
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// The data directory of a Postgres that was shut down cleanly; it is only read
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What pg_dump or pg_dumpall made, in any format; compressed by gzip, zstd, xz, lz4 or bzip2 too. `-` is the
    /// standard input
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// A running Postgres: postgres://user@host:port/database, with libpq's parameters but no password. All its
    /// databases are copied by pg_basebackup
    #[arg(long, value_name = "URL")]
    from_url: Option<String>,
    /// An instance of the project as it is now; its sessions go on, and one that does not run is started
    #[arg(long, value_name = "NAME")]
    from_instance: Option<InstanceName>,
}

/// How a running server is copied.
#[derive(Debug, Args)]
struct ServerArgs {
    /// Copy one database of the running Postgres, by pg_dump
    #[arg(long, requires = "from_url")]
    logical: bool,
    /// The file with the running Postgres' password, on the daemon's machine, in the form of ~/.pgpass
    #[arg(long, value_name = "FILE", requires = "from_url")]
    passfile: Option<PathBuf>,
}

/// What is done at an error of a dump's statement. Without either, an import goes on past those that concern
/// neither data nor structure.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct ErrorArgs {
    /// End the import at the first error of a dump's statement, whatever it concerns
    #[arg(long)]
    strict: bool,
    /// Go on past all errors of a dump's statements, and list them
    #[arg(long)]
    keep_going: bool,
}

impl ErrorArgs {
    fn policy(&self) -> ErrorPolicy {
        match (self.strict, self.keep_going) {
            (true, _) => ErrorPolicy::Strict,
            (_, true) => ErrorPolicy::KeepGoing,
            _ => ErrorPolicy::Default,
        }
    }
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
    /// The source as the daemon is told, and the dump if it is sent.
    fn into_source(self, server: ServerArgs) -> anyhow::Result<(ImportSource, Option<LocalDump>)> {
        if let Some(url) = self.from_url {
            let passfile = server.passfile.as_deref().map(existing).transpose()?;
            let logical = server.logical;
            let server = ServerInfo {
                url,
                logical,
                passfile,
            };
            return Ok((ImportSource::Server(server), None));
        }
        if let Some(instance) = self.from_instance {
            return Ok((ImportSource::Instance(instance), None));
        }
        match (self.data_dir, self.dump) {
            (Some(dir), _) => Ok((ImportSource::DataDir(existing(&dir)?), None)),
            (_, Some(dump)) if is_local(&dump) => {
                let opened = LocalDump::open(&dump);
                let dump = opened.with_context(|| format!("cannot open {}", dump.display()))?;
                Ok((ImportSource::Upload(dump.info.clone()), Some(dump)))
            }
            (_, Some(dump)) => Ok((ImportSource::Dump(existing(&dump)?), None)),
            _ => bail!("no source is given"),
        }
    }
}

/// The path as the daemon, whose working directory is another, can find it. What is wrong with
/// it is the daemon's to say: it may see what we may not.
fn existing(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot use the path {}", path.display()))
}

pub(super) async fn run(args: ImportArgs, invocation: &Invocation) -> anyhow::Result<()> {
    let (source, dump) = args.source.into_source(args.server)?;
    let mut body = ImportBody {
        id: args.id.to_string(),
        project: args.project.to_string(),
        source,
        taken_at: args.taken_at,
        postgres_major: args.postgres_major,
        errors: args.errors.policy(),
    };
    let client = invocation.client()?;
    // Before the job starts: a signal that comes meanwhile is seen once its number is known.
    let mut interrupts = Interrupts::listen()?;
    let (started, dump) = start(&client, &mut body, dump).await?;
    let id = started.id;
    let finished = finish(&client, started, dump, args.detach);
    // It goes on sending until the job is cancelled: a dump that is cut off fails its job.
    tokio::pin!(finished);
    let job = tokio::select! {
        finished = &mut finished => finished?,
        () = interrupts.next() => return cancel(&client, id, &mut interrupts).await,
    };
    if job.is_ended()
        && let Some(error) = job::failure(&job)
    {
        return Err(error);
    }
    if args.detach {
        return invocation.output.show(&job, job::summary);
    }
    show(&client, &body.id, invocation).await
}

/// Shows the snapshot that was made.
async fn show(client: &AdminClient, id: &str, invocation: &Invocation) -> anyhow::Result<()> {
    let path = format!("/v1/snapshots/{}", escaped(id));
    let imported: SnapshotView = client.get(&path).await?;
    let snapshot = SnapshotView {
        applied: None,
        passed_errors: None,
        preparations: None,
        ..imported
    };
    invocation.output.show(&snapshot, summary)
}

#[derive(Debug, Args)]
pub(super) struct RefreshArgs {
    /// The project
    #[arg(long)]
    project: ProjectName,
    /// Print the job that refreshes, and do not wait for it
    #[arg(long)]
    detach: bool,
}

/// Refreshes a project.
pub(super) async fn refresh(args: RefreshArgs, invocation: &Invocation) -> anyhow::Result<()> {
    let client = invocation.client()?;
    let mut interrupts = Interrupts::listen()?;
    let body = RefreshBody {
        project: args.project.to_string(),
    };
    let started: JobView = client.post(REFRESH, &body).await?;
    let id = started.id;
    if args.detach {
        return invocation.output.show(&started, job::summary);
    }
    let job = tokio::select! {
        ended = progress::follow(&client, id) => ended?,
        () = interrupts.next() => return cancel(&client, id, &mut interrupts).await,
    };
    match (job::failure(&job), &job.snapshot) {
        (Some(error), _) => Err(error),
        (None, Some(snapshot)) => show(&client, snapshot, invocation).await,
        (None, None) => bail!("job {id} has made no snapshot"),
    }
}

/// Starts the job. A dump that the daemon cannot open is sent to it, if this process can.
async fn start(
    client: &AdminClient,
    body: &mut ImportBody,
    dump: Option<LocalDump>,
) -> anyhow::Result<(JobView, Option<LocalDump>)> {
    let refused = match client.post(IMPORT, &*body).await {
        Err(AdminError::Refused(refused)) if refused.code == "dump_unreadable" => refused,
        started => return Ok((started?, dump)),
    };
    let ImportSource::Dump(path) = &body.source else {
        return Err(AdminError::Refused(refused).into());
    };
    let Ok(dump) = LocalDump::open(path) else {
        return Err(AdminError::Refused(refused).into());
    };
    body.source = ImportSource::Upload(dump.info.clone());
    Ok((client.post(IMPORT, &*body).await?, Some(dump)))
}

/// Sends the dump, and waits for the end of the job unless it is detached.
async fn finish(
    client: &AdminClient,
    job: JobView,
    dump: Option<LocalDump>,
    detach: bool,
) -> anyhow::Result<JobView> {
    let Some(dump) = dump else {
        return match detach {
            true => Ok(job),
            false => progress::follow(client, job.id).await,
        };
    };
    let name = dump.info.name;
    let send = client.send_dump(job.id, dump.content);
    let failed = || format!("cannot send {} to job {}", name.display(), job.id);
    if detach {
        return send.await.with_context(failed);
    }
    let follow = progress::follow(client, job.id);
    tokio::pin!(send, follow);
    tokio::select! {
        followed = &mut follow => followed,
        sent = &mut send => {
            // The job has the best error, except for a failure to read the dump here.
            let followed = follow.await;
            match sent {
                Err(error @ AdminError::Dump(_)) => Err(error).with_context(failed),
                _ => followed,
            }
        }
    }
}

/// Cancels the import after a Ctrl-C. A second one ends the wait for the clean-up.
async fn cancel(client: &AdminClient, job: u64, interrupts: &mut Interrupts) -> anyhow::Result<()> {
    let path = format!("/v1/jobs/{job}/cancel");
    let cancelled = client.post::<JobView>(&path, &());
    tokio::select! {
        cancelled = cancelled => cancelled?,
        () = interrupts.next() => bail!("job {job} is still being cancelled"),
    };
    bail!("job {job} was cancelled: nothing was imported, and nothing of it is left")
}

/// SIGINT and SIGTERM.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Resolves at the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

pub(super) fn summary(snapshot: &SnapshotView) -> String {
    format!(
        "snapshot {} imported: taken at {}, Postgres {}, {}, {}",
        snapshot.id,
        moment(snapshot.taken_at),
        snapshot.postgres_major,
        size(snapshot.bytes),
        count(snapshot.migrations, "migration")
    )
}
