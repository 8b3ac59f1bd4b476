//! A server's container: its start until Postgres accepts connections, and its stop.
//!
//! ```text
//! start -> ready ----> stop (SIGINT, later SIGQUIT) ----.
//!    \        \                                          v
//!     \        `-> exits by itself -> the watcher -> log saved, removed, run directory removed
//!      `-> exits early, or given up -----------------^
//! ```
//!
//! Each step holds the server's lock, so that one begins only after another has ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::{Endpoint, RunningPostgres, RuntimeError, StartError};
use multidb_store::InstanceUid;
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::container::{FirstProcess, Output, Plan};
use super::engine::Engine;
use super::image::Image;
use super::labels::{Labels, Role};
use super::launch::LaunchError;
use crate::runtime::readiness::Readiness;
use crate::runtime::run_dir::{prepare_run_dir, remove_run_dir};
use crate::runtime::settings::{self, SOCKET_NAME};
use crate::runtime::{ServerSpec, postmaster, server_processes};

/// Log lines in the error of a failed start.
const FAILURE_LOG_LINES: usize = 20;

/// The interval of repeated signals: process 1 of a container loses the signals that arrive before its
/// handlers are installed.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(1);

/// The limit of an immediate shutdown, after which the container is killed.
const IMMEDIATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The limit of a fast shutdown of a leftover server.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// The delay before the engine is asked again whether a server runs, after it did not answer.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A server's container, with the facts for its removal.
#[derive(Debug, Clone)]
pub(super) struct ContainerRef {
    pub(super) uid: InstanceUid,
    /// The container's id: a later container of the same name is another one.
    pub(super) id: String,
    pub(super) log: PathBuf,
}

/// A server's container as the engine shows it.
pub(super) struct ServerContainer {
    pub(super) container: ContainerRef,
    pub(super) data_dir: PathBuf,
    pub(super) running: bool,
}

/// A started server, which is ended unless its caller keeps it.
pub(super) struct Started {
    postgres: Option<RunningPostgres>,
    inner: Arc<Inner>,
    container: ContainerRef,
    /// Held until the server is kept or gone, so that no other start or stop finds it in between.
    lock: Option<OwnedMutexGuard<()>>,
}

impl Started {
    /// Hands the server over to the caller.
    pub(super) fn keep(mut self) -> RunningPostgres {
        let gone = || RunningPostgres {
            endpoint: self.inner.endpoint(self.container.uid),
            exited: Box::pin(std::future::ready("unknown".to_owned())),
        };
        self.postgres.take().unwrap_or_else(gone)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.postgres.is_some() {
            let (inner, container) = (Arc::clone(&self.inner), self.container.clone());
            let lock = self.lock.take();
            self.inner.tasks.spawn(async move {
                let _lock = lock;
                inner.clear_away_logged(&container).await;
            });
        }
    }
}

