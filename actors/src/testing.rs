//! Fakes of the ports, and a harness of the actors over them.
//!
//! The records are real, in a temporary directory. Everything else outside the actors is a fake, which
//! records its calls and fails on request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;
use multidb_store::quarantine::Quarantined;
use multidb_store::recovery::{Leftover, LeftoverAction, RecordOrigin, Recovered};
use multidb_store::{
    Epochs, InstanceRecord, InstanceUid, Layout, PassedErrors, Phase, Pin, ProjectName, SnapshotId,
    SnapshotRecord, Store,
};

use crate::clone_worker::{CloneWorker, CloneWorkerDeps, WorkerThreads};
use crate::critical::CriticalParts;
use crate::limits::{IdleLimits, Limits};
use crate::metrics::Metrics;
use crate::observed_clock::ObservedClock;
use crate::ports::{CloneError, CloneReport, CloneSource, ClonedFrom, Cloner, SnapshotCatalog};
use crate::request::{ConnectRequest, Source};
use crate::snapshot_index::SnapshotIndex;
use crate::supervisor::{
    Acquire, AcquireError, Acquired, ProjectSettings, Supervisor, SupervisorDeps,
};

mod backend;
mod clock;
mod console;
pub mod fuzz;
mod memory;
mod postgres;
mod probe;
mod runtime;
mod source;

pub use self::backend::{Backend, error, message};
pub use self::clock::FakeClock;
pub use self::console::FakeConsole;
pub use self::memory::FakeMemory;
pub use self::postgres::{FakePostgres, Login};
pub use self::probe::FakeProbe;
pub use self::runtime::{FakeRuntime, Starts};
pub use self::source::FakeSource;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Critical parts whose end has no consequence: a test ends its actors as it likes.
pub fn uncritical() -> CriticalParts {
    CriticalParts::new(|_| {})
}

/// A cloner without files.
#[derive(Default)]
pub struct FakeCloner {
    /// The error of the next clones, if they fail.
    pub failure: Mutex<Option<CloneError>>,
    /// Write-locked while clones are to wait.
    pub create_gate: tokio::sync::RwLock<()>,
    /// The cloned uids, in order.
    pub made: Mutex<Vec<InstanceUid>>,
    /// The error of the next deletions, if they fail.
    pub delete_failure: Mutex<Option<CloneError>>,
    /// The deleted uids, in order.
    pub deleted: Mutex<Vec<InstanceUid>>,
    /// The uids that were deleted while a Postgres ran on their data.
    pub deleted_while_running: Mutex<Vec<InstanceUid>>,
    /// Write-locked while deletions are to wait.
    pub delete_gate: tokio::sync::RwLock<()>,
    /// The runtime of the clones.
    pub runtime: Arc<FakeRuntime>,
    /// The records of the rewritten manifests, in order.
    pub manifests: Mutex<Vec<InstanceRecord>>,
    /// The number of the next writes of manifests that fail.
    pub manifest_failures: Mutex<usize>,
    /// The clones that were moved to the quarantine, with their reasons, in order.
    pub quarantined: Mutex<Vec<(InstanceUid, String)>>,
    /// The clones in the quarantine.
    pub recoverable: Mutex<Vec<InstanceRecord>>,
    /// Write-locked while clones are to stay in the quarantine.
    pub take_gate: tokio::sync::RwLock<()>,
    /// The error of the next moves from the quarantine, if they fail.
    pub take_failure: Mutex<Option<CloneError>>,
    /// Why the data of instances cannot be used, if it cannot.
    pub unusable: Mutex<Option<String>>,
    /// Write-locked while writes of manifests are to wait.
    pub manifest_gate: tokio::sync::RwLock<()>,
    /// The number of times that a manifest was to be read.
    pub reads: Mutex<usize>,
    /// Write-locked while reading a manifest is to wait.
    pub read_gate: tokio::sync::RwLock<()>,
    /// The error of the next readings of manifests, if they fail.
    pub read_failure: Mutex<Option<CloneError>>,
}

