//! pg_restore, which converts an archive to a script.
//!
//! It creates the database too, so that the script has its encoding, its locale and its settings, and is verbose, so
//! that the script has the numbers of the archive's entries.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::fifos::{Fifos, open_reader, open_writer};
use super::runner::ScriptRunner;
use super::{CHUNK_BYTES, RestoreTarget};
use crate::import::dump::{Chunks, Dump, DumpFormat, TarCheck};
use crate::import::error::{ImportError, refused};
use crate::import::program::failure;
use crate::import::script::{KeyReader, PrimaryKeys};
use crate::runtime::{PROGRAM_TIMEOUT, PostgresHost, ProgramNetwork, ProgramRun};

/// Runs the script that pg_restore makes of an archive. The script counts as complete
/// only once pg_restore has succeeded.
pub(super) async fn feed(
    dump: &mut Dump,
    target: &RestoreTarget<'_>,
    fifos: &Fifos,
    runner: &mut ScriptRunner<'_>,
) -> Result<(), ImportError> {
    let mut archive = Archive::open(dump);
    runner.keys = primary_keys(&mut archive, target, fifos).await?;
    let mut script = Script::open(&fifos.restored)?;
    let run = run(archive.dump, target, fifos, &["--create", "--verbose"]);
    let program = run_to_end(target.server.host.as_ref(), &run);
    let copied = async {
        while let Some(chunk) = script.next().await? {
            runner.push(chunk).await?;
        }
        Ok(())
    };
    let fed = archive.feed(&fifos.archive);
    tokio::try_join!(until_program_ends(program, fed), copied).map(|_| ())
}