impl Inner {
    /// Starts a server whose lock the caller has taken.
    pub(super) async fn start(
        self: Arc<Self>,
        spec: ServerSpec,
        lock: OwnedMutexGuard<()>,
        given_up: CancellationToken,
    ) -> Result<Started, StartError> {
        let image = tokio::select! {
            biased;
            () = given_up.cancelled() => return Err(abandoned().into()),
            image = self.image(spec.postgres_major) => image?,
        };
        // A server that ran here before was looked for when it ended, so the search is left out of most starts.
        if postmaster::has_pid_file(&spec.data_dir) {
            self.refuse_other_server(spec.uid, &spec.data_dir).await?;
            postmaster::remove_empty_pid_file(&spec.data_dir);
        }
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
            () = given_up.cancelled() => Err(abandoned().into()),
        };
        if let Err(error) = ready {
            self.clear_away_logged(&container).await;
            return Err(image.explain_exit("postgres", error));
        }
        Ok(Started {
            postgres: Some(self.watched(&container)),
            inner: Arc::clone(&self),
            container,
            lock: Some(lock),
        })
    }

    /// Creates and starts the container. A container with the same name is a leftover, since the caller
    /// holds the lock: it is ended first.
    async fn launch_server(
        &self,
        spec: &ServerSpec,
        image: &Image,
    ) -> Result<String, RuntimeError> {
        let name = self.labels.container_name(spec.uid);
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
            first_process: FirstProcess::Init,
        };
        match self.launch(plan.clone(), &self.settings.network).await {
            Err(LaunchError::NameTaken(_)) => {
                tracing::warn!(uid = %spec.uid, "ending a leftover container");
                self.end(spec.uid, LEFTOVER_TIMEOUT).await?;
                postmaster::remove_empty_pid_file(&spec.data_dir);
                // That removed the run directory too.
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
                for_clients: false,
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
            altered: Vec::new(),
        })
    }

    /// A running server, with a task that removes its container when it has exited.
    pub(super) fn watched(self: &Arc<Self>, container: &ContainerRef) -> RunningPostgres {
        let (tell, told) = oneshot::channel();
        let (inner, container) = (Arc::clone(self), container.clone());
        let endpoint = self.endpoint(container.uid);
        self.tasks.spawn(async move {
            let status = wait_exit(&inner.engine, &container.id).await;
            // The receiver may be gone.
            let _ = tell.send(status);
            let _lock = inner.locks.lock(container.uid).await;
            inner.clear_away_logged(&container).await;
        });
        RunningPostgres {
            endpoint,
            exited: Box::pin(async move {
                told.await
                    .unwrap_or_else(|_| "unknown: its watcher has ended".to_owned())
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

    /// Ends and removes the server's container. The caller holds the lock.
    async fn end(&self, uid: InstanceUid, timeout: Duration) -> Result<(), RuntimeError> {
        let Some(found) = self.inspect_server(uid).await? else {
            let data_dir = self.settings.layout.instance_data(uid);
            self.refuse_other_server(uid, &data_dir).await?;
            self.remove_run_dir(uid).await;
            return Ok(());
        };
        if found.running {
            self.shut_down(&found.container.id, timeout).await?;
        }
        self.clear_away(&found.container).await
    }

    /// Refuses to start, and to say that nothing runs, where a server of the process runtime still has the data: Postgres
    /// cannot see it from inside a container, and two servers would destroy the data. A container of this server is not
    /// another one.
    pub(super) async fn refuse_other_server(
        &self,
        uid: InstanceUid,
        data_dir: &Path,
    ) -> Result<(), RuntimeError> {
        let directory = data_dir.to_owned();
        let runs = tokio::task::spawn_blocking(move || server_processes::any(&directory)).await;
        let runs = runs.map_err(|error| RuntimeError {
            for_clients: false,
            message: format!("cannot tell what runs on {}: {error}", data_dir.display()),
            hint: None,
        })?;
        if !runs || self.inspect_server(uid).await?.is_some() {
            return Ok(());
        }
        Err(RuntimeError {
            for_clients: false,
            message: format!("a local server still runs on {}", data_dir.display()),
            hint: Some(
                "The runtime \"process\" started it. Start multidb once with that runtime, or end it by hand."
                    .to_owned(),
            ),
        })
    }

    /// The container of the server with this uid, if the engine has one.
    pub(super) async fn inspect_server(
        &self,
        uid: InstanceUid,
    ) -> Result<Option<ServerContainer>, RuntimeError> {
        let own_data = self.settings.layout.instance_data(uid);
        for listed in self.engine.list(&Labels::filter_of(uid)).await? {
            let (id, labels) = (listed.id.unwrap_or_default(), listed.labels);
            let labels = labels.unwrap_or_default();
            let Some(Role::Server { log, data_dir, .. }) = self.labels.role(&labels) else {
                if Labels::name_data(&labels, &own_data) {
                    return Err(of_another_root(&id));
                }
                continue;
            };
            let Some(container) = self.engine.inspect(&id).await? else {
                continue;
            };
            return Ok(Some(ServerContainer {
                container: ContainerRef { uid, id, log },
                data_dir,
                running: container.state.and_then(|state| state.running) == Some(true),
            }));
        }
        Ok(None)
    }

    /// Requests a fast shutdown, and after `timeout` an immediate one. The removal of the container
    /// kills a server that still runs.
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

    /// Saves the log and removes the container and the run directory, unless another container has
    /// replaced them. The caller holds the lock.
    pub(super) async fn clear_away(&self, container: &ContainerRef) -> Result<(), RuntimeError> {
        if self.engine.inspect(&container.id).await?.is_none() {
            return Ok(());
        }
        if let Err(error) = self.engine.save_log(&container.id, &container.log).await {
            // The instance's directory may be deleted by now, so the container is removed anyway.
            tracing::warn!(uid = %container.uid, error = error.message, "cannot save the log of a container");
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
                "cannot remove a container, the next start or stop removes it"
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
            tracing::warn!(%uid, error = error.message, "cannot remove a run directory");
        }
    }

    fn endpoint(&self, uid: InstanceUid) -> Endpoint {
        Endpoint::Unix(self.settings.layout.run_dir(uid).join(SOCKET_NAME))
    }
}

/// Waits until the container has exited, also across restarts of the engine. Returns its exit status.
async fn wait_exit(engine: &Engine, id: &str) -> String {
    loop {
        let exit_code = match engine.wait(id).await {
            Ok(exit_code) => exit_code,
            Err(error) => {
                tracing::debug!(
                    container = id,
                    ?error,
                    "waiting for a container was interrupted"
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

fn of_another_root(id: &str) -> RuntimeError {
    RuntimeError {
        for_clients: false,
        message: format!("the container {id} has this data, but belongs to another root directory"),
        hint: Some(
            "Look at its labels: this root may have lost its root.json, or another daemon uses this engine."
                .to_owned(),
        ),
    }
}

fn abandoned() -> RuntimeError {
    RuntimeError {
        for_clients: false,
        message: "the caller has given up".to_owned(),
        hint: None,
    }
}

/// Runs system calls on a directory outside of the arbiter's thread.
async fn blocking(
    dir: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<()> + Send + 'static,
) -> Result<(), RuntimeError> {
    let path = dir.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    let failed = |cause: String| RuntimeError {
        for_clients: false,
        message: format!("cannot prepare {}: {cause}", dir.display()),
        hint: None,
    };
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
