//! Restores a dump: pg_restore makes SQL of an archive, we rewrite it, psql runs it.
//!
//! ```text
//! dump -> [archive.fifo] -> pg_restore -> [restored.fifo] -> rewriter -> [script.fifo] -> psql
//! dump -------------------------------------------------> rewriter -> [script.fifo] -> psql
//! ```
//!
//! The programs open their ends of the FIFOs by path, so that they may as well run in containers.
//! Our ends are never opened in a way that waits: a reader's before its writer starts, a writer's
//! as soon as its reader is there. Whatever ends first, the others are ended with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use multidb_actors::ports::Endpoint;
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::ProjectImport;
use super::dump::{Dump, DumpFormat, TarCheck};
use super::error::{ImportError, refused};
use super::files::{make_dir, set_owner};
use super::program::failure;
use super::script::{Restriction, Rewriter, ScriptError, ScriptTarget};
use super::server::{ImportServer, SUPERUSER};
use crate::runtime::settings::PORT;
use crate::runtime::{PostgresHost, ProgramOutput, ProgramRun};

/// How often a FIFO is looked at for its reader.
const READER_INTERVAL: Duration = Duration::from_millis(2);
/// How long psql may take to say why it closed its end.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(30);
const PIECE_BYTES: usize = 64 * 1024;

/// Where a dump goes.
pub(super) struct Target<'a> {
    pub(super) server: &'a ImportServer,
    pub(super) project: &'a ProjectImport,
    pub(super) postgres_major: u16,
    /// The major version whose pg_restore can read the archive.
    pub(super) tools_major: u16,
    /// A directory of the import's own.
    pub(super) staging: &'a Path,
}

/// Why the script did not reach psql.
enum FeedError {
    /// Its reader has gone: the reader knows why.
    ReaderGone,
    Failed(ImportError),
}

impl From<ImportError> for FeedError {
    fn from(error: ImportError) -> Self {
        Self::Failed(error)
    }
}

/// Restores a dump into the project's database.
pub(super) async fn restore(dump: &mut Dump, target: &Target<'_>) -> Result<(), ImportError> {
    let host = target.server.host.as_ref();
    let pipes = Pipes::make(&target.staging.join("pipes"), host.data_owner())?;
    let rewriter = Rewriter::new(ScriptTarget {
        database: target.project.database.clone(),
        roles: vec![SUPERUSER.to_owned(), target.project.role.clone()],
        postgres_major: target.postgres_major,
        restriction: restriction(host, target.postgres_major).await?,
    });
    let psql_run = psql(target, &pipes);
    let psql = host.run_program(&psql_run);
    let feed = async {
        let writer = open_writer(&pipes.script).await?;
        let mut script = Script {
            writer,
            rewriter,
            out: Vec::with_capacity(2 * PIECE_BYTES),
            dump: dump.path.clone(),
        };
        match dump.format {
            DumpFormat::Plain => feed_plain(dump, &mut script).await?,
            DumpFormat::Custom | DumpFormat::Tar | DumpFormat::Directory => {
                feed_archive(dump, target, &pipes, &mut script).await?;
            }
        }
        script.finish().await
    };
    tokio::pin!(psql, feed);
    let early = tokio::select! {
        output = &mut psql => Some(output?),
        fed = &mut feed => match fed {
            Ok(()) => None,
            Err(FeedError::Failed(error)) => return Err(error),
            Err(FeedError::ReaderGone) => {
                let words = tokio::time::timeout(LAST_WORDS_PATIENCE, &mut psql).await;
                Some(words.map_err(|_| gone("it closed its input without a word"))??)
            }
        },
    };
    let output = match early {
        Some(output) if output.success => return Err(gone("it ended before the dump did")),
        Some(output) => output,
        None => psql.await?,
    };
    if output.success {
        return Ok(());
    }
    Err(target.server.explain(failure("psql", &output)).await)
}

fn gone(message: &str) -> ImportError {
    ImportError::Program {
        program: "psql",
        message: message.to_owned(),
    }
}

/// The FIFOs of one restore.
struct Pipes {
    directory: PathBuf,
    archive: PathBuf,
    restored: PathBuf,
    script: PathBuf,
}

impl Pipes {
    fn make(directory: &Path, owner: (u32, u32)) -> Result<Self, ImportError> {
        make_dir(directory, 0o700, owner)?;
        let make = |name: &str| {
            let path = directory.join(name);
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0)
                .map_err(|error| ImportError::io("make", &path, error.into()))?;
            set_owner(&path, owner)?;
            Ok::<_, ImportError>(path)
        };
        Ok(Self {
            archive: make("archive.fifo")?,
            restored: make("restored.fifo")?,
            script: make("script.fifo")?,
            directory: directory.to_owned(),
        })
    }
}