impl Cloner for FakeCloner {
    fn method(&self) -> &'static str {
        "fake"
    }

    fn create(
        &self,
        record: &InstanceRecord,
        source: &CloneSource,
    ) -> Result<CloneReport, CloneError> {
        if let Some(error) = lock(&self.failure).clone() {
            return Err(error);
        }
        lock(&self.made).push(record.uid);
        drop(self.create_gate.blocking_read());
        Ok(CloneReport {
            source: ClonedFrom::from(source),
            files: 1,
            elapsed: Duration::ZERO,
        })
    }

    fn delete(&self, uid: InstanceUid) -> Result<(), CloneError> {
        if let Some(error) = lock(&self.delete_failure).clone() {
            return Err(error);
        }
        if self.runtime.running_now().contains(&uid) {
            lock(&self.deleted_while_running).push(uid);
        }
        lock(&self.deleted).push(uid);
        drop(self.delete_gate.blocking_read());
        Ok(())
    }

    fn write_manifest(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        lock(&self.manifests).push(record.clone());
        drop(self.manifest_gate.blocking_read());
        let mut failures = lock(&self.manifest_failures);
        if *failures > 0 {
            *failures -= 1;
            let message = "no space".to_owned();
            return Err(CloneError::Failed { message });
        }
        Ok(())
    }

    /// The manifest that was written last, if any.
    fn read_manifest(&self, uid: InstanceUid) -> Result<Option<InstanceRecord>, CloneError> {
        *lock(&self.reads) += 1;
        drop(self.read_gate.blocking_read());
        if let Some(error) = lock(&self.read_failure).clone() {
            return Err(error);
        }
        let manifests = lock(&self.manifests);
        let written = manifests.iter().rev().find(|record| record.uid == uid);
        Ok(written.cloned())
    }

    fn quarantine(&self, uid: InstanceUid, why: &str) -> Result<(), CloneError> {
        lock(&self.quarantined).push((uid, why.to_owned()));
        Ok(())
    }

    fn quarantined(&self) -> Result<Vec<Quarantined>, CloneError> {
        let kept = lock(&self.recoverable);
        let kept = kept.iter().map(|record| Quarantined {
            directory: format!("/quarantine/{}", record.uid).into(),
            uid: Some(record.uid),
            note: None,
            manifest: Ok(record.clone()),
        });
        Ok(kept.collect())
    }

    fn take_from_quarantine(&self, record: &InstanceRecord) -> Result<(), CloneError> {
        drop(self.take_gate.blocking_read());
        if let Some(error) = lock(&self.take_failure).clone() {
            return Err(error);
        }
        lock(&self.manifests).push(record.clone());
        lock(&self.recoverable).retain(|kept| kept.uid != record.uid);
        Ok(())
    }

    fn why_unusable(&self, _: &InstanceRecord) -> Result<Option<String>, CloneError> {
        Ok(lock(&self.unusable).clone())
    }

    fn exclusive_bytes(&self, _: InstanceUid) -> Result<u64, CloneError> {
        Ok(0)
    }

    fn disk_free_bytes(&self) -> Result<u64, CloneError> {
        Ok(0)
    }
}

/// A catalog without snapshots.
pub struct FakeCatalog;

impl SnapshotCatalog for FakeCatalog {
    fn load(&self) -> Result<Vec<SnapshotRecord>, CloneError> {
        Ok(Vec::new())
    }

    fn delete(&self, _: &SnapshotId) -> Result<(), CloneError> {
        Ok(())
    }
}

/// The limits of the tests.
pub fn limits() -> Limits {
    Limits {
        idle: IdleLimits::default(),
        instance_idle_timeout: Duration::from_secs(300),
        retention: Duration::from_secs(30 * 86_400),
        expiry_grace: Duration::from_secs(86_400),
        start_timeout: Duration::from_secs(30),
        login_timeout: Duration::from_secs(10),
        shutdown_grace: Duration::from_secs(10),
        max_running: 50,
        memory_high_water: None,
        max_connections: 1000,
        max_unauthenticated: 1000,
    }
}

/// A snapshot of project `p`, taken at this second, with these migrations.
pub fn snapshot(id: &str, second: i64, migrations: &[&str]) -> SnapshotRecord {
    SnapshotRecord {
        id: id.parse().expect("a test names snapshots well"),
        project: project(),
        taken_at: Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH),
        imported_at: Timestamp::UNIX_EPOCH,
        postgres_major: 15,
        superuser: "postgres".to_owned(),
        bytes: 0,
        files: 0,
        migrations: migrations.iter().map(|m| (*m).to_owned()).collect(),
        source: String::new(),
        taken_at_origin: Default::default(),
        passed_errors: PassedErrors::default(),
        prepared_by: Vec::new(),
        pin: multidb_store::SnapshotPin::None,
        from_instance: None,
        extensions: Vec::new(),
    }
}

/// A record of an instance of snapshot `s1`.
pub fn record(name: &str, bits: u64, phase: Phase) -> InstanceRecord {
    InstanceRecord {
        name: name.parse().expect("a test names instances well"),
        uid: InstanceUid::from_bits(bits),
        epoch: 1,
        sequence: 0,
        phase,
        project: project(),
        snapshot: "s1".parse().expect("it is a name"),
        gitref: None,
        commit: None,
        created_by: "staff".to_owned(),
        postgres_major: 15,
        superuser: "postgres".to_owned(),
        created_at: FakeClock::START,
        last_used_at: FakeClock::START,
        last_used_observed: multidb_store::ObservedTime::default(),
        marked: None,
        pin: Pin::None,
        runtime: None,
        ttl: None,
        class: Default::default(),
        parent: None,
    }
}

/// An instance at a start, with its record from the database.
pub fn recovered(record: InstanceRecord) -> Recovered {
    Recovered {
        record,
        origin: RecordOrigin::Database,
        unusable: None,
        mends_manifest: false,
    }
}

