//! A server's container: its start until Postgres accepts connections, and its end.
//!
//! ```text
//! start -> ready ----> stop (SIGINT, later SIGQUIT) ----.
//!    \        \                                          v
//!     \        `-> exits by itself -> the watcher -> log saved, removed, run directory removed
//!      `-> exits early, or given up -----------------^
//! ```
//!
//! Each of these holds the server's lock, so that one begins only when another has ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::{Endpoint, RunningPostgres, RuntimeError, StartError};
use multidb_store::InstanceUid;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::container::{Output, Plan};
use super::engine::Engine;
use super::image::Image;
use super::labels::Role;
use super::launch::LaunchError;
use crate::runtime::ServerSpec;
use crate::runtime::postmaster::Postmaster;
use crate::runtime::readiness::Readiness;
use crate::runtime::run_dir::{prepare_run_dir, remove_run_dir};
use crate::runtime::settings::{self, SOCKET_NAME};

/// How much of the log a failed start quotes.
const FAILURE_LOG_LINES: usize = 20;

/// How often a shutdown is asked for again: process 1 of a container loses the signals that come
/// before it has its handlers.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(1);

/// The limit of an immediate shutdown, after which the container is killed.
const IMMEDIATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The limit of a fast shutdown of a leftover server.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before the engine is asked again whether a server runs, when it did not answer.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The name of a server's container.
pub(super) fn container_name(uid: InstanceUid) -> String {
    format!("multidb-{uid}")
}

/// A server's container, with what its removal needs.
#[derive(Debug, Clone)]
pub(super) struct ContainerRef {
    pub(super) uid: InstanceUid,
    /// The container's id: a later container of the same name is another one.
    pub(super) id: String,
    pub(super) log: PathBuf,
}

/// A server that was started, and is ended unless somebody keeps it.
pub(super) struct Started {
    postgres: Option<RunningPostgres>,
    inner: Arc<Inner>,
    container: ContainerRef,
}

impl Started {
    /// The server, which from now on is the caller's.
    pub(super) fn keep(mut self) -> RunningPostgres {
        let gone = || RunningPostgres {
            endpoint: self.inner.endpoint(self.container.uid),
            exited: Box::pin(std::future::ready("it was not there".to_owned())),
        };
        self.postgres.take().unwrap_or_else(gone)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.postgres.is_some() {
            let (inner, container) = (Arc::clone(&self.inner), self.container.clone());
            self.inner.tasks.spawn(async move {
                let _lock = inner.locks.lock(container.uid).await;
                inner.clear_away_logged(&container).await;
            });
        }
    }
}

impl Inner {
    pub(super) async fn start(
        self: Arc<Self>,
        spec: ServerSpec,
        given_up: CancellationToken,
    ) -> Result<Started, StartError> {
        let _lock = self.locks.lock(spec.uid).await;
        let image = tokio::select! {
            image = self.image(spec.postgres_major) => image?,
            () = given_up.cancelled() => return Err(nobody_waits().into()),
        };
        refuse_local_server(&spec.data_dir)?;
        let run_dir = self.settings.layout.run_dir(spec.uid);
        self.make_run_dir(&spec).await?;
        let readiness = Readiness::watch(&spec.data_dir, &run_dir);
        let id = match self.launch_server(&spec, &image).await {
            Ok(id) => id,
            Err(error) => {
                self.remove_run_dir(spec.uid).await;
                return Err(error.into());
            }
        };
        let container = ContainerRef {
            uid: spec.uid,
            id,
            log: spec.log.clone(),
        };
        let ready = tokio::select! {
            ready = self.ready(&container.id, &readiness) => ready,
            () = given_up.cancelled() => Err(nobody_waits().into()),
        };
        if let Err(error) = ready {
            self.clear_away_logged(&container).await;
            return Err(error);
        }
        Ok(Started {
            postgres: Some(self.watched(&container)),
            inner: Arc::clone(&self),
            container,
        })
    }

