//! One process of the daemon: the real actors over the ports of the simulated world, started as `src/daemon.rs`
//! starts them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use multidb_actors::clone_worker::{CloneWorker, CloneWorkerDeps, Executor, Lane};
use multidb_actors::connection::{
    Activities, AdmissionControl, ConnectionActor, ConnectionDeps, DetachedSocket, Method,
};
use multidb_actors::metrics::Metrics;
use multidb_actors::observed_clock::ObservedClock;
use multidb_actors::ports::Runtime;
use multidb_actors::sessions::{ConnectionId, EndConnection, EndReason, SessionTable};
use multidb_actors::snapshot_index::SnapshotIndex;
use multidb_actors::supervisor::{
    GetInstance, ProjectSettings, Restore, StopAll, StopInstances, Supervisor, SupervisorDeps,
};
use multidb_actors::testing::{FakeConsole, FakeMemory};
use multidb_store::{Epochs, ObservedTime, ProjectName};
use tokio::sync::{Semaphore, mpsc};

use crate::disk::snapshots;
use crate::ports::Ports;
use crate::recovery;
use crate::world::{Life, Reachable, World};

/// Runs each work after a time of its own, in the order of its lane.
struct Lanes {
    ports: Ports,
    /// Work on the records is done in order, and other work beside each other.
    records: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Executor for Lanes {
    fn run(&self, lane: Lane, work: Box<dyn FnOnce() + Send>) {
        self.ports.may_panic_anywhere();
        let ports = self.ports.clone();
        let permits = match lane {
            Lane::Records => self.records.clone(),
            Lane::Clones
            | Lane::RunningClones
            | Lane::Manifests
            | Lane::Deletions
            | Lane::Measurements => self.others.clone(),
        };
        actix_rt::spawn(async move {
            let permit = permits.acquire().await;
            let is_slow = ports.world.fails(ports.world.settings.faults.slow);
            let (least, most) = if is_slow { (500, 20_000) } else { (1, 40) };
            ports.takes(least, most).await;
            if ports.step("work begins").is_ok() {
                ports.may_panic_anywhere();
                work();
                // Its sender may never learn of it.
                let _dead = ports.step("work is done");
            }
            drop(permit);
        });
    }
}

/// The handles of a running daemon.
pub struct Daemon {
    pub supervisor: Addr<Supervisor>,
    sessions: SessionTable,
    grace: Duration,
}

impl Daemon {
    /// Starts the actors. `None` where the daemon gave up or died on the way.
    pub async fn start(world: &Arc<World>, life: &Arc<Life>) -> Option<Self> {
        let ports = Arc::new(Ports {
            world: world.clone(),
            life: life.clone(),
        });
        let recovered = recovery::recover(&ports).ok()?;
        let metrics = Metrics::new();
        let worker = start_worker(&ports, &metrics);
        let index = SnapshotIndex::new(snapshots(), ports.clone(), HashMap::new()).start();
        let watched = (worker.clone(), index.clone());
        let found = ports.running().await;
        if life.is_over() {
            return None;
        }
        let limits = Arc::new(world.settings.limits.clone());
        let supervisor = Supervisor::new(SupervisorDeps {
            runtime: ports.clone(),
            probe: ports.clone(),
            worker,
            index: index.clone(),
            projects: Arc::new(projects()),
            limits: limits.clone(),
            clock: ObservedClock::new(ports.clone(), recovered.observed),
            last_expiry: Some(recovered.last_expiry).filter(|time| *time > ObservedTime::default()),
            epochs: Epochs::after(recovered.plan.epoch),
            memory: Arc::new(FakeMemory::default()),
            metrics: metrics.clone(),
            history: Default::default(),
        })
        .start();
        actix_rt::spawn(end_with_an_actor(
            ports.clone(),
            supervisor.clone(),
            watched,
        ));
        let restore = Restore {
            instances: recovered.plan.instances,
            found,
            leftovers: recovered.plan.leftovers,
        };
        supervisor.send(restore).await.ok()?;
        if life.is_over() {
            return None;
        }
        check_restored(world, &supervisor).await;
        let sessions = serve(ports, &supervisor, index, metrics);
        Some(Self {
            supervisor,
            sessions,
            grace: limits.shutdown_grace,
        })
    }

