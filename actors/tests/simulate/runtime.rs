//! The runtimes: they start, stop and find the servers, and fail at it. As in the daemon, the configured one answers
//! for the servers of its own kind alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{
    FoundPostgres, FoundServers, RunningPostgres, Runtime, RuntimeError, ServerError, ServerId,
    StartError, Unavailable,
};
use multidb_store::{InstanceRecord, InstanceUid, RuntimeKind};
use tokio::sync::OwnedMutexGuard;

use crate::ports::{Ports, unreachable};
use crate::servers::Server;
use crate::settings::Faults;

/// The longest time in which an engine answers a request.
const REQUEST_MILLIS_MAX: u64 = 60_000;
/// All of them.
pub const KINDS: [RuntimeKind; 2] = [RuntimeKind::Docker, RuntimeKind::Process];
/// The longest time in which a start that was given up is undone, in milliseconds.
const UNDO_MILLIS_MAX: u64 = 30_000;

impl Ports {
    fn faults(&self) -> &Faults {
        &self.world.settings.faults
    }

    /// Waits until no other task starts or stops this clone's server.
    async fn lock_server(&self, uid: InstanceUid) -> OwnedMutexGuard<()> {
        let lock = self.world.servers().lock_of(uid);
        lock.lock_owned().await
    }

    /// Whether the configured runtime may be asked for a server of this kind, and answers.
    fn admit(&self, kind: Option<RuntimeKind>) -> Result<(), Unavailable> {
        let configured = self.world.runtime();
        match kind {
            Some(runtime) if runtime != configured => Err(Unavailable::NotConfigured {
                runtime,
                configured,
            }),
            _ if self.is_away() => Err(away(unreachable())),
            _ => Ok(()),
        }
    }

    /// Whether the configured runtime does not answer. Local processes need none that does.
    fn is_away(&self) -> bool {
        self.world.runtime() == RuntimeKind::Docker && self.world.servers().away
    }

    /// The server on this data, if it is of the configured runtime.
    ///
    /// # Errors
    ///
    /// It is of another one.
    fn own_server(&self, uid: InstanceUid) -> Result<Option<Arc<Server>>, RuntimeError> {
        let server = self.world.servers().by_uid.get(&uid).cloned();
        match server {
            Some(server) if server.runtime != self.world.runtime() => Err(RuntimeError {
                for_clients: false,
                message: format!("simulated: a server of \"{}\" still runs", server.runtime),
                hint: None,
            }),
            server => Ok(server),
        }
    }

    /// Waits for the runtime, which may not answer.
    async fn request(&self, what: &str) -> Result<(), RuntimeError> {
        let is_slow = self.world.fails(self.faults().runtime_slow);
        let time = if is_slow {
            (1000, REQUEST_MILLIS_MAX)
        } else {
            (1, 30)
        };
        self.takes(time.0, time.1).await;
        if self.is_away() {
            return Err(unreachable());
        }
        if self.step(what).is_err() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Why a request failed: the engine is away, or something else.
    fn explain(&self, error: RuntimeError) -> ServerError {
        if self.is_away() {
            away(error).into()
        } else {
            error.into()
        }
    }

    async fn stop_server(&self, uid: InstanceUid, timeout: Duration) -> Result<(), RuntimeError> {
        self.request("stop: begin").await?;
        if self.world.fails(self.faults().stop_fails) {
            return Err(unreachable());
        }
        if self.world.fails(self.faults().stop_hangs) {
            tokio::time::sleep(timeout).await;
            if self.world.fails(500_000) {
                return Err(unreachable());
            }
        }
        self.takes(10, 1000).await;
        if self.own_server(uid)?.is_some() {
            self.world.stop_server(uid);
        }
        self.request("stop: done").await
    }

    async fn find_server(&self, uid: InstanceUid) -> Result<Option<Arc<Server>>, RuntimeError> {
        self.request("find a server").await?;
        if self.world.fails(self.faults().find_fails) {
            return Err(unreachable());
        }
        self.own_server(uid)
    }

    fn running_postgres(&self, server: Arc<Server>) -> RunningPostgres {
        let ports = self.clone();
        RunningPostgres {
            endpoint: self.world.endpoint_of(&server),
            exited: Box::pin(async move {
                server.ended().await;
                ports.may_panic();
                "it exited".to_owned()
            }),
        }
    }

    fn found(&self, server: Arc<Server>) -> FoundPostgres {
        FoundPostgres {
            uid: server.uid,
            postgres: self.running_postgres(server),
        }
    }
}

fn away(cause: RuntimeError) -> Unavailable {
    Unavailable::Away {
        runtime: RuntimeKind::Docker,
        cause,
    }
}

/// Ends the server of a start that did not succeed, in the background and under the server's lock, as a runtime has to.
struct StartGuard {
    ports: Ports,
    uid: InstanceUid,
    lock: Option<OwnedMutexGuard<()>>,
}

impl StartGuard {
    fn succeeded(&mut self) {
        self.lock = None;
    }
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else {
            return;
        };
        if self.ports.life.is_over() {
            // The daemon is gone and its server runs on.
            return;
        }
        let (ports, uid) = (self.ports.clone(), self.uid);
        tokio::spawn(async move {
            tokio::time::sleep(ports.world.time(1, UNDO_MILLIS_MAX)).await;
            if !ports.life.is_over() {
                ports.world.end_server(uid);
            }
            drop(lock);
        });
    }
}