    /// Creates and starts the container. One that has its name already is nobody's, for we hold
    /// the lock: it is ended first.
    async fn launch_server(
        &self,
        spec: &ServerSpec,
        image: &Image,
    ) -> Result<String, RuntimeError> {
        let name = container_name(spec.uid);
        let run_dir = self.settings.layout.run_dir(spec.uid);
        let plan = Plan {
            name: name.clone(),
            image,
            labels: self.labels.server(spec),
            program: "postgres",
            args: settings::arguments(&spec.data_dir, &run_dir),
            env: Vec::new(),
            binds: vec![spec.data_dir.clone(), run_dir],
            passwd: Some(&self.passwd),
            owner: self.settings.data_owner,
            network: String::new(),
            limits: self.settings.limits,
            output: Output::Kept,
        };
        match self.launch(plan.clone(), &self.settings.network).await {
            Err(LaunchError::NameTaken(_)) => {
                tracing::warn!(uid = %spec.uid, "a container was left behind, ending it");
                self.end(spec.uid, LEFTOVER_TIMEOUT).await?;
                // Its run directory went with it.
                self.make_run_dir(spec).await?;
                self.launch(plan, &self.settings.network).await?;
            }
            launched => {
                launched?;
            }
        }
        let container = self.engine.inspect(&name).await?;
        container
            .and_then(|container| container.id)
            .ok_or_else(|| RuntimeError {
                message: format!("the container {name} vanished as it started"),
                hint: None,
            })
    }

    /// Returns when the server accepts connections, or has exited.
    pub(super) async fn ready(&self, id: &str, readiness: &Readiness) -> Result<(), StartError> {
        let status = tokio::select! {
            () = readiness.ready() => return Ok(()),
            status = wait_exit(&self.engine, id) => status,
        };
        let log = self.engine.log_tail(id, FAILURE_LOG_LINES).await;
        Err(StartError::Exited {
            status,
            log: log.unwrap_or_default(),
        })
    }

    /// A server that runs, with a task that takes its container away when it has exited.
    pub(super) fn watched(self: &Arc<Self>, container: &ContainerRef) -> RunningPostgres {
        let (tell, told) = oneshot::channel();
        let (inner, container) = (Arc::clone(self), container.clone());
        let endpoint = self.endpoint(container.uid);
        self.tasks.spawn(async move {
            let status = wait_exit(&inner.engine, &container.id).await;
            // Nobody may be interested.
            let _ = tell.send(status);
            let _lock = inner.locks.lock(container.uid).await;
            inner.clear_away_logged(&container).await;
        });
        RunningPostgres {
            endpoint,
            exited: Box::pin(async move {
                told.await
                    .unwrap_or_else(|_| "nobody watches it any more".to_owned())
            }),
        }
    }

    pub(super) async fn stop(
        &self,
        uid: InstanceUid,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        let _lock = self.locks.lock(uid).await;
        self.end(uid, timeout).await
    }

    /// Ends and removes the server's container, whichever it is. The caller holds the lock.
    async fn end(&self, uid: InstanceUid, timeout: Duration) -> Result<(), RuntimeError> {
        let name = container_name(uid);
        let Some(container) = self.engine.inspect(&name).await? else {
            self.remove_run_dir(uid).await;
            return Ok(());
        };
        let labels = container.config.and_then(|c| c.labels).unwrap_or_default();
        let (Some(Role::Server { log, .. }), Some(id)) = (self.labels.role(&labels), container.id)
        else {
            return Err(RuntimeError {
                message: format!("the container {name} does not belong to this root directory"),
                hint: Some(
                    "Look at its label multidb.root: another daemon may use this engine."
                        .to_owned(),
                ),
            });
        };
        if container.state.and_then(|state| state.running) == Some(true) {
            self.shut_down(&id, timeout).await?;
        }
        self.clear_away(&ContainerRef { uid, id, log }).await
    }

