//! A running server as the source: the client programs of Postgres that reach it, and its own account of itself.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use multidb_store::RuntimeKind;

use super::refusal::source_error;
use crate::config::SourceUrl;
use crate::fsutil::beneath::{self, Directory};
use crate::import::context::Context;
use crate::import::error::{ImportError, refused, tree_error};
use crate::import::major::{newest_installed, none_installed};
use crate::runtime::binaries::MAJORS;
use crate::runtime::{PROGRAM_TIMEOUT, ProgramNetwork, ProgramOutput, ProgramRun};

/// A server to copy from.
#[derive(Debug, Clone)]
pub struct SourceServer {
    /// Its URL.
    pub url: SourceUrl,
    /// The file with its password, in the form of libpq's `.pgpass`.
    pub passfile: Option<PathBuf>,
    /// The URL without its parameters, for messages.
    pub(in crate::import) name: PathBuf,
}

impl SourceServer {
    /// The server of this URL.
    pub fn new(url: SourceUrl, passfile: Option<PathBuf>) -> Self {
        let name = PathBuf::from(url.to_string());
        Self {
            url,
            passfile,
            name,
        }
    }
}

/// The directory of copies of the client's files, in the staging directory.
const DIRECTORY: &str = "client";
/// The copy of the passfile in it.
const PASSFILE: &str = "passfile";
/// The most that is read of a passfile, a certificate or a key.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// libpq's parameters that name files, which the user of the programs may not be able to read.
const FILE_PARAMETERS: [&str; 5] = ["sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"];
/// A server's machine that is gone without a word is noticed in a minute and a half.
const KEEPALIVES: [(&str, &str); 3] = [
    ("keepalives_idle", "30"),
    ("keepalives_interval", "10"),
    ("keepalives_count", "6"),
];
/// Seconds for each of the server's addresses, unless the URL has `connect_timeout`.
const CONNECT_TIMEOUT: &str = "15";

/// The facts that a source's server reports about itself.
#[derive(Debug)]
pub(super) struct ServerInfo {
    pub(super) major: u16,
    pub(super) max_prepared_transactions: u32,
}

/// The client programs, as they reach one server.
pub(super) struct Client<'a> {
    context: &'a Context,
    from: &'a Path,
    /// With paths of copies that the programs can read.
    url: SourceUrl,
    env: Vec<(String, String)>,
    binds: Vec<PathBuf>,
    /// The major of the programs for questions.
    psql_major: u16,
}

impl<'a> Client<'a> {
    /// Copies the files that the programs need to where their user can read them.
    pub(super) async fn open(
        context: &'a Context,
        server: &'a SourceServer,
    ) -> Result<Self, ImportError> {
        let directory = context.staging.path().join(DIRECTORY);
        let (files, passfile) = (FILE_PARAMETERS, server.passfile.clone());
        let files = files.into_iter().filter_map(|name| {
            let path = server.url.parameter(name)?;
            // The word for the certificates of the system.
            (path != "system").then(|| (name, PathBuf::from(path)))
        });
        let files: Vec<(&'static str, PathBuf)> =
            files.chain(passfile.map(|path| (PASSFILE, path))).collect();
        let (to, owner) = (directory.clone(), context.host().data_owner());
        let from = server.name.clone();
        let copied = files.clone();
        let copy = move || copy_files(&copied, &to, owner, &from);
        context.run_blocking(copy).await?;
        let path = |name: &str| directory.join(name).display().to_string();
        let copies: Vec<(&str, String)> =
            files.iter().map(|(name, _)| (*name, path(name))).collect();
        let mut parameters: Vec<(&str, &str)> = copies
            .iter()
            .filter(|(name, _)| *name != PASSFILE)
            .map(|(name, path)| (*name, path.as_str()))
            .collect();
        let missing = KEEPALIVES
            .into_iter()
            .filter(|(name, _)| server.url.parameter(name).is_none());
        parameters.extend(missing);
        let env = |name: &str, value: String| (name.to_owned(), value);
        let psql_major = match context.request.postgres_major {
            Some(major) => major,
            None => newest_installed(context, *MAJORS.start())
                .await
                .ok_or_else(none_installed)?,
        };
        let mut binds = vec![directory.clone()];
        binds.extend(server.url.socket_directories());
        if context.host().kind() == RuntimeKind::Process {
            binds.extend(files_of_system());
        }
        Ok(Self {
            context,
            from: &server.name,
            url: server.url.with(server.url.database(), &parameters),
            env: vec![
                // Also without one: that of the programs' user is not meant.
                env("PGPASSFILE", path(PASSFILE)),
                env("HOME", directory.display().to_string()),
                env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.to_owned()),
                env("PGAPPNAME", "multidb".to_owned()),
            ],
            binds,
            psql_major,
        })
    }

    /// The URL with another database, and with these parameters.
    pub(super) fn url(&self, database: &str, parameters: &[(&str, &str)]) -> String {
        let url = self.url.with(Some(database.to_owned()), parameters);
        url.to_libpq()
    }

    /// The server's facts, from a replication connection, which needs the rights of a backup.
    pub(super) async fn inspect_for_backup(&self) -> Result<ServerInfo, ImportError> {
        let url = self.url("replication", &[("replication", "true")]);
        self.inspect(&url).await
    }