/// A clone to be deleted at a start.
pub fn deleted_leftover(uid: InstanceUid) -> Leftover {
    Leftover {
        uid,
        name: None,
        epoch: 0,
        action: LeftoverAction::Delete,
    }
}

/// The only project.
pub fn project() -> ProjectName {
    "p".parse().expect("it is a name")
}

/// The actors over fakes.
pub struct Harness {
    /// The runtime.
    pub runtime: Arc<FakeRuntime>,
    /// The probe.
    pub probe: Arc<FakeProbe>,
    /// The cloner.
    pub cloner: Arc<FakeCloner>,
    /// The repository: `main` defines `a.1` and `a.2`, `old` only `a.1`, `empty` nothing.
    pub source: Arc<FakeSource>,
    /// Both clocks, to set them.
    pub clock: Arc<FakeClock>,
    /// The memory, to fill it.
    pub memory: Arc<FakeMemory>,
    /// The root's clock over them.
    pub root_clock: ObservedClock,
    /// The store of records.
    pub store: Store,
    /// The clone worker.
    pub worker: Addr<CloneWorker>,
    /// The index of the snapshots `s1` with `a.1`, `s2` with `a.1` and `a.2`, taken later.
    pub index: Addr<SnapshotIndex>,
    /// The Supervisor.
    pub supervisor: Addr<Supervisor>,
    /// The metrics of the actors.
    pub metrics: Arc<Metrics>,
    _root: tempfile::TempDir,
}

impl Harness {
    /// A harness without instances, to be created within a system.
    pub fn new(limits: Limits) -> Self {
        Self::with_projects(limits, &[project()])
    }

    /// A harness without instances, with these configured projects.
    pub fn with_projects(limits: Limits, projects: &[ProjectName]) -> Self {
        Self::observed_for(Duration::ZERO, limits, projects)
    }

    /// A harness without instances, of a root whose daemons have run for this time.
    pub fn observed_for(time: Duration, limits: Limits, projects: &[ProjectName]) -> Self {
        let root = tempfile::tempdir().expect("there is room for a directory");
        let layout = Layout::new(root.path());
        let store = Store::open_or_rebuild(&layout)
            .expect("a new store opens")
            .store;
        let runtime = Arc::new(FakeRuntime::default());
        let probe = Arc::new(FakeProbe::default());
        let cloner = Arc::new(FakeCloner {
            runtime: runtime.clone(),
            ..FakeCloner::default()
        });
        let source = Arc::new(FakeSource::filled());
        let clock = Arc::new(FakeClock::default());
        let memory = Arc::new(FakeMemory::default());
        let start = multidb_store::ObservedTime::default() + time;
        let root_clock = ObservedClock::new(clock.clone(), start);
        let metrics = Metrics::new();
        let worker = CloneWorker::new(CloneWorkerDeps {
            cloner: cloner.clone(),
            catalog: Arc::new(FakeCatalog),
            records: Arc::new(store.clone()),
            executor: Arc::new(WorkerThreads::start(&uncritical(), metrics.clone())),
            metrics: metrics.clone(),
        })
        .start();
        let s1 = snapshot("s1", 100, &["a.1"]);
        let s2 = snapshot("s2", 200, &["a.1", "a.2"]);
        let index = SnapshotIndex::new(vec![s1, s2], source.clone(), HashMap::new()).start();
        let projects = projects.iter().cloned();
        let settings = ProjectSettings {
            database: "app".to_owned(),
            role: "postgres".to_owned(),
            idle: Default::default(),
        };
        let supervisor = Supervisor::new(SupervisorDeps {
            runtime: runtime.clone(),
            probe: probe.clone(),
            worker: worker.clone(),
            index: index.clone(),
            projects: Arc::new(projects.map(|name| (name, settings.clone())).collect()),
            limits: Arc::new(limits),
            clock: root_clock.clone(),
            last_expiry: None,
            epochs: Epochs::default(),
            memory: memory.clone(),
            metrics: metrics.clone(),
            history: Default::default(),
        })
        .start();
        Self {
            runtime,
            probe,
            cloner,
            source,
            clock,
            memory,
            root_clock,
            store,
            worker,
            index,
            supervisor,
            metrics,
            _root: root,
        }
    }

    /// Requests an instance.
    pub async fn acquire(
        &self,
        name: &str,
        source: Option<Source>,
    ) -> Result<Acquired, AcquireError> {
        let request = ConnectRequest {
            instance: name.parse().expect("a test names instances well"),
            source,
            from: None,
            project: None,
            role: None,
            user: None,
            idle: Default::default(),
            ttl: None,
            class: None,
        };
        let identity = crate::auth::Identity::trusted("staff");
        let acquired = self.supervisor.send(Acquire { request, identity }).await;
        acquired.expect("the supervisor lives")
    }
}

/// Runs a test in its own system with paused time.
pub fn paused(test: impl Future<Output = ()>) {
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime is built")
    });
    system.block_on(test);
}
