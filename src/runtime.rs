//! Postgres servers as local processes or in containers, behind one trait.
//!
//! [`PostgresHost`] runs servers and the programs of an import; [`InstanceRuntime`] is the actors'
//! port over it, for instances.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{FoundPostgres, RunningPostgres, RuntimeError, StartError};
use multidb_store::{InstanceUid, RuntimeKind};
use serde::{Deserialize, Serialize};

pub mod altered;
pub mod binaries;
pub mod carried;
pub mod conf_file;
mod data_owner;
pub mod docker;
pub mod extensions;
mod instances;
mod locks;
pub mod log_tail;
mod postmaster;
pub mod process;
pub mod readiness;
mod run_dir;
mod scratch;
pub mod server_processes;
pub mod settings;
pub mod version;

pub use self::data_owner::data_owner;
pub use self::instances::InstanceRuntime;
pub use self::postmaster::PidFile;

/// A Postgres server to run on one data directory.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// Names `run/<uid>/`, the container and the labels.
    pub uid: InstanceUid,
    /// Used in labels and logs only.
    pub name: String,
    /// The purpose of the server.
    pub purpose: Purpose,
    /// The major version that the data needs.
    pub postgres_major: u16,
    /// The data directory, owned by [`PostgresHost::data_owner`].
    pub data_dir: PathBuf,
    /// The file that its log is appended to: at once, or when its container ends.
    pub log: PathBuf,
    /// Settings over multidb's defaults and the configuration's. The last of a name wins.
    pub settings: Vec<(String, String)>,
}

/// The purpose of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// An instance's clients.
    Instance,
    /// The preparation of a snapshot.
    Import,
}

/// The limit of a program whose work is small, such as `pg_controldata` or `initdb`, on a slow machine.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_secs(120);

/// One run of a program of Postgres.
#[derive(Debug, Clone)]
pub struct ProgramRun {
    /// The major version of the program.
    pub postgres_major: u16,
    /// Its name, such as `initdb`.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables beyond the ones that every program gets.
    pub env: Vec<(String, String)>,
    /// The files of the host that a container sees, each at the path that it has on the host.
    pub binds: Vec<PathBuf>,
    /// The hosts that it reaches by TCP.
    pub network: ProgramNetwork,
    /// The time that it has; `None` for a program that takes as long as its input, which its caller ends.
    pub timeout: Option<Duration>,
}

/// The hosts that a program reaches by TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramNetwork {
    /// Nothing.
    None,
    /// All hosts that the daemon's machine reaches: for the client programs of a source's server.
    Host,
}

impl ProgramRun {
    /// Waits for the program within its time. Its end is the drop of the future.
    async fn within<T>(
        &self,
        ended: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        let Some(limit) = self.timeout else {
            return ended.await;
        };
        let too_long = |_| RuntimeError {
            for_clients: false,
            message: format!(
                "{} did not end within {}",
                self.program,
                humantime::format_duration(limit)
            ),
            hint: None,
        };
        let ended = tokio::time::timeout(limit, ended).await;
        ended.map_err(too_long).flatten()
    }
}

/// The result of a program.
#[derive(Debug, Clone)]
pub struct ProgramOutput {
    /// Whether it exited with status 0.
    pub success: bool,
    /// The exit status as text.
    pub status: String,
    /// Its standard output, up to a bound.
    pub stdout: Vec<u8>,
    /// The last lines of its standard error.
    pub stderr_tail: Vec<String>,
}

/// Runs Postgres' servers and programs.
#[async_trait]
pub trait PostgresHost: Send + Sync + 'static {
    /// Its kind.
    fn kind(&self) -> RuntimeKind;

    /// Whether it answers.
    async fn check(&self) -> Result<(), RuntimeError>;

    /// The user and the group that own data directories, and that Postgres runs as.
    fn data_owner(&self) -> (u32, u32);

    /// Starts a server and returns once it accepts connections. Leaves nothing when it fails or
    /// when its future is dropped.
    async fn start_server(&self, spec: &ServerSpec) -> Result<RunningPostgres, StartError>;

    /// Stops a server: fast shutdown, and after `timeout` an immediate one. Returns once it has
    /// exited and nothing of it is left. A server that does not run counts as stopped.
    async fn stop_server(&self, uid: InstanceUid, timeout: Duration) -> Result<(), RuntimeError>;

    /// All servers under this root.
    async fn running_servers(&self) -> Result<RunningServers, RuntimeError>;

    /// The running server with this uid. Waits for a start or a stop of it that is in progress. `None` means that
    /// nothing runs on the data of its instance.
    async fn find_server(&self, uid: InstanceUid) -> Result<Option<FoundPostgres>, RuntimeError>;

    /// The last lines of a server's log, running or not; `log` as in its [`ServerSpec`].
    async fn server_logs(
        &self,
        uid: InstanceUid,
        log: &Path,
        lines: usize,
    ) -> Result<Vec<String>, RuntimeError>;

    /// Runs a program to its end, as the data owner. It is killed when the future is dropped, and does not outlive
    /// the daemon.
    async fn run_program(&self, run: &ProgramRun) -> Result<ProgramOutput, RuntimeError>;

    /// The extensions that Postgres of this major has, `None` if that cannot be told.
    async fn extensions(
        &self,
        postgres_major: u16,
    ) -> Result<Option<BTreeSet<String>>, RuntimeError>;

    /// Releases the resources that the servers share. Called after the last of them has stopped.
    async fn close(&self);
}

/// The servers under a root.
#[derive(Default)]
pub struct RunningServers {
    /// The servers that accept connections.
    pub found: Vec<(Purpose, FoundPostgres)>,
    /// The data directories of the imports' servers among them.
    pub import_data: HashMap<InstanceUid, PathBuf>,
    /// The servers of which the host cannot tell whether they run.
    pub undecided: Vec<UndecidedServer>,
}

/// A server that could be neither taken over nor stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndecidedServer {
    /// As in its [`ServerSpec`].
    pub uid: InstanceUid,
    /// As in its [`ServerSpec`].
    pub purpose: Purpose,
    /// As in its [`ServerSpec`].
    pub data_dir: PathBuf,
}
