//! The daemon: the only place that builds the parts, joins them, and ends them in order.
//!
//! Start order: the root, whose lock keeps a second daemon from it; the records; the runtime and the
//! cloner; the clean-up after an interrupted run; the actors; the admin socket; the listeners. The
//! stop order is the reverse, see [`drain`]. When a part ends that must not, so does the process, see [`watchdog`].

use std::sync::Arc;

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use anyhow::{Context as _, anyhow};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use multidb_actors::clone_worker::{CloneWorker, CloneWorkerDeps, WorkerThreads};
use multidb_actors::connection::AdmissionControl;
use multidb_actors::critical::CriticalParts;
use multidb_actors::observed_clock::ObservedClock;
use multidb_actors::ports::{RevisionSource, Runtime, SnapshotCatalog};
use multidb_actors::sessions::SessionTable;
use multidb_actors::snapshot_index::{AddSnapshot, ListSnapshots, SnapshotIndex};
use multidb_actors::supervisor::{Restore, Supervisor, SupervisorDeps};
use multidb_store::recovery::Plan;
use multidb_store::store::{Opened, StoredJobs};
use multidb_store::{
    DiskFault, Epochs, Layout, ObservedTime, RootId, SnapshotRecord, Store, StoreError, StoredTime,
    error_chain,
};
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::catalog::DiskCatalog;
use crate::clock::SystemClock;
use crate::clone::TreeCloner;
use crate::config::{Config, Loaded, Setting};
use crate::control::{Control, ControlDeps};
use crate::dedup::Deduplicator;
use crate::fsutil::beneath;
use crate::git::GitSource;
use crate::handed_over::HandedOver;
use crate::history;
use crate::import::Importer;
use crate::jobs::Registry;
use crate::memory::MachineMemory;
use crate::metrics::DaemonMetrics;
use crate::notify::Notifier;
use crate::probe::PgProbe;
use crate::runtime::{InstanceRuntime, PostgresHost, data_owner};

mod actors;
mod clean_up;
pub mod convert;
mod drain;
pub mod host;
mod listening;
mod open_files;
mod periodic;
mod readiness;
mod records;
pub mod root;
mod security;
mod watchdog;

use self::actors::Actors;
use self::host::Kinds;
use self::listening::Listening;
use self::periodic::PeriodicTasks;
use self::readiness::{notify, ready};
use self::root::NewRoot;
use self::security::{authentication, handle_hangups};

/// Runs the daemon until a signal stops it.
///
/// # Errors
///
/// It could not start.
pub fn serve(loaded: Loaded) -> anyhow::Result<()> {
    // Before a program is started that would inherit them.
    let handed_over = HandedOver::take()?;
    beneath::require_openat2()?;
    let critical = CriticalParts::new(watchdog::end_process);
    let system = System::new();
    let mut new_root = NewRoot::default();
    let Loaded {
        config, settings, ..
    } = loaded;
    let ended = system.block_on(run(config, settings, handed_over, &critical, &mut new_root));
    critical.begin_shutdown();
    if ended.is_err() {
        new_root.remove();
    }
    ended.map_err(with_disk_hint)
}

/// An error that a fault of the disk caused, with its remedy.
fn with_disk_hint(error: anyhow::Error) -> anyhow::Error {
    let message = format!("{error:#}");
    match DiskFault::in_text(&message) {
        Some(fault) if !message.contains("hint: ") => {
            anyhow!("{message}\nhint: {}", fault.hint())
        }
        _ => error,
    }
}

/// The services that the actors use.
struct Services {
    layout: Layout,
    /// The identity of the root.
    root: RootId,
    store: Store,
    /// The instances and the other clones, until the Supervisor takes them.
    plan: Plan,
    epochs: Epochs,
    clock: ObservedClock,
    memory: Arc<MachineMemory>,
    /// When an instance was last deleted by expiry.
    last_expiry: Option<ObservedTime>,
    /// The history of jobs, until the registry takes it.
    jobs: Option<Result<StoredJobs, StoreError>>,
    cloner: Arc<TreeCloner>,
    catalog: Arc<DiskCatalog>,
    host: Arc<dyn PostgresHost>,
    kinds: Kinds,
    metrics: Arc<DaemonMetrics>,
}

