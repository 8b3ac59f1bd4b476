//! A dump that a program makes while it is restored: pg_dump of a running server, or a configured command.
//!
//! The program's success is the end of the dump. Where it fails, the restore ends without one, and the program's error is
//! that of the import.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use jiff::Timestamp;
use multidb_store::TakenAtOrigin;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::task::AbortOnDropHandle;

use super::command::{self, DumpCommand};
use super::refusal::no_programs;
use super::server::{Client, SourceServer, check};
use crate::import::context::Context;
use crate::import::dump::Dump;
use crate::import::error::ImportError;
use crate::import::major::{check_installed, newest_installed};
use crate::import::progress::Step;
use crate::import::restore::{Fifos, open_reader};
use crate::import::script::{KeyReader, PrimaryKeys};
use crate::import::upload::Upload;

/// The directory of the FIFO in the staging directory.
const DIRECTORY: &str = "source";
/// The statements that add the primary keys, as pg_dump writes them.
const KEYS: &str = "SELECT pg_catalog.format('ALTER TABLE ONLY %I.%I ADD CONSTRAINT %I %s;', n.nspname, c.relname, \
                    k.conname, pg_catalog.pg_get_constraintdef(k.oid)) FROM pg_catalog.pg_constraint AS k \
                    JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid \
                    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                    WHERE k.contype = 'p' AND n.nspname <> 'pg_catalog' ORDER BY 1";
/// pg_dump quotes only the names that need it.
const QUOTE_AS_PG_DUMP: &str = "SET quote_all_identifiers = off";
/// The pieces of the dump that are queued, 16 MiB: of a cluster with ten thousands of indexes, pg_dump has written all
/// of them, and ended its transaction, before the first is built.
const PIECES_MAX: usize = 256;
/// The size of a piece of the dump.
const PIECE_BYTES: usize = 64 << 10;

/// A dump of one database of a running server.
#[derive(Debug, Clone)]
pub struct LogicalSource {
    /// The server.
    pub server: SourceServer,
    /// Patterns of tables that are left out.
    pub exclude_table: Vec<String>,
    /// Patterns of tables whose rows are left out.
    pub exclude_table_data: Vec<String>,
}

/// The program that makes a dump.
type Program = BoxFuture<'static, Result<(), ImportError>>;

/// A dump that is being made.
pub(in crate::import) struct Feed {
    /// Its end, or why there is none.
    failure: Arc<Mutex<Option<ImportError>>>,
    task: AbortOnDropHandle<()>,
    pub(super) started_at: Timestamp,
}

impl Feed {
    /// Starts a pg_dump of this major.
    fn run_pg_dump(
        context: &Context,
        client: &Client<'_>,
        (source, database): (&LogicalSource, &str),
        major: u16,
    ) -> Result<(Self, Upload), ImportError> {
        let server = &source.server;
        let directory = context.staging.path().join(DIRECTORY);
        let fifos = Fifos::create(&directory, context.host().data_owner())?;
        let mut args = vec![
            // What pg_restore would make of an archive.
            "--format=plain".to_owned(),
            "--create".to_owned(),
            "--no-tablespaces".to_owned(),
            "--no-password".to_owned(),
            // A FIFO cannot be synced.
            "--no-sync".to_owned(),
            format!("--file={}", fifos.restored.display()),
        ];
        let excluded = source.exclude_table.iter();
        args.extend(excluded.map(|table| format!("--exclude-table={table}")));
        let excluded = source.exclude_table_data.iter();
        args.extend(excluded.map(|table| format!("--exclude-table-data={table}")));
        args.push(format!("--dbname={}", client.url(database, &[])));
        let mut run = client.program(major, "pg_dump", args);
        run.binds.push(directory);
        let reader = open_reader(&fifos.restored)?;
        let (host, from) = (context.importer.host.clone(), server.name.clone());
        let program = async move { check(&from, &host.run_program(&run).await?) };
        let first = async move {
            // A read without a writer returns the end of the file, so the first byte is waited for.
            reader.readable().await.map(|()| reader)
        };
        Ok(Self::start(server.name.clone(), first, program.boxed()))
    }

    /// Starts the command.
    pub(super) fn run_command(
        context: &Context,
        source: &DumpCommand,
    ) -> Result<(Self, Upload), ImportError> {
        let (stdout, program) = command::start(source, context.host().data_owner())?;
        let first = async move { Ok(stdout) };
        Ok(Self::start(source.name(), first, program))
    }