/// Opens a FIFO for writing as soon as somebody reads it.
async fn open_writer(path: &Path) -> Result<pipe::Sender, ImportError> {
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                tokio::time::sleep(READER_INTERVAL).await;
            }
            other => return other.map_err(|source| ImportError::io("open", path, source)),
        }
    }
}

/// The way to psql.
struct Script {
    writer: pipe::Sender,
    rewriter: Rewriter,
    out: Vec<u8>,
    dump: PathBuf,
}

impl Script {
    async fn push(&mut self, piece: &[u8]) -> Result<(), FeedError> {
        self.out.clear();
        let result = self.rewriter.push(piece, &mut self.out);
        result.map_err(|error| self.script_error(error))?;
        self.write().await
    }

    async fn finish(mut self) -> Result<(), FeedError> {
        self.out.clear();
        let result = self.rewriter.finish(&mut self.out);
        result.map_err(|error| self.script_error(error))?;
        self.write().await
    }

    async fn write(&mut self) -> Result<(), FeedError> {
        let written = self.writer.write_all(&self.out).await;
        written.map_err(|_| FeedError::ReaderGone)
    }

    fn script_error(&self, source: ScriptError) -> FeedError {
        FeedError::Failed(ImportError::Script {
            path: self.dump.clone(),
            source,
        })
    }
}

async fn feed_plain(dump: &mut Dump, script: &mut Script) -> Result<(), FeedError> {
    let mut pieces = dump.read();
    while let Some(piece) = pieces.receiver.recv().await {
        let piece = piece.map_err(|source| ImportError::io("read", &dump.path, source))?;
        script.push(&piece).await?;
    }
    Ok(())
}

/// Has pg_restore make a script of an archive. The script counts as complete only once it has
/// succeeded.
async fn feed_archive(
    dump: &mut Dump,
    target: &Target<'_>,
    pipes: &Pipes,
    script: &mut Script,
) -> Result<(), FeedError> {
    let restored = pipe::OpenOptions::new()
        .open_receiver(&pipes.restored)
        .map_err(|source| ImportError::io("open", &pipes.restored, source))?;
    let run = pg_restore(dump, target, pipes);
    let program = async {
        let output = target.server.host.run_program(&run).await;
        succeed(output.map_err(ImportError::from)?).map_err(FeedError::Failed)
    };
    let archive = async {
        if dump.format == DumpFormat::Directory {
            return Ok(());
        }
        let mut writer = open_writer(&pipes.archive).await?;
        let mut pieces = dump.read();
        let mut tar = (dump.format == DumpFormat::Tar).then(TarCheck::new);
        while let Some(piece) = pieces.receiver.recv().await {
            let piece = piece.map_err(|source| ImportError::io("read", &dump.path, source))?;
            if let Some(tar) = &mut tar {
                tar.push(&piece);
            }
            if writer.write_all(&piece).await.is_err() {
                // It has read all that it wants, or says itself what is wrong.
                return Ok(());
            }
        }
        if tar.is_some_and(|tar| !tar.is_complete()) {
            // pg_restore would look for the rest of it for ever, so it is ended before it sees the
            // end of its input.
            return Err(FeedError::Failed(truncated_tar(&dump.path)));
        }
        Ok::<(), FeedError>(())
    };
    // A read before anybody wrote would find the end of the file; a wait for the first byte does
    // not. Once it has a writer, only the writer's end is the end.
    let copied = async {
        let mut restored = restored;
        let mut piece = vec![0; PIECE_BYTES];
        let readable = restored.readable().await;
        readable.map_err(|source| ImportError::io("read", &pipes.restored, source))?;
        loop {
            let read = restored.read(&mut piece).await;
            match read.map_err(|source| ImportError::io("read", &pipes.restored, source))? {
                0 => return Ok(()),
                length => script.push(&piece[..length]).await?,
            }
        }
    };
    tokio::try_join!(until_program_ends(program, archive), copied).map(|_| ())
}

fn truncated_tar(path: &Path) -> ImportError {
    refused(path, "the tar archive is truncated", "Make the dump again.")
}

/// A program that has ended needs no more input.
async fn until_program_ends(
    program: impl Future<Output = Result<(), FeedError>>,
    input: impl Future<Output = Result<(), FeedError>>,
) -> Result<(), FeedError> {
    tokio::pin!(program, input);
    tokio::select! {
        ended = &mut program => ended,
        fed = &mut input => {
            fed?;
            program.await
        }
    }
}

fn succeed(output: ProgramOutput) -> Result<(), ImportError> {
    if output.success {
        return Ok(());
    }
    Err(failure("pg_restore", &output))
}