async fn run(
    config: Config,
    settings: Vec<Setting>,
    handed_over: HandedOver,
    critical: &CriticalParts,
    new_root: &mut NewRoot,
) -> anyhow::Result<()> {
    open_files::raise_limit(&config.limits);
    let mut services = Services::open(&config, new_root).await?;
    services.clean_up().await?;
    let actors = services.start_actors(&config, critical).await?;
    let auth = authentication(&config, &services.layout, critical)?;
    let importer = services.importer(actors.index.clone());
    let job_runtime = start_arbiter("the thread of jobs", critical);
    let snapshots = actors.index.send(ListSnapshots).await?;
    let jobs = services.jobs(&job_runtime, &snapshots).await?;
    let deduplicator = deduplicator(&config, &services);
    let control = Control::new(ControlDeps {
        costs: actors.measure_costs(&services.layout, &deduplicator),
        config: Arc::new(config.clone()),
        settings,
        layout: services.layout.clone(),
        cloner: services.cloner.clone(),
        host: services.host.clone(),
        probe: Arc::new(PgProbe),
        supervisor: actors.supervisor.clone(),
        index: actors.index.clone(),
        worker: actors.worker.clone(),
        sessions: actors.sessions.clone(),
        jobs: jobs.clone(),
        importer: importer.clone(),
        deduplicator,
        store: services.store.clone(),
        users: auth.users,
        attempts: auth.attempts,
        memory: services.memory.clone(),
        notifier: Notifier::new(&config.notify),
        clock: services.clock.clone(),
        admission: actors.admission.clone(),
        metrics: services.metrics.clone(),
        history: actors.history.clone(),
        started_at: Timestamp::now(),
    });
    let Listening {
        proxy,
        tls,
        servers,
    } = Listening::begin(
        &config,
        &services,
        &control,
        &auth.method,
        critical,
        handed_over,
    )?;
    new_root.keep();
    handle_hangups()?;
    let (arbiters, acceptors) = actors.acceptors(&config, tls, auth.method, &control, critical);
    let accepting = critical.watch("the listeners", proxy.serve(acceptors));
    let accepting = actix_rt::spawn(accepting);
    ready(&config, &services);
    watchdog::start(actors.supervisor.clone());
    // De-duplication that the daemon before has not completed.
    control.dedup_in_background().await;
    let periodic = PeriodicTasks::start(&control, critical);

    drain::signal().await?;
    critical.begin_shutdown();
    notify(&[NotifyState::Stopping]);
    accepting.abort();
    periodic.stop();
    let drained = drain::drain(&actors, config.limits.shutdown_grace);
    tokio::join!(jobs.stop(), drained);
    let arbiters = arbiters.into_iter().chain([job_runtime]);
    close(&services, &actors, &servers, arbiters).await;
    Ok(())
}

/// Closes the parts that no client needs any more.
async fn close(
    services: &Services,
    actors: &Actors,
    servers: &[ServerHandle],
    arbiters: impl Iterator<Item = Arbiter>,
) {
    for server in servers {
        server.stop(false).await;
    }
    services.host.close().await;
    actors.history.flush().await;
    services.store_observed_time();
    for arbiter in arbiters {
        arbiter.stop();
    }
    tracing::info!("stopped");
}

impl Services {
    async fn open(config: &Config, new_root: &mut NewRoot) -> anyhow::Result<Self> {
        let layout = Layout::new(&config.root);
        let kinds = host::kinds(config).await?;
        let kind = kinds.used;
        let owner = data_owner(&config.runtime.user).map_err(|error| with_hint(&error))?;
        let id = root::open(&layout, kind, owner, new_root)?;
        let Opened {
            store,
            plan,
            observed,
            last_expiry,
            jobs,
            ..
        } = records::open(&layout)?;
        host::keep_kind(&layout, kinds.of_root)?;
        let clock = ObservedClock::new(Arc::new(SystemClock), observed);
        let host = host::build(config, &layout, id, kind, owner).await?;
        let cloner = TreeCloner::open(
            layout.clone(),
            convert::clone_method(config.clone_method),
            config.disk_reserve_bytes,
            owner,
        )?;
        // Now that the directories have their modes; one may be a link.
        root::check_access(&layout, kind, owner).map_err(|error| with_hint(&error))?;
        let cloner = Arc::new(cloner);
        let metrics = DaemonMetrics::new();
        metrics.count_panics();
        Ok(Self {
            catalog: Arc::new(DiskCatalog::new(layout.clone(), cloner.clone())),
            layout,
            root: id,
            store,
            epochs: Epochs::after(plan.epoch),
            plan,
            clock,
            memory: Arc::new(MachineMemory::new()),
            last_expiry,
            jobs: Some(jobs),
            cloner,
            host,
            kinds,
            metrics,
        })
    }

    /// Writes the observed time at the end, so that the next start goes on from it.
    fn store_observed_time(&self) {
        let now = self.clock.now().observed;
        if let Err(error) = self.store.put_time(StoredTime::Observed, now) {
            tracing::warn!(
                error = error_chain(&error),
                "the observed time was not written, so up to a minute does not count for expiry"
            );
        }
    }