    /// The server's facts, from a session in this database.
    pub(super) async fn inspect_database(&self, database: &str) -> Result<ServerInfo, ImportError> {
        self.inspect(&self.url(database, &[])).await
    }

    async fn inspect(&self, url: &str) -> Result<ServerInfo, ImportError> {
        let questions = ["SHOW server_version_num", "SHOW max_prepared_transactions"];
        let answers = self.ask(url, &questions).await?;
        let mut numbers = answers.lines().map(|line| line.trim().parse::<u32>().ok());
        let (version, prepared) = (numbers.next().flatten(), numbers.next().flatten());
        let (Some(version), Some(max_prepared_transactions)) = (version, prepared) else {
            let message = format!("its answer is not that of a Postgres server: {answers}");
            return Err(source_error(self.from, &message));
        };
        Ok(ServerInfo {
            major: u16::try_from(version / 10_000).unwrap_or_default(),
            max_prepared_transactions,
        })
    }

    /// The answers to some questions, a line for each row.
    pub(super) async fn ask(&self, url: &str, questions: &[&str]) -> Result<String, ImportError> {
        let answers = self.ask_for_bytes(url, questions).await?;
        Ok(String::from_utf8_lossy(&answers).trim().to_owned())
    }

    /// The answers in the encoding of the database.
    pub(super) async fn ask_for_bytes(
        &self,
        url: &str,
        questions: &[&str],
    ) -> Result<Vec<u8>, ImportError> {
        let mut args: Vec<String> = ["--no-psqlrc", "--no-align", "--tuples-only"]
            .into_iter()
            .chain(["--no-password", "--quiet", "--set=ON_ERROR_STOP=1"])
            .map(str::to_owned)
            .collect();
        args.push(format!("--dbname={url}"));
        args.extend(
            questions
                .iter()
                .map(|question| format!("--command={question}")),
        );
        let mut run = self.program(self.psql_major, "psql", args);
        run.timeout = Some(PROGRAM_TIMEOUT);
        let output = self.context.host().run_program(&run).await?;
        self.check(&output)?;
        Ok(output.stdout)
    }

    /// A run of a client program, which reaches the server.
    pub(super) fn program(
        &self,
        postgres_major: u16,
        program: &'static str,
        args: Vec<String>,
    ) -> ProgramRun {
        ProgramRun {
            postgres_major,
            program,
            args,
            env: self.env.clone(),
            binds: self.binds.clone(),
            network: ProgramNetwork::Host,
            timeout: None,
        }
    }

    /// Makes the failure of a client program an error of the source.
    pub(super) fn check(&self, output: &ProgramOutput) -> Result<(), ImportError> {
        check(self.from, output)
    }
}

/// Makes the failure of a client program an error of the source.
pub(super) fn check(from: &Path, output: &ProgramOutput) -> Result<(), ImportError> {
    match output.success {
        true => Ok(()),
        false => Err(source_error(from, &crate::import::program::message(output))),
    }
}

/// Certificates, and the names of hosts where their file is a link to another directory.
fn files_of_system() -> impl Iterator<Item = PathBuf> {
    // Trusted path: the system's.
    let resolver = fs::canonicalize("/etc/resolv.conf").ok();
    let certificates = ["/etc/ssl", "/etc/pki", "/etc/ca-certificates"].map(PathBuf::from);
    let all = certificates.into_iter().chain(resolver);
    // Trusted path: the system's.
    all.filter(|path| path.exists())
}

/// Copies files to a directory for the user of the programs. Blocks.
fn copy_files(
    files: &[(&'static str, PathBuf)],
    to: &Path,
    owner: (u32, u32),
    from: &Path,
) -> Result<(), ImportError> {
    let failed = |error| tree_error(from, to, error);
    let parent = Directory::open(to.parent().unwrap_or(to)).map_err(failed)?;
    let directory = parent
        .create_directory(to.file_name().unwrap_or_default(), 0o700)
        .map_err(failed)?;
    for (name, path) in files {
        let content = read_file(name, path)?;
        let mut file = directory
            .create_file(OsStr::new(name), 0o600)
            .map_err(failed)?;
        std::io::Write::write_all(&mut file, &content)
            .and_then(|()| beneath::set_owner(&file, owner))
            .map_err(|source| ImportError::io("write", &to.join(name), source))?;
    }
    directory.set_owner(owner).map_err(failed)
}

fn read_file(name: &str, path: &Path) -> Result<Vec<u8>, ImportError> {
    let failed = |source| ImportError::io("read", path, source);
    if !path.is_absolute() {
        let problem = format!("the file of {name} is not an absolute path");
        return Err(refused(path, problem, "Give its absolute path."));
    }
    // Trusted path: the administrator has named it.
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    // As libpq does, which ignores such a file.
    if matches!(name, PASSFILE | "sslkey") && mode & 0o077 != 0 {
        let problem = "others than its owner can read it";
        let hint = format!("Run \"chmod 600 {}\".", path.display());
        return Err(refused(path, problem, hint));
    }
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut content)
        .map_err(failed)?;
    Ok(content)
}
