//! Postgres in containers, through the Docker engine's API.
//!
//! A container serves one run of one server: it is made at the start, and removed when Postgres has
//! exited for any reason, after its log was saved. A separate task finishes or undoes an abandoned
//! call, so that no unknown container is left; the containers of a killed daemon are found by their
//! labels.
//!
//! | module | owns |
//! | --- | --- |
//! | `engine` | the connection, its version, limits and errors |
//! | `labels` | the root and the purpose of a container |
//! | `image` | the image of a major, pulled if need be |
//! | `pause` | the network namespace that containers share |
//! | `container` | limits and mounts of a container; create, start, signal, remove |
//! | `launch` | creating and starting a container in its network |
//! | `server` | a server's start and stop |
//! | `adopt` | the containers of an earlier daemon |
//! | `program` | one run of one program |
//! | `logs` | the output of a container, and saving it |

mod adopt;
mod container;
mod engine;
mod image;
mod labels;
mod launch;
mod logs;
mod pause;
mod program;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{FoundPostgres, RunningPostgres, RuntimeError, StartError};
use multidb_store::{InstanceUid, Layout, RootId, RuntimeKind};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use self::container::Limits;
pub use self::engine::{EngineInfo, default_socket, missing_images, probe_engine};

use self::engine::Engine;
use self::image::Image;
use self::labels::Labels;
use self::pause::Pause;
use crate::fsutil::atomic_file;
use crate::fsutil::directory::create_missing;
use crate::runtime::locks::Locks;
use crate::runtime::{
    PROGRAM_TIMEOUT, PostgresHost, ProgramNetwork, ProgramOutput, ProgramRun, RunningServers,
    ServerSpec, extensions,
};

/// The network of the servers' containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A loopback that all of them share, and nothing else.
    None,
    /// A namespace for each.
    Private,
    /// A network of the engine.
    Named(String),
}

/// How to run containers.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// The engine's socket; [`default_socket`] is the usual one.
    pub socket: PathBuf,
    /// The image, with `{major}` for Postgres' major.
    pub image: String,
    /// The containers' network.
    pub network: Network,
    /// The limits of each container.
    pub limits: Limits,
    /// The user and group that own data directories, on the host and inside.
    pub data_owner: (u32, u32),
    /// Where everything lives.
    pub layout: Layout,
    /// The identity of the root.
    pub root: RootId,
    /// Postgres settings for all servers, over multidb's own.
    pub postgres_settings: Vec<(String, String)>,
}

/// Runs Postgres in containers.
#[derive(Clone)]
pub struct DockerHost {
    inner: Arc<Inner>,
}

struct Inner {
    settings: DockerSettings,
    engine: Engine,
    labels: Labels,
    pause: Pause,
    locks: Locks,
    /// Whether the engine was found to have no init for containers.
    lacks_init: AtomicBool,
    /// Labels the programs of this daemon, to tell them from the programs of a killed one.
    daemon: String,
    /// The users that a container knows: `initdb` refuses to run as a user without a name.
    passwd: PathBuf,
    /// The tokio runtime of the tasks: a caller's own may end before they do.
    tasks: Handle,
}