    /// Ends the sessions and the instances, as `src/daemon/drain.rs` does.
    pub async fn drain(&self) {
        self.stop(StopInstances::Later).await;
        for session in self.sessions.all() {
            let drained = session.addr.send(EndConnection(EndReason::Drained)).await;
            if drained.is_err() {
                tracing::debug!("a session has just ended");
            }
        }
        let mut count = self.sessions.count();
        let ended = count.wait_for(|count| *count == 0);
        if let Err(elapsed) = tokio::time::timeout(self.grace, ended).await {
            tracing::debug!(%elapsed, "the grace period is over");
        }
        self.stop(StopInstances::Now).await;
    }

    async fn stop(&self, instances: StopInstances) {
        let stopped = self.supervisor.send(StopAll { instances }).await;
        if stopped.is_err() {
            tracing::error!("the supervisor has ended");
        }
    }
}

/// The daemon ends when an actor that it cannot be without has panicked.
async fn end_with_an_actor(
    ports: Arc<Ports>,
    supervisor: Addr<Supervisor>,
    (worker, index): (Addr<CloneWorker>, Addr<SnapshotIndex>),
) {
    let mut panics = ports.world.panics();
    // The sender is in the world.
    while panics.changed().await.is_ok() {
        // An actor that panicked is dropped at its next turn.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if !(supervisor.connected() && worker.connected() && index.connected()) {
            ports
                .world
                .trace(format_args!("the daemon ends with one of its actors"));
            return ports.life.end();
        }
    }
}

/// Accepts clients from now on. The sessions that they open are in the table.
fn serve(
    ports: Arc<Ports>,
    supervisor: &Addr<Supervisor>,
    index: Addr<SnapshotIndex>,
    metrics: Arc<Metrics>,
) -> SessionTable {
    let (world, life) = (ports.world.clone(), ports.life.clone());
    let limits = Arc::new(world.settings.limits.clone());
    let sessions = SessionTable::default();
    let (clients, incoming) = mpsc::unbounded_channel();
    let deps = ConnectionDeps {
        supervisor: supervisor.clone(),
        index,
        probe: ports.clone(),
        activities: Activities::new(ports.clone()),
        sessions: sessions.clone(),
        limits: limits.clone(),
        admission: AdmissionControl::new(&limits),
        console: Arc::new(FakeConsole::default()),
        method: Method::Trust,
        tls: None,
        default_user: "staff".to_owned(),
        clock: ports,
        metrics,
    };
    actix_rt::spawn(accept(incoming, deps));
    world.set_daemon(Some(Reachable {
        life,
        supervisor: supervisor.clone(),
        clients,
    }));
    sessions
}

fn start_worker(ports: &Arc<Ports>, metrics: &Arc<Metrics>) -> Addr<CloneWorker> {
    let executor = Arc::new(Lanes {
        ports: (**ports).clone(),
        records: Arc::new(Semaphore::new(1)),
        others: Arc::new(Semaphore::new(4)),
    });
    CloneWorker::new(CloneWorkerDeps {
        cloner: ports.clone(),
        catalog: ports.clone(),
        records: ports.clone(),
        executor,
        metrics: metrics.clone(),
    })
    .start()
}

fn projects() -> HashMap<ProjectName, ProjectSettings> {
    let settings = ProjectSettings {
        database: "app".to_owned(),
        role: "postgres".to_owned(),
        idle: Default::default(),
    };
    HashMap::from([("p".parse().expect("it is a name"), settings)])
}

async fn accept(mut incoming: mpsc::UnboundedReceiver<DetachedSocket>, deps: ConnectionDeps) {
    let mut number = 0;
    while let Some(socket) = incoming.recv().await {
        number += 1;
        let permit = deps.admission.admit("local").await;
        ConnectionActor::launch(
            ConnectionId(number),
            "local".into(),
            socket,
            permit,
            deps.clone(),
        );
    }
}

/// Promised clones are there.
async fn check_restored(world: &World, supervisor: &Addr<Supervisor>) {
    let held = world.oracle().held();
    for (name, _) in held {
        let expected = world.oracle().expectation(&name);
        if let Ok(status) = supervisor.send(GetInstance(name.clone())).await {
            world.restored(&name, expected, status.as_ref());
        }
    }
    let moving = world.oracle().moving();
    for (clone, names) in moving {
        let mut found = 0;
        for name in &names {
            let status = supervisor.send(GetInstance(name.clone())).await;
            let uid = status.ok().flatten().map(|status| status.record.uid);
            found += usize::from(uid == Some(clone));
        }
        let is_moving = |(other, _): &(_, _)| *other == clone;
        if world.oracle().moving().iter().any(is_moving) {
            world.restored_under_one(clone, &names, found);
        }
    }
}