#[async_trait]
impl Runtime for Ports {
    fn kind(&self) -> RuntimeKind {
        self.may_panic_anywhere();
        self.world.runtime()
    }

    async fn available(&self) -> Result<(), Unavailable> {
        self.admit(None)
    }

    async fn start(&self, record: &InstanceRecord) -> Result<RunningPostgres, StartError> {
        let uid = record.uid;
        self.admit(record.runtime)?;
        let lock = self.lock_server(uid).await;
        self.may_panic();
        self.request("start: begin")
            .await
            .map_err(|e| start_error(self.explain(e)))?;
        if let Some(other) = self.own_server(uid)? {
            self.world
                .violated(format_args!("a start finds a server on {}", other.uid));
        }
        let has_data = self.world.disk().data(uid).is_some();
        if !has_data || self.world.fails(self.faults().start_fails) {
            return Err(StartError::Exited {
                status: "exit status 1".to_owned(),
                log: vec!["FATAL:  simulated".to_owned()],
                altered: Vec::new(),
            });
        }
        let mut guard = StartGuard {
            ports: self.clone(),
            uid,
            lock: Some(lock),
        };
        let server = self.world.launch_server(uid, self.world.runtime());
        self.request("start: launched")
            .await
            .map_err(|e| start_error(self.explain(e)))?;
        self.may_panic();
        if self.world.fails(self.faults().start_hangs) {
            std::future::pending::<()>().await;
        }
        self.takes(20, 400).await;
        if self.world.fails(self.faults().server_exits) {
            self.world.end_server(uid);
            return Err(StartError::Exited {
                status: "signal 9".to_owned(),
                log: Vec::new(),
                altered: Vec::new(),
            });
        }
        guard.succeeded();
        Ok(self.running_postgres(server))
    }

    async fn stop(&self, server: ServerId, timeout: Duration) -> Result<(), ServerError> {
        self.admit(server.runtime)?;
        let _lock = self.lock_server(server.uid).await;
        self.may_panic();
        let stopped = self.stop_server(server.uid, timeout).await;
        self.may_panic();
        stopped.map_err(|error| self.explain(error))
    }

    async fn running(&self) -> FoundServers {
        let mut found = FoundServers::default();
        for kind in KINDS {
            if let Err(unavailable) = self.admit(Some(kind)) {
                found.unavailable.insert(kind, unavailable);
            }
        }
        let configured = self.world.runtime();
        if let Err(cause) = self.request("look for servers").await {
            found.unavailable.insert(configured, away(cause));
        }
        if found.unavailable.contains_key(&configured) {
            return found;
        }
        let servers: Vec<_> = self.world.servers().by_uid.values().cloned().collect();
        for server in servers
            .into_iter()
            .filter(|server| server.runtime == configured)
        {
            if self.world.fails(self.faults().find_fails) {
                found.undecided.push(server.uid);
            } else {
                found.running.push(self.found(server));
            }
        }
        found
    }

    async fn find(&self, server: ServerId) -> Result<Option<FoundPostgres>, ServerError> {
        self.admit(server.runtime)?;
        let _lock = self.lock_server(server.uid).await;
        self.may_panic();
        let found = self.find_server(server.uid).await;
        let found = found.map_err(|error| self.explain(error))?;
        Ok(found.map(|server| self.found(server)))
    }
}

fn start_error(error: ServerError) -> StartError {
    match error {
        ServerError::Unavailable(unavailable) => unavailable.into(),
        ServerError::Failed(error) => error.into(),
    }
}