/// Reads the primary keys, which a script has after the rows. pg_restore needs the archive's table of contents for
/// them, which is its beginning.
async fn primary_keys(
    archive: &mut Archive<'_>,
    target: &RestoreTarget<'_>,
    fifos: &Fifos,
) -> Result<PrimaryKeys, ImportError> {
    let mut script = Script::open(&fifos.restored)?;
    let run = run(archive.dump, target, fifos, &["--section=post-data"]);
    let program = run_to_end(target.server.host.as_ref(), &run);
    let path = archive.dump.path.clone();
    let mut reader = KeyReader::new(target.staging);
    let read = async {
        while let Some(chunk) = script.next().await? {
            let read = reader.push(chunk);
            read.map_err(|source| ImportError::Script {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    };
    let fed = archive.feed_beginning(&fifos.archive);
    tokio::try_join!(until_program_has_read(program, fed), read)?;
    Ok(reader.keys)
}

async fn run_to_end(host: &dyn PostgresHost, run: &ProgramRun) -> Result<(), ImportError> {
    let output = host.run_program(run).await?;
    if output.success {
        return Ok(());
    }
    Err(failure("pg_restore", &output))
}

/// Waits for the program, and for the end of its input: the bytes behind the archive are of no use to it, but tell
/// whether the dump is complete.
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

/// Waits for a program that needs only the beginning of its input.
async fn until_program_has_read(
    program: impl Future<Output = Result<(), ImportError>>,
    input: impl Future<Output = Result<(), ImportError>>,
) -> Result<(), ImportError> {
    tokio::pin!(program);
    tokio::select! {
        ended = &mut program => ended,
        fed = input => {
            fed?;
            program.await
        }
    }
}

/// An archive, whose beginning is read twice.
struct Archive<'a> {
    dump: &'a mut Dump,
    /// The chunks of an archive in one file.
    chunks: Option<Chunks>,
    /// The chunks that pg_restore was given for the primary keys.
    beginning: Vec<Vec<u8>>,
    tar: Option<TarCheck>,
}

impl<'a> Archive<'a> {
    fn open(dump: &'a mut Dump) -> Self {
        Self {
            chunks: dump.read(),
            tar: (dump.format == DumpFormat::Tar).then(TarCheck::new),
            dump,
            beginning: Vec::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, ImportError> {
        let Some(chunks) = &mut self.chunks else {
            return Ok(None);
        };
        let Some(chunk) = chunks.recv().await else {
            if self.tar.as_ref().is_some_and(|tar| !tar.is_complete()) {
                // pg_restore would hang at the end of its input; this error ends it.
                let problem = "the tar archive is truncated";
                return Err(refused(&self.dump.path, problem, "Make the dump again."));
            }
            return Ok(None);
        };
        let chunk = chunk.map_err(|error| self.dump.read_error(error))?;
        if let Some(tar) = &mut self.tar {
            tar.push(&chunk);
        }
        Ok(Some(chunk))
    }

    /// Writes the beginning to pg_restore, until that has read enough. It takes as much memory as pg_restore's own
    /// table of contents.
    async fn feed_beginning(&mut self, fifo: &Path) -> Result<(), ImportError> {
        if self.chunks.is_none() {
            return Ok(());
        }
        let mut writer = open_writer(fifo).await?;
        while let Some(chunk) = self.next().await? {
            self.beginning.push(chunk);
            let chunk = self.beginning.last().map_or(&[][..], Vec::as_slice);
            if writer.write_all(chunk).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes all of it to pg_restore.
    async fn feed(&mut self, fifo: &Path) -> Result<(), ImportError> {
        if self.chunks.is_none() {
            return Ok(());
        }
        let mut writer = Some(open_writer(fifo).await?);
        let mut beginning = std::mem::take(&mut self.beginning).into_iter();
        loop {
            let chunk = match beginning.next() {
                Some(chunk) => chunk,
                None => match self.next().await? {
                    Some(chunk) => chunk,
                    None => return Ok(()),
                },
            };
            if let Some(open) = &mut writer
                && open.write_all(&chunk).await.is_err()
            {
                // pg_restore has read all that it needs, or reports the error itself.
                writer = None;
            }
        }
    }
}

/// The script that pg_restore writes.
struct Script<'a> {
    path: &'a Path,
    receiver: pipe::Receiver,
    chunk: Vec<u8>,
}

impl<'a> Script<'a> {
    /// Opens the FIFO before pg_restore does.
    fn open(path: &'a Path) -> Result<Self, ImportError> {
        Ok(Self {
            path,
            receiver: open_reader(path)?,
            chunk: Vec::new(),
        })
    }

    /// The next piece, `None` at its end.
    async fn next(&mut self) -> Result<Option<&[u8]>, ImportError> {
        let failed = |source| ImportError::io("read", self.path, source);
        if self.chunk.is_empty() {
            // A read without a writer returns the end of the file, so the first byte is waited for.
            self.receiver.readable().await.map_err(failed)?;
            self.chunk.resize(CHUNK_BYTES, 0);
        }
        let read = self.receiver.read(&mut self.chunk).await.map_err(failed)?;
        Ok((read > 0).then(|| &self.chunk[..read]))
    }
}

fn run(dump: &Dump, target: &RestoreTarget<'_>, fifos: &Fifos, what: &[&str]) -> ProgramRun {
    let (format, input) = match dump.format {
        DumpFormat::Directory => ("directory", &dump.directory),
        DumpFormat::Tar => ("tar", &fifos.archive),
        DumpFormat::Custom | DumpFormat::Plain => ("custom", &fifos.archive),
    };
    let mut binds = vec![fifos.directory.clone()];
    if dump.format == DumpFormat::Directory {
        binds.push(input.clone());
    }
    let mut args: Vec<String> = what.iter().map(|arg| (*arg).to_owned()).collect();
    args.extend([
        // Without it, pg_restore opens the archive twice, which a FIFO does not allow.
        format!("--format={format}"),
        "--no-tablespaces".to_owned(),
        format!("--file={}", fifos.restored.display()),
        input.display().to_string(),
    ]);
    ProgramRun {
        postgres_major: target.tools_major,
        program: "pg_restore",
        args,
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
