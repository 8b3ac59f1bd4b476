//! A runtime without processes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use multidb_store::{InstanceRecord, InstanceUid};
use tokio::sync::oneshot;

use super::lock;
use crate::ports::{
    Endpoint, FoundPostgres, FoundServers, RunningPostgres, Runtime, RuntimeError, StartError,
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
    /// Whether a running Postgres cannot be looked for.
    pub find_fails: Mutex<bool>,
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

    fn next_endpoint(&self, uid: InstanceUid) -> Endpoint {
        let mut endpoints = lock(&self.endpoints);
        let next = match endpoints.len() {
            0 | 1 => endpoints.front().cloned(),
            _ => endpoints.pop_front(),
        };
        next.unwrap_or_else(|| Endpoint::Unix(format!("/fake/{uid}").into()))
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

#[async_trait]
impl Runtime for FakeRuntime {
    async fn start(&self, record: &InstanceRecord) -> Result<RunningPostgres, StartError> {
        lock(&self.started).push(record.uid);
        let starts = *lock(&self.starts);
        match starts {
            Starts::Succeed => Ok(self.run(record.uid)),
            Starts::Fail => Err(StartError::Exited {
                status: "exit status 1".to_owned(),
                log: vec!["FATAL:  no".to_owned()],
            }),
            Starts::Hang => std::future::pending().await,
        }
    }

    async fn stop(&self, uid: InstanceUid, _: Duration) -> Result<(), RuntimeError> {
        let _open = self.stop_gate.read().await;
        let left = lock(&self.stop_failures).checked_sub(1);
        if let Some(left) = left {
            *lock(&self.stop_failures) = left;
            return Err(no_engine());
        }
        lock(&self.stopped).push(uid);
        lock(&self.running).remove(&uid);
        Ok(())
    }

    async fn running(&self) -> Result<FoundServers, RuntimeError> {
        let uids = self.running_now();
        let found = |uid| FoundPostgres {
            uid,
            postgres: self.run(uid),
        };
        Ok(FoundServers {
            running: uids.into_iter().map(found).collect(),
            undecided: Vec::new(),
        })
    }

    async fn find(&self, uid: InstanceUid) -> Result<Option<FoundPostgres>, RuntimeError> {
        let _open = self.find_gate.read().await;
        if *lock(&self.find_fails) {
            return Err(no_engine());
        }
        let runs = lock(&self.running).contains_key(&uid);
        Ok(runs.then(|| FoundPostgres {
            uid,
            postgres: self.run(uid),
        }))
    }
}

fn no_engine() -> RuntimeError {
    RuntimeError {
        message: "no engine answers".to_owned(),
        hint: None,
    }
}
