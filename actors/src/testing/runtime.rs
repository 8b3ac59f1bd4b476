//! A runtime without processes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use multidb_store::{InstanceRecord, InstanceUid, RuntimeKind};
use tokio::sync::oneshot;

use super::lock;
use crate::ports::{
    Endpoint, FoundPostgres, FoundServers, RunningPostgres, Runtime, RuntimeError, ServerError,
    ServerId, StartError, Unavailable,
};

/// The outcome of the next starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Starts {
    /// They succeed.
    #[default]
    Succeed,
    /// Postgres exits, with a line in its log.
    Fail,
    /// They hang.
    Hang,
}

/// A runtime without processes.
#[derive(Default)]
pub struct FakeRuntime {
    /// The outcome of the next starts.
    pub starts: Mutex<Starts>,
    /// The started uids, in order.
    pub started: Mutex<Vec<InstanceUid>>,
    /// The stopped uids, in order.
    pub stopped: Mutex<Vec<InstanceUid>>,
    /// The endpoints of the next starts, in order; the last one is repeated. Without any, an endpoint
    /// that nothing listens on.
    pub endpoints: Mutex<VecDeque<Endpoint>>,
    running: Mutex<HashMap<InstanceUid, oneshot::Sender<()>>>,
    /// Write-locked while stops are to wait.
    pub stop_gate: tokio::sync::RwLock<()>,
    /// The number of the next stops that fail.
    pub stop_failures: Mutex<usize>,
    /// Write-locked while answers to the search for a running Postgres are to wait.
    pub find_gate: tokio::sync::RwLock<()>,
    /// Whether it does not answer.
    pub away: Mutex<bool>,
}

impl FakeRuntime {
    /// The running uids.
    pub fn running_now(&self) -> BTreeSet<InstanceUid> {
        lock(&self.running).keys().copied().collect()
    }

    /// Ends a Postgres as by a crash.
    pub fn crash(&self, uid: InstanceUid) {
        lock(&self.running).remove(&uid);
    }

    /// Whether the servers of this kind can be asked for.
    fn check(&self, kind: Option<RuntimeKind>) -> Result<(), Unavailable> {
        match kind {
            Some(runtime) if runtime != KIND => Err(Unavailable::NotConfigured {
                runtime,
                configured: KIND,
            }),
            _ if *lock(&self.away) => Err(Unavailable::Away {
                runtime: KIND,
                cause: no_engine(),
            }),
            _ => Ok(()),
        }
    }

    fn next_endpoint(&self, uid: InstanceUid) -> Endpoint {
        let mut endpoints = lock(&self.endpoints);
        let next = match endpoints.len() {
            0 | 1 => endpoints.front().cloned(),
            _ => endpoints.pop_front(),
        };
        next.unwrap_or_else(|| Endpoint::Unix(format!("/fake/{uid}").into()))
    }

    fn found(&self, uid: InstanceUid) -> FoundPostgres {
        let postgres = self.run(uid);
        FoundPostgres { uid, postgres }
    }

    /// Runs a Postgres without a start, as one found after a restart of the daemon.
    pub fn run(&self, uid: InstanceUid) -> RunningPostgres {
        let (end, ended) = oneshot::channel();
        lock(&self.running).insert(uid, end);
        RunningPostgres {
            endpoint: self.next_endpoint(uid),
            exited: Box::pin(async move {
                let _dropped = ended.await;
                "it crashed".to_owned()
            }),
        }
    }
}

/// The kind of the fake.
const KIND: RuntimeKind = RuntimeKind::Docker;

#[async_trait]
impl Runtime for FakeRuntime {
    fn kind(&self) -> RuntimeKind {
        KIND
    }

    async fn available(&self) -> Result<(), Unavailable> {
        self.check(None)
    }

    async fn start(&self, record: &InstanceRecord) -> Result<RunningPostgres, StartError> {
        self.check(record.runtime)?;
        lock(&self.started).push(record.uid);
        let starts = *lock(&self.starts);
        match starts {
            Starts::Succeed => Ok(self.run(record.uid)),
            Starts::Fail => Err(StartError::Exited {
                status: "exit status 1".to_owned(),
                log: vec!["FATAL:  no".to_owned()],
                altered: Vec::new(),
            }),
            Starts::Hang => std::future::pending().await,
        }
    }

    async fn stop(&self, server: ServerId, _: Duration) -> Result<(), ServerError> {
        let _open = self.stop_gate.read().await;
        self.check(server.runtime)?;
        let left = lock(&self.stop_failures).checked_sub(1);
        if let Some(left) = left {
            *lock(&self.stop_failures) = left;
            return Err(no_engine().into());
        }
        lock(&self.stopped).push(server.uid);
        lock(&self.running).remove(&server.uid);
        Ok(())
    }

    async fn running(&self) -> FoundServers {
        let mut found = FoundServers::default();
        for kind in [RuntimeKind::Docker, RuntimeKind::Process] {
            if let Err(unavailable) = self.check(Some(kind)) {
                found.unavailable.insert(kind, unavailable);
            }
        }
        if !found.unavailable.contains_key(&KIND) {
            found.running = self
                .running_now()
                .into_iter()
                .map(|uid| self.found(uid))
                .collect();
        }
        found
    }

    async fn find(&self, server: ServerId) -> Result<Option<FoundPostgres>, ServerError> {
        let _open = self.find_gate.read().await;
        self.check(server.runtime)?;
        let runs = lock(&self.running).contains_key(&server.uid);
        Ok(runs.then(|| self.found(server.uid)))
    }
}

fn no_engine() -> RuntimeError {
    RuntimeError {
        for_clients: false,
        message: "no engine answers".to_owned(),
        hint: None,
    }
}
