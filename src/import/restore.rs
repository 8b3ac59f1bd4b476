//! The restore of a dump: pg_restore converts an archive to a script, and the script is run statement by statement.
//!
//! ```text
//! dump -> [archive.fifo] -> pg_restore -> [restored.fifo] -> Splitter -> Adapter -> ScriptRunner -> Postgres
//! script --------------------------------------------------> Splitter -> Adapter -> ScriptRunner -> Postgres
//! ```
//!
//! multidb runs the statements itself, and not psql: so it knows of each error which statement of the dump it
//! concerns, goes on past errors that concern neither data nor structure, and nothing in a dump can run a program
//! on the client's side.

mod copy;
mod database;
mod errors;
mod fifos;
mod owners;
mod pg_restore;
mod row_order;
mod runner;
mod sorter;
mod table_data;

use std::path::Path;

use multidb_store::PassedErrors;

pub use self::errors::ErrorPolicy;
pub use self::fifos::release_programs;
pub(super) use self::fifos::{Fifos, open_reader};
pub(super) use self::pg_restore::can_read_directory;
use self::runner::{ScriptRunner, ScriptSource};
use super::ProjectImport;
use super::dump::{Dump, DumpFormat};
use super::error::ImportError;
use super::progress::ProgressSender;
use super::server::ImportServer;

/// The size of the buffers between the programs.
const CHUNK_BYTES: usize = 64 * 1024;

/// The target of a restore.
pub(super) struct RestoreTarget<'a> {
    pub(super) server: &'a ImportServer,
    pub(super) project: &'a ProjectImport,
    pub(super) postgres_major: u16,
    /// The major whose pg_restore can read the archive.
    pub(super) tools_major: u16,
    /// The directory for the FIFOs and for long statements.
    pub(super) staging: &'a Path,
    /// The policy for errors.
    pub(super) errors: ErrorPolicy,
    /// For warnings.
    pub(super) progress: &'a ProgressSender,
}

/// Restores a dump into the database of the project. Returns the errors that it went past.
pub(super) async fn restore(
    dump: &mut Dump,
    target: &RestoreTarget<'_>,
) -> Result<PassedErrors, ImportError> {
    let source = ScriptSource {
        dump: dump.path.clone(),
        database: dump.database.clone(),
        is_own_script: dump.format == DumpFormat::Plain && dump.keys.is_none(),
    };
    let mut runner = ScriptRunner::begin(source, target).await?;
    match dump.format {
        DumpFormat::Plain => {
            runner.keys = dump.keys.take().unwrap_or_default();
            feed_plain(dump, &mut runner).await?;
        }
        DumpFormat::Custom | DumpFormat::Tar | DumpFormat::Directory => {
            let directory = target.staging.join(fifos::DIRECTORY);
            let fifos = Fifos::create(&directory, target.server.host.data_owner())?;
            pg_restore::feed(dump, target, &fifos, &mut runner).await?;
        }
    }
    runner.finish().await
}

async fn feed_plain(dump: &mut Dump, runner: &mut ScriptRunner<'_>) -> Result<(), ImportError> {
    let Some(mut chunks) = dump.read() else {
        return Ok(());
    };
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk.map_err(|error| dump.read_error(error))?;
        runner.push(&chunk).await?;
    }
    Ok(())
}