impl DockerHost {
    /// Containers of the engine at this socket, which need not answer yet.
    pub async fn new(settings: DockerSettings) -> Result<Self, RuntimeError> {
        let labels = Labels::new(settings.root, settings.layout.root());
        let passwd = write_passwd(&settings).await?;
        let inner = Inner {
            engine: Engine::new(&settings.socket),
            pause: Pause::new(&labels),
            labels,
            locks: Locks::default(),
            lacks_init: AtomicBool::new(false),
            daemon: format!("{:016x}", unique_bits()),
            passwd,
            tasks: Handle::current(),
            settings,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Runs `work` in a separate task, with a token that is cancelled when the caller gives up.
    async fn detached<T, E, F>(
        &self,
        work: impl FnOnce(Arc<Inner>, CancellationToken) -> F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<RuntimeError> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let given_up = CancellationToken::new();
        let _guard = given_up.clone().drop_guard();
        let task = work(Arc::clone(&self.inner), given_up);
        let done = self.inner.tasks.spawn(task).await;
        done.unwrap_or_else(|error| {
            let error = RuntimeError {
                for_clients: false,
                message: format!("a task of the docker runtime failed: {error}"),
                hint: None,
            };
            Err(error.into())
        })
    }
}

#[async_trait]
impl PostgresHost for DockerHost {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Docker
    }

    async fn check(&self) -> Result<(), RuntimeError> {
        self.inner.engine.check().await.map(|_| ())
    }

    fn data_owner(&self) -> (u32, u32) {
        self.inner.settings.data_owner
    }

    async fn start_server(&self, spec: &ServerSpec) -> Result<RunningPostgres, StartError> {
        // Before the task, so that a start whose caller has left by then does nothing.
        let lock = self.inner.locks.lock(spec.uid).await;
        let spec = spec.clone();
        let started = self
            .detached(|inner, given_up| inner.start(spec, lock, given_up))
            .await?;
        Ok(started.keep())
    }

    async fn stop_server(&self, uid: InstanceUid, timeout: Duration) -> Result<(), RuntimeError> {
        self.detached(|inner, _| async move { inner.stop(uid, timeout).await })
            .await
    }

    async fn running_servers(&self) -> Result<RunningServers, RuntimeError> {
        self.detached(|inner, _| inner.take_over()).await
    }

    async fn find_server(&self, uid: InstanceUid) -> Result<Option<FoundPostgres>, RuntimeError> {
        self.detached(|inner, _| inner.find(uid)).await
    }

    async fn server_logs(
        &self,
        uid: InstanceUid,
        log: &Path,
        lines: usize,
    ) -> Result<Vec<String>, RuntimeError> {
        self.inner.server_logs(uid, log, lines).await
    }

    async fn run_program(&self, run: &ProgramRun) -> Result<ProgramOutput, RuntimeError> {
        let run = run.clone();
        self.detached(|inner, given_up| inner.run_program(run, given_up))
            .await
    }

    async fn extensions(
        &self,
        postgres_major: u16,
    ) -> Result<Option<BTreeSet<String>>, RuntimeError> {
        // Where Debian's packages and the official image of Alpine have them. The other one is an error of ls.
        let directories = [
            format!("/usr/share/postgresql/{postgres_major}/extension"),
            "/usr/local/share/postgresql/extension".to_owned(),
        ];
        let run = ProgramRun {
            postgres_major,
            program: "ls",
            args: directories.to_vec(),
            env: Vec::new(),
            binds: Vec::new(),
            network: ProgramNetwork::None,
            timeout: Some(PROGRAM_TIMEOUT),
        };
        let listed = self.run_program(&run).await?.stdout;
        Ok(extensions::of_files(
            String::from_utf8_lossy(&listed).lines(),
        ))
    }

    async fn close(&self) {
        if let Err(error) = self.inner.pause.remove(&self.inner.engine).await {
            tracing::warn!(%error, "cannot remove the pause container, the next daemon uses it");
        }
    }
}

impl Inner {
    async fn image(&self, postgres_major: u16) -> Result<Image, RuntimeError> {
        self.engine
            .image(&self.settings.image, postgres_major)
            .await
    }
}

/// Writes the file that containers see as `/etc/passwd`. Running containers keep the old one.
async fn write_passwd(settings: &DockerSettings) -> Result<PathBuf, RuntimeError> {
    /// Every user in a container reads it.
    const MODE: u32 = 0o644;
    let dir = settings.layout.state().join("docker");
    let path = dir.join("passwd");
    let (uid, gid) = settings.data_owner;
    let text = format!(
        "root:x:0:0:root:/root:/bin/sh\npostgres:x:{uid}:{gid}:Postgres:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    );
    let written = path.clone();
    let write = move || {
        let is_written = fs::read(&written).is_ok_and(|old| old == text.as_bytes())
            && fs::metadata(&written).is_ok_and(|old| old.mode() & 0o777 == MODE);
        if is_written {
            // So that a disk that is full or read-only does not matter.
            return Ok(());
        }
        create_missing(&dir, 0o711)?;
        atomic_file::replace(&written, text.as_bytes(), MODE, |file| {
            // The umask may have taken bits away.
            file.set_permissions(Permissions::from_mode(MODE))
        })
    };
    let done = tokio::task::spawn_blocking(write).await;
    match done.unwrap_or_else(|error| Err(error.into())) {
        Ok(()) => Ok(path),
        Err(error) => Err(RuntimeError {
            for_clients: false,
            message: format!("cannot write {}: {error}", path.display()),
            hint: None,
        }),
    }
}

/// Bits that no other process on this machine has at this time.
fn unique_bits() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