    /// Asks Postgres to shut down: fast, after `timeout` immediately. What still runs then is
    /// killed when its container is removed.
    async fn shut_down(&self, id: &str, timeout: Duration) -> Result<(), RuntimeError> {
        for (signal, timeout) in [("SIGINT", timeout), ("SIGQUIT", IMMEDIATE_TIMEOUT)] {
            let deadline = Instant::now() + timeout;
            loop {
                self.engine.signal(id, signal).await?;
                let left = deadline.saturating_duration_since(Instant::now());
                let exited =
                    tokio::time::timeout(left.min(SIGNAL_INTERVAL), self.engine.wait(id)).await;
                match exited {
                    Ok(Err(error)) if !error.is_missing() => return Err(error.into()),
                    Ok(_) => return Ok(()),
                    Err(_) if left <= SIGNAL_INTERVAL => break,
                    Err(_) => {}
                }
            }
            tracing::warn!(
                container = id,
                signal,
                ?timeout,
                "postgres did not stop in time"
            );
        }
        Ok(())
    }

    /// Saves the log and removes the container and the run directory, unless another container
    /// took their place. The caller holds the lock.
    async fn clear_away(&self, container: &ContainerRef) -> Result<(), RuntimeError> {
        if self.engine.inspect(&container.id).await?.is_none() {
            return Ok(());
        }
        if let Err(error) = self.engine.save_log(&container.id, &container.log).await {
            // The instance's directory may be deleted by now; its log is no reason to keep a container.
            tracing::warn!(uid = %container.uid, error = error.message, "a log was not saved");
        }
        self.engine.remove(&container.id).await?;
        self.remove_run_dir(container.uid).await;
        Ok(())
    }

    pub(super) async fn clear_away_logged(&self, container: &ContainerRef) {
        if let Err(error) = self.clear_away(container).await {
            tracing::warn!(
                uid = %container.uid,
                error = error.message,
                "a container is left for the next start or stop to remove"
            );
        }
    }

    async fn make_run_dir(&self, spec: &ServerSpec) -> Result<(), RuntimeError> {
        let owner = self.settings.data_owner;
        let configured = self.settings.postgres_settings.clone();
        let spec = spec.clone();
        let run_dir = self.settings.layout.run_dir(spec.uid);
        blocking(&run_dir, move |dir| {
            prepare_run_dir(dir, owner)?;
            settings::write_files(dir, &spec, &configured)
        })
        .await
    }

    async fn remove_run_dir(&self, uid: InstanceUid) {
        let dir = self.settings.layout.run_dir(uid);
        if let Err(error) = blocking(&dir, remove_run_dir).await {
            tracing::warn!(%uid, error = error.message, "a run directory is left");
        }
    }

    fn endpoint(&self, uid: InstanceUid) -> Endpoint {
        Endpoint::Unix(self.settings.layout.run_dir(uid).join(SOCKET_NAME))
    }
}

/// Waits until the container has exited, however long that takes and whatever becomes of the
/// engine meanwhile, and says how.
async fn wait_exit(engine: &Engine, id: &str) -> String {
    loop {
        let exit_code = match engine.wait(id).await {
            Ok(exit_code) => exit_code,
            Err(error) => {
                tracing::debug!(
                    container = id,
                    ?error,
                    "waiting for a container was cut short"
                );
                None
            }
        };
        match engine.exit(id, exit_code).await {
            Ok(Some(exit)) => return exit.text,
            Ok(None) => {}
            Err(error) => tracing::debug!(container = id, ?error, "the engine does not answer"),
        }
        sleep(WATCH_RETRY_INTERVAL).await;
    }
}

/// Refuses to start where a server of the other runtime still runs on the data: Postgres itself
/// cannot see it from inside a container, and two servers would destroy the data.
fn refuse_local_server(data_dir: &Path) -> Result<(), RuntimeError> {
    if Postmaster::find(data_dir).is_none() {
        return Ok(());
    }
    Err(RuntimeError {
        message: format!("a local server still runs on {}", data_dir.display()),
        hint: Some(
            "The runtime \"process\" started it. Start multidb once with that runtime, or end it by hand."
                .to_owned(),
        ),
    })
}

fn nobody_waits() -> RuntimeError {
    RuntimeError {
        message: "nobody waits for this server any more".to_owned(),
        hint: None,
    }
}

/// Runs a few system calls on a directory off the arbiter's thread.
async fn blocking(
    dir: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<()> + Send + 'static,
) -> Result<(), RuntimeError> {
    let path = dir.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    let failed = |cause: String| RuntimeError {
        message: format!("preparing {} failed: {cause}", dir.display()),
        hint: None,
    };
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