    /// Removes the leftovers of imports and deletions that an earlier daemon did not finish.
    async fn clean_up(&self) -> anyhow::Result<()> {
        clean_up::remove_staging(self.host.clone(), self.catalog.clone()).await?;
        let cloner = self.cloner.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cloner.sweep_trash() {
                tracing::warn!(%error, "cannot empty the trash");
            }
        });
        Ok(())
    }

    /// The registry of jobs. Its jobs run on a thread of their own, since a restore rewrites its dump
    /// there.
    async fn jobs(
        &mut self,
        runtime: &Arbiter,
        snapshots: &[Arc<SnapshotRecord>],
    ) -> anyhow::Result<Registry> {
        let (sender, handle) = oneshot::channel();
        runtime.spawn(async move {
            let _receiver_waits = sender.send(Handle::current());
        });
        let handle = handle.await.context("the thread of jobs ended")?;
        let snapshots = snapshots.iter().map(|snapshot| snapshot.id.clone());
        let store = self.store.clone();
        let stored = self
            .jobs
            .take()
            .unwrap_or_else(|| Ok(StoredJobs::default()));
        let ended = self.metrics.jobs.clone();
        Ok(Registry::open(
            store,
            stored,
            handle,
            &snapshots.collect(),
            ended,
        ))
    }

    fn importer(&self, index: Addr<SnapshotIndex>) -> Arc<Importer> {
        let announce = move |snapshot| -> BoxFuture<'static, ()> {
            let added = index.send(AddSnapshot(snapshot));
            Box::pin(async move {
                if let Err(error) = added.await {
                    tracing::warn!(%error, "a new snapshot is not visible before the next start");
                }
            })
        };
        Arc::new(Importer::new(
            self.host.clone(),
            self.cloner.clone(),
            self.layout.clone(),
            Arc::new(announce),
        ))
    }

    async fn start_actors(
        &mut self,
        config: &Config,
        critical: &CriticalParts,
    ) -> anyhow::Result<Actors> {
        let metrics = &self.metrics.actors;
        let worker = CloneWorker::new(CloneWorkerDeps {
            cloner: self.cloner.clone(),
            catalog: self.catalog.clone(),
            records: Arc::new(self.store.clone()),
            executor: Arc::new(WorkerThreads::start(critical, metrics.clone())),
            metrics: metrics.clone(),
        });
        let worker = critical.start("the clone worker", worker);
        let source: Arc<dyn RevisionSource> = Arc::new(GitSource::new(
            &self.layout,
            convert::git_projects(config),
            config.fetch_timeout,
            &self.metrics.fetches,
        ));
        let index = SnapshotIndex::new(self.catalog.load()?, source, convert::ignored(config)?);
        let index = critical.start("the snapshot index", index);
        let runtime: Arc<dyn Runtime> =
            Arc::new(InstanceRuntime::new(self.host.clone(), self.layout.clone()));
        let found = runtime.running().await;
        let history = history::keep(&self.layout);
        let supervisor = Supervisor::new(SupervisorDeps {
            runtime,
            probe: Arc::new(PgProbe),
            worker: worker.clone(),
            index: index.clone(),
            projects: Arc::new(convert::project_settings(config)),
            limits: Arc::new(config.limits.clone()),
            clock: self.clock.clone(),
            last_expiry: self.last_expiry,
            epochs: self.epochs.clone(),
            memory: self.memory.clone(),
            metrics: metrics.clone(),
            history: history.clone(),
        });
        let supervisor = critical.start("the supervisor", supervisor);
        let mut plan = std::mem::take(&mut self.plan);
        let records = plan
            .instances
            .iter_mut()
            .map(|instance| &mut instance.record);
        for record in records.filter(|record| record.runtime.is_none()) {
            let runtime = host::kind_of(record, &found, &self.layout, self.kinds);
            record.runtime = Some(runtime);
            if runtime != self.kinds.of_root {
                record.sequence += 1;
                let put = self.store.put(record);
                records::unless_of_disk(put, "which runtime an instance has")?;
            }
        }
        let restore = Restore {
            instances: plan.instances,
            found,
            leftovers: plan.leftovers,
        };
        supervisor.send(restore).await?;
        Ok(Actors {
            supervisor,
            index,
            worker,
            sessions: SessionTable::default(),
            admission: AdmissionControl::new(&config.limits),
            metrics: self.metrics.actors.clone(),
            history,
        })
    }
}

/// Starts an arbiter that must not end.
fn start_arbiter(part: &'static str, critical: &CriticalParts) -> Arbiter {
    let arbiter = Arbiter::new();
    arbiter.spawn(critical.guard(part).hold());
    arbiter
}

fn deduplicator(config: &Config, services: &Services) -> Arc<Deduplicator> {
    let layout = services.layout.clone();
    Arc::new(Deduplicator::open(layout, config.dedup.bandwidth))
}

/// An error for an operator, with its hint.
fn with_hint(error: &multidb_actors::ports::RuntimeError) -> anyhow::Error {
    match &error.hint {
        Some(hint) => anyhow!("{}\nhint: {hint}", error.message),
        None => anyhow!("{}", error.message),
    }
}