fn pg_restore(dump: &Dump, target: &Target<'_>, pipes: &Pipes) -> ProgramRun {
    let (format, input) = match dump.format {
        DumpFormat::Directory => ("directory", dump.directory.clone()),
        DumpFormat::Tar => ("tar", pipes.archive.clone()),
        DumpFormat::Custom | DumpFormat::Plain => ("custom", pipes.archive.clone()),
    };
    let mut binds = vec![pipes.directory.clone()];
    if dump.format == DumpFormat::Directory {
        binds.push(input.clone());
    }
    ProgramRun {
        postgres_major: target.tools_major,
        program: "pg_restore",
        args: vec![
            // Without it, the archive would be opened twice, which a FIFO does not survive.
            format!("--format={format}"),
            "--no-tablespaces".to_owned(),
            format!("--file={}", pipes.restored.display()),
            input.display().to_string(),
        ],
        env: Vec::new(),
        binds,
    }
}

/// Whether Postgres' user can read a dump that is a directory.
pub(super) async fn can_read_directory(
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
    };
    Ok(host.run_program(&run).await?.success)
}

fn psql(target: &Target<'_>, pipes: &Pipes) -> ProgramRun {
    let (host, port, socket) = match &target.server.endpoint {
        Endpoint::Unix(path) => {
            let directory = path.parent().unwrap_or(path).to_owned();
            (directory.display().to_string(), PORT, Some(directory))
        }
        Endpoint::Tcp(address) => (address.ip().to_string(), address.port(), None),
    };
    let mut binds = vec![pipes.directory.clone()];
    binds.extend(socket);
    let args = [
        "--no-psqlrc".to_owned(),
        "--quiet".to_owned(),
        "--no-password".to_owned(),
        "--output=/dev/null".to_owned(),
        "--set=ON_ERROR_STOP=1".to_owned(),
        format!("--host={host}"),
        format!("--port={port}"),
        format!("--username={SUPERUSER}"),
        format!("--dbname={}", connection_string(&target.project.database)),
        format!("--file={}", pipes.script.display()),
    ];
    ProgramRun {
        postgres_major: target.postgres_major,
        program: "psql",
        args: args.to_vec(),
        env: vec![("PGAPPNAME".to_owned(), "multidb import".to_owned())],
        binds,
    }
}

/// A database's name as psql cannot take it for anything else.
fn connection_string(database: &str) -> String {
    let escaped = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("dbname='{escaped}'")
}

/// How psql of this major version is kept from a dump's own commands.
async fn restriction(
    host: &dyn PostgresHost,
    postgres_major: u16,
) -> Result<Restriction, ImportError> {
    let run = ProgramRun {
        postgres_major,
        program: "psql",
        args: vec!["--version".to_owned()],
        env: Vec::new(),
        binds: Vec::new(),
    };
    let output = host.run_program(&run).await?;
    if !output.success {
        return Err(failure("psql", &output));
    }
    if !restricts(&String::from_utf8_lossy(&output.stdout)) {
        return Ok(Restriction::Rewriter);
    }
    let token = format!(
        "{:016x}{:016x}",
        rand::random::<u64>(),
        rand::random::<u64>()
    );
    Ok(Restriction::Psql(token))
}

/// Whether psql knows `\restrict`: since the fix of CVE-2025-8714.
fn restricts(version: &str) -> bool {
    let number = version
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0_u32));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match major {
        13 => minor >= 22,
        14 => minor >= 19,
        15 => minor >= 14,
        16 => minor >= 10,
        17 => minor >= 6,
        _ => major >= 18,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psql_that_knows_restrict_is_told_by_its_version() {
        assert!(restricts(
            "psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        ));
        assert!(!restricts("psql (PostgreSQL) 15.13"));
        assert!(restricts("psql (PostgreSQL) 18beta3"));
        assert!(!restricts("psql (PostgreSQL) 12.22"));
        assert!(!restricts("nonsense"));
    }

    #[test]
    fn a_databases_name_is_no_connection_string() {
        assert_eq!(connection_string("a b"), "dbname='a b'");
        assert_eq!(connection_string(r"a'b\c"), r"dbname='a\'b\\c'");
    }

    #[tokio::test]
    async fn a_fifo_is_opened_when_its_reader_comes() {
        let directory = tempfile::tempdir().unwrap();
        let owner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let pipes = Pipes::make(&directory.path().join("pipes"), owner).unwrap();
        let path = pipes.script.clone();
        let reader = tokio::task::spawn_blocking(move || std::fs::read(path));
        let mut writer = open_writer(&pipes.script).await.unwrap();
        writer.write_all(b"hello").await.unwrap();
        drop(writer);
        assert_eq!(reader.await.unwrap().unwrap(), b"hello");
        let nobody = tokio::time::timeout(Duration::from_millis(20), open_writer(&pipes.archive));
        nobody.await.unwrap_err();
    }
}
