//! pg_restore, which converts an archive to a script.
//!
//! It creates the database too, so that the script says what its encoding, its locale and its settings are, and is
//! verbose, so that the script has the numbers of the archive's entries.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::fifos::{Fifos, open_reader, open_writer};
use super::runner::ScriptRunner;
use super::{CHUNK_BYTES, RestoreTarget};
use crate::import::dump::{Dump, DumpFormat, TarCheck};
use crate::import::error::{ImportError, refused};
use crate::import::program::failure;
use crate::runtime::{PROGRAM_TIMEOUT, PostgresHost, ProgramNetwork, ProgramRun};

/// Runs the script that pg_restore makes of an archive. The script counts as complete
/// only once pg_restore has succeeded.
pub(super) async fn feed(
    dump: &mut Dump,
    target: &RestoreTarget<'_>,
    fifos: &Fifos,
    runner: &mut ScriptRunner<'_>,
) -> Result<(), ImportError> {
    let restored = open_reader(&fifos.restored)?;
    let run = run(dump, target, fifos);
    let program = run_to_end(target.server.host.as_ref(), &run);
    let archive = feed_archive(dump, &fifos.archive);
    let copied = copy_script(restored, &fifos.restored, runner);
    tokio::try_join!(until_program_ends(program, archive), copied).map(|_| ())
}

async fn run_to_end(host: &dyn PostgresHost, run: &ProgramRun) -> Result<(), ImportError> {
    let output = host.run_program(run).await?;
    if output.success {
        return Ok(());
    }
    Err(failure("pg_restore", &output))
}

/// Waits for the program, and for the end of its input: what follows the archive is of no use to it, but
/// tells whether the dump is complete.
async fn until_program_ends(
    program: impl Future<Output = Result<(), ImportError>>,
    input: impl Future<Output = Result<(), ImportError>>,
) -> Result<(), ImportError> {
    tokio::pin!(program, input);
    tokio::select! {
        ended = &mut program => {
            ended?;
            input.await
        }
        fed = &mut input => {
            fed?;
            program.await
        }
    }
}

/// Writes an archive in one file to pg_restore.
async fn feed_archive(dump: &mut Dump, fifo: &Path) -> Result<(), ImportError> {
    let Some(mut chunks) = dump.read() else {
        return Ok(());
    };
    let mut writer = Some(open_writer(fifo).await?);
    let mut tar = (dump.format == DumpFormat::Tar).then(TarCheck::new);
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk.map_err(|error| dump.read_error(error))?;
        if let Some(tar) = &mut tar {
            tar.push(&chunk);
        }
        if let Some(open) = &mut writer
            && open.write_all(&chunk).await.is_err()
        {
            // pg_restore has read all that it needs, or reports itself what is wrong.
            writer = None;
        }
    }
    if tar.is_some_and(|tar| !tar.is_complete()) {
        // pg_restore would hang at the end of its input; this error ends it.
        let problem = "the tar archive is truncated";
        return Err(refused(&dump.path, problem, "Make the dump again."));
    }
    Ok(())
}

/// Passes the script of pg_restore on.
async fn copy_script(
    mut restored: pipe::Receiver,
    path: &Path,
    runner: &mut ScriptRunner<'_>,
) -> Result<(), ImportError> {
    let failed = |source| ImportError::io("read", path, source);
    let mut chunk = vec![0; CHUNK_BYTES];
    // A read without a writer returns the end of the file, so the first byte is waited for.
    restored.readable().await.map_err(failed)?;
    loop {
        match restored.read(&mut chunk).await.map_err(failed)? {
            0 => return Ok(()),
            length => runner.push(&chunk[..length]).await?,
        }
    }
}

fn run(dump: &Dump, target: &RestoreTarget<'_>, fifos: &Fifos) -> ProgramRun {
    let (format, input) = match dump.format {
        DumpFormat::Directory => ("directory", &dump.directory),
        DumpFormat::Tar => ("tar", &fifos.archive),
        DumpFormat::Custom | DumpFormat::Plain => ("custom", &fifos.archive),
    };
    let mut binds = vec![fifos.directory.clone()];
    if dump.format == DumpFormat::Directory {
        binds.push(input.clone());
    }
    ProgramRun {
        postgres_major: target.tools_major,
        program: "pg_restore",
        args: vec![
            // Without it, pg_restore opens the archive twice, which a FIFO does not allow.
            format!("--format={format}"),
            "--no-tablespaces".to_owned(),
            "--create".to_owned(),
            "--verbose".to_owned(),
            format!("--file={}", fifos.restored.display()),
            input.display().to_string(),
        ],
        env: Vec::new(),
        binds,
        network: ProgramNetwork::None,
        timeout: None,
    }
}

/// Whether the user of the servers can read a dump in directory format.
pub(in crate::import) async fn can_read_directory(
    host: &dyn PostgresHost,
    tools_major: u16,
    directory: &Path,
) -> Result<bool, ImportError> {
    let run = ProgramRun {
        postgres_major: tools_major,
        program: "pg_restore",
        args: vec![
            "--format=directory".to_owned(),
            "--list".to_owned(),
            directory.display().to_string(),
        ],
        env: Vec::new(),
        binds: vec![directory.to_owned()],
        network: ProgramNetwork::None,
        timeout: Some(PROGRAM_TIMEOUT),
    };
    Ok(host.run_program(&run).await?.success)
}
