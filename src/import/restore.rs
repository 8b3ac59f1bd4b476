//! The restore of a dump: pg_restore converts an archive to SQL, the rewriter adapts it, psql runs
//! it.
//!
//! ```text
//! dump -> [archive.fifo] -> pg_restore -> [restored.fifo] -> rewriter -> [script.fifo] -> psql
//! dump -------------------------------------------------> rewriter -> [script.fifo] -> psql
//! ```
//!
//! When one of them ends, the others are ended with it.

mod fifos;
mod pg_restore;
mod psql;
mod script_writer;

use std::path::Path;
use std::time::Duration;

pub use self::fifos::release_programs;
use self::fifos::{Fifos, open_writer};
pub(super) use self::pg_restore::can_read_directory;
use self::script_writer::{FeedError, ScriptWriter};
use super::ProjectImport;
use super::dump::{Dump, DumpFormat};
use super::error::ImportError;
use super::program::failure;
use super::script::{Rewriter, ScriptTarget};
use super::server::{ImportServer, SUPERUSER};
use crate::runtime::ProgramOutput;

/// The time for psql to exit after it closed its input.
const PSQL_EXIT_TIMEOUT: Duration = Duration::from_secs(30);
/// The size of the buffers between the programs.
const CHUNK_BYTES: usize = 64 * 1024;

/// The target of a restore.
pub(super) struct RestoreTarget<'a> {
    pub(super) server: &'a ImportServer,
    pub(super) project: &'a ProjectImport,
    pub(super) postgres_major: u16,
    /// The major whose pg_restore can read the archive.
    pub(super) tools_major: u16,
    /// The directory for the FIFOs.
    pub(super) staging: &'a Path,
}

/// Restores a dump into the database of the project.
pub(super) async fn restore(
    dump: &mut Dump,
    target: &RestoreTarget<'_>,
) -> Result<(), ImportError> {
    let host = target.server.host.as_ref();
    let fifos = Fifos::create(&target.staging.join(fifos::DIRECTORY), host.data_owner())?;
    let rewriter = Rewriter::new(ScriptTarget {
        database: target.project.database.clone(),
        roles: vec![SUPERUSER.to_owned(), target.project.role.clone()],
        postgres_major: target.postgres_major,
        restriction: psql::restriction(host, target.postgres_major).await?,
    });
    let psql_run = psql::run(target, &fifos);
    let psql = host.run_program(&psql_run);
    let feed = feed(dump, target, &fifos, rewriter);
    tokio::pin!(psql, feed);
    let output = tokio::select! {
        output = &mut psql => reject_success(output?)?,
        fed = &mut feed => match fed {
            Ok(()) => psql.await?,
            Err(FeedError::Failed(error)) => return Err(error),
            Err(FeedError::ReaderGone) => {
                let output = tokio::time::timeout(PSQL_EXIT_TIMEOUT, &mut psql).await;
                let output = output.map_err(|_| psql_failed("it closed its input but did not exit"))??;
                reject_success(output)?
            }
        },
    };
    if output.success {
        return Ok(());
    }
    Err(target.server.explain(failure("psql", &output)).await)
}

/// psql must not succeed before it has read the whole script.
fn reject_success(output: ProgramOutput) -> Result<ProgramOutput, ImportError> {
    if output.success {
        return Err(psql_failed("it ended before the dump did"));
    }
    Ok(output)
}

fn psql_failed(message: &str) -> ImportError {
    ImportError::Program {
        program: "psql",
        message: message.to_owned(),
    }
}

/// Writes the whole script to psql.
async fn feed(
    dump: &mut Dump,
    target: &RestoreTarget<'_>,
    fifos: &Fifos,
    rewriter: Rewriter,
) -> Result<(), FeedError> {
    let fifo = open_writer(&fifos.script).await?;
    let mut script = ScriptWriter::new(fifo, rewriter, dump.path.clone());
    match dump.format {
        DumpFormat::Plain => feed_plain(dump, &mut script).await?,
        DumpFormat::Custom | DumpFormat::Tar | DumpFormat::Directory => {
            pg_restore::feed(dump, target, fifos, &mut script).await?;
        }
    }
    script.finish().await
}

async fn feed_plain(dump: &mut Dump, script: &mut ScriptWriter) -> Result<(), FeedError> {
    let Some(mut chunks) = dump.read() else {
        return Ok(());
    };
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk.map_err(|source| ImportError::io("read", &dump.path, source))?;
        script.push(&chunk).await?;
    }
    Ok(())
}
