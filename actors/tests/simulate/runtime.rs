//! The runtime: starts, stops and finds the servers, and fails at it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{
    FoundPostgres, FoundServers, RunningPostgres, Runtime, RuntimeError, StartError,
};
use multidb_store::{InstanceRecord, InstanceUid};
use tokio::sync::OwnedMutexGuard;

use crate::ports::{Ports, unreachable};
use crate::servers::Server;
use crate::settings::Faults;

/// The longest time in which an engine answers a request.
const REQUEST_MILLIS_MAX: u64 = 60_000;

impl Ports {
    fn faults(&self) -> &Faults {
        &self.world.settings.faults
    }

    /// Waits until nobody else starts or stops this clone's server.
    async fn lock_server(&self, uid: InstanceUid) -> OwnedMutexGuard<()> {
        let lock = self.world.servers().lock_of(uid);
        lock.lock_owned().await
    }

    /// Waits for the engine, which may not answer.
    async fn request(&self, what: &str) -> Result<(), RuntimeError> {
        let is_slow = self.world.fails(self.faults().runtime_slow);
        let time = if is_slow {
            (1000, REQUEST_MILLIS_MAX)
        } else {
            (1, 30)
        };
        self.takes(time.0, time.1).await;
        if self.world.servers().away {
            return Err(unreachable());
        }
        if self.step(what).is_err() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn running_postgres(&self, server: Arc<Server>) -> RunningPostgres {
        let ports = self.clone();
        RunningPostgres {
            endpoint: server.endpoint.clone(),
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

/// Ends the server of a start that did not succeed, as a runtime has to.
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
        self.ports.world.end_server(self.uid);
        drop(lock);
    }
}

#[async_trait]
impl Runtime for Ports {
    async fn start(&self, record: &InstanceRecord) -> Result<RunningPostgres, StartError> {
        let uid = record.uid;
        let lock = self.lock_server(uid).await;
        self.may_panic();
        self.request("start: begin").await?;
        let has_data = self.world.disk().data(uid).is_some();
        if !has_data || self.world.fails(self.faults().start_fails) {
            return Err(StartError::Exited {
                status: "exit status 1".to_owned(),
                log: vec!["FATAL:  simulated".to_owned()],
            });
        }
        let mut guard = StartGuard {
            ports: self.clone(),
            uid,
            lock: Some(lock),
        };
        let server = self.world.launch_server(uid);
        self.request("start: launched").await?;
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
            });
        }
        guard.succeeded();
        Ok(self.running_postgres(server))
    }

    async fn stop(&self, uid: InstanceUid, timeout: Duration) -> Result<(), RuntimeError> {
        let _lock = self.lock_server(uid).await;
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
        self.world.end_server(uid);
        self.request("stop: done").await
    }

    async fn running(&self) -> Result<FoundServers, RuntimeError> {
        self.request("look for servers").await?;
        let servers: Vec<_> = self.world.servers().by_uid.values().cloned().collect();
        let mut found = FoundServers::default();
        for server in servers {
            if self.world.fails(self.faults().find_fails) {
                found.undecided.push(server.uid);
            } else {
                found.running.push(self.found(server));
            }
        }
        Ok(found)
    }

    async fn find(&self, uid: InstanceUid) -> Result<Option<FoundPostgres>, RuntimeError> {
        let _lock = self.lock_server(uid).await;
        self.request("find a server").await?;
        if self.world.fails(self.faults().find_fails) {
            return Err(unreachable());
        }
        let server = self.world.servers().by_uid.get(&uid).cloned();
        Ok(server.map(|server| self.found(server)))
    }
}