    fn start<R: AsyncRead + Send + Unpin + 'static>(
        name: PathBuf,
        reader: impl Future<Output = io::Result<R>> + Send + 'static,
        program: Program,
    ) -> (Self, Upload) {
        let (upload, sender) = Upload::with_queue(name.clone(), PIECES_MAX);
        let failure = Arc::new(Mutex::new(None));
        let failed = failure.clone();
        let pieces = Pieces {
            name,
            reader: None,
            opening: reader.boxed(),
            program: Some(program),
        };
        let body = stream::try_unfold(pieces, Pieces::next);
        let task = tokio::spawn(async move {
            let body = body.map(|piece| {
                piece.map_err(|error| {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                })
            });
            sender.send_all(body).await;
        });
        let feed = Self {
            failure,
            task: AbortOnDropHandle::new(task),
            started_at: Timestamp::now(),
        };
        (feed, upload)
    }

    /// The error of a restore: that of the program, if the dump ended early.
    pub(super) async fn explain(self, error: ImportError) -> ImportError {
        if !matches!(error, ImportError::CutOff { .. }) {
            return error;
        }
        let _ended = self.task.await;
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.unwrap_or(error)
    }
}

/// The output of a program in pieces.
struct Pieces<R> {
    name: PathBuf,
    opening: BoxFuture<'static, io::Result<R>>,
    /// Once it is open.
    reader: Option<R>,
    /// Until it has ended.
    program: Option<Program>,
}

impl<R: AsyncRead + Unpin> Pieces<R> {
    /// The next piece; none at the end, once the program has succeeded.
    async fn next(mut self) -> Result<Option<(bytes::Bytes, Self)>, ImportError> {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        loop {
            let read = async {
                if self.reader.is_none() {
                    self.reader = Some((&mut self.opening).await?);
                }
                match &mut self.reader {
                    Some(reader) => reader.read_buf(&mut piece).await,
                    None => Ok(0),
                }
            };
            let program = async {
                match &mut self.program {
                    Some(program) => program.await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                biased;
                read = read => read,
                ended = program => {
                    ended?;
                    self.program = None;
                    continue;
                }
            };
            let name = &self.name;
            return match read.map_err(|source| ImportError::io("read", name, source))? {
                0 => {
                    if let Some(program) = self.program {
                        program.await?;
                    }
                    Ok(None)
                }
                _ => Ok(Some((piece.freeze(), self))),
            };
        }
    }
}

/// The major of the programs that dump a server: its own, or the oldest newer one.
async fn programs_for(context: &Context, from: &Path, major: u16) -> Result<u16, ImportError> {
    let Err(missing) = check_installed(context, major).await else {
        return Ok(major);
    };
    let newer = newest_installed(context, major.saturating_add(1)).await;
    newer.ok_or_else(|| {
        let hint = missing.hint.unwrap_or_default();
        no_programs(from, major, &missing.message, &hint)
    })
}

/// Starts pg_dump on a running server, and reads the head of its dump.
pub(super) async fn dump_server(
    context: &Context,
    source: &LogicalSource,
) -> Result<(Feed, Dump), ImportError> {
    let server = &source.server;
    let client = Client::open(context, server).await?;
    let own = server.url.database();
    let database = own
        .as_deref()
        .unwrap_or(context.request.settings.source_database());
    let info = client.inspect_database(database).await?;
    let major = programs_for(context, &server.name, info.major).await?;
    let keys = primary_keys(context, &client, database).await;
    context.progress.begin(Step::Backup).await;
    let (feed, upload) = Feed::run_pg_dump(context, &client, (source, database), major)?;
    let (feed, mut dump) = receive(feed, upload).await?;
    dump.database = Some(database.as_bytes().to_owned());
    dump.keys = Some(keys);
    // All of it is of the moment at which pg_dump began.
    (dump.made_at, dump.made_at_origin) = (feed.started_at, TakenAtOrigin::Known);
    Ok((feed, dump))
}

/// The primary keys of the server's tables. Without them, which only costs shared blocks, the rows are not sorted.
async fn primary_keys(context: &Context, client: &Client<'_>, database: &str) -> PrimaryKeys {
    let mut reader = KeyReader::new(context.staging.path());
    let url = client.url(database, &[]);
    let read = match client.ask_for_bytes(&url, &[QUOTE_AS_PG_DUMP, KEYS]).await {
        Ok(statements) => reader.push(&statements).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = read {
        let id = &context.request.id;
        tracing::warn!(%id, error, "the rows are not sorted: the primary keys of the source are not known");
    }
    reader.keys
}

/// Reads the head of a dump that is being made.
pub(super) async fn receive(feed: Feed, upload: Upload) -> Result<(Feed, Dump), ImportError> {
    // Not tracked, as for a client's.
    let dump = tokio::task::spawn_blocking(move || Dump::receive(upload)).await?;
    match dump {
        Ok(dump) => Ok((feed, dump)),
        Err(error) => Err(feed.explain(error).await),
    }
}
