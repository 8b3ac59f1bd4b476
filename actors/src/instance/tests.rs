//! Instances against fakes of the ports, in paused time.

use std::sync::PoisonError;
use std::time::Duration;

use multidb_store::{InstanceName, Phase, Pin};
use tokio::sync::mpsc;

use super::lifecycle::Command;
use super::persistence::USE_INTERVAL;
use super::*;
use crate::awake::AwakeReason;
use crate::instance_table::{ActorEnded, InstanceTable};
use crate::ports::StartError;
use crate::supervisor::retention::ExpiryPeriods;
use crate::testing::{Harness, Starts, limits, paused, record};

mod adopting;
mod failing;

struct Fixture {
    actors: Harness,
    slots: Slots,
    addr: Addr<InstanceActor>,
    status: PublishedStatus,
}

fn fixture_of(origin: Origin, limits: Limits) -> Fixture {
    let actors = Harness::new(limits.clone());
    let slots = Slots::new(limits.max_running);
    let deps = InstanceDeps {
        runtime: actors.runtime.clone(),
        probe: actors.probe.clone(),
        worker: actors.worker.clone(),
        slots: slots.clone(),
        free_slot: actors.supervisor.clone().recipient(),
        limits: Arc::new(limits),
        clock: actors.root_clock.clone(),
        epochs: Epochs::after(1),
        leftovers: Leftovers::new(actors.runtime.clone(), actors.worker.clone()),
        metrics: actors.metrics.clone(),
        history: History::default(),
    };
    let phase = match origin {
        Origin::Create | Origin::CloneOf(_) => Phase::Cloning,
        Origin::Unusable(_)
        | Origin::Stopped
        | Origin::Adopt(..)
        | Origin::Stop(_)
        | Origin::Unavailable(..) => Phase::Ready,
    };
    let (addr, status) = launch(record("i", 1, phase), origin, deps);
    Fixture {
        actors,
        slots,
        addr,
        status,
    }
}

/// The status that one actor has published.
struct PublishedStatus {
    table: InstanceTable,
    name: InstanceName,
    ended: mpsc::UnboundedReceiver<ActorEnded>,
}

impl PublishedStatus {
    fn borrow(&self) -> InstanceStatus {
        self.table
            .get(&self.name)
            .expect("a launched actor has published")
    }

    async fn until(&self, wanted: impl Fn(&InstanceStatus) -> bool) -> InstanceStatus {
        let reached = async {
            let mut interval = Duration::from_millis(1);
            while !wanted(&self.borrow()) {
                tokio::time::sleep(interval).await;
                interval = (2 * interval).min(Duration::from_millis(100));
            }
        };
        let limit = Duration::from_secs(3600);
        tokio::time::timeout(limit, reached)
            .await
            .expect("it happens within an hour of paused time");
        self.borrow()
    }

    async fn ended(&mut self) {
        let ended = self.ended.recv().await;
        assert_eq!(ended, Some(ActorEnded(self.name.clone())));
    }
}

fn launch(
    record: InstanceRecord,
    origin: Origin,
    deps: InstanceDeps,
) -> (Addr<InstanceActor>, PublishedStatus) {
    let table = InstanceTable::new(ExpiryPeriods::from(&*deps.limits));
    let name = record.name.clone();
    let (sender, ended) = mpsc::unbounded_channel();
    let publisher = table.publisher(name.clone(), sender);
    let addr = InstanceActor::launch(record, origin, deps, publisher, SharedState::default());
    (addr, PublishedStatus { table, name, ended })
}

fn new_instance() -> Fixture {
    fixture_of(Origin::Create, limits())
}

impl Fixture {
    async fn attach(&self) -> Result<Lease, InstanceError> {
        self.addr.send(Attach::default()).await.unwrap()
    }

    async fn control(&self, command: Command) -> Result<(), InstanceError> {
        self.addr.send(Control(command)).await.unwrap()
    }

    async fn until(&mut self, state: &str) -> InstanceStatus {
        self.status
            .until(|status| status.state.name() == state)
            .await
    }

    fn set(&self, starts: Starts) {
        *self.actors.runtime.starts.lock().unwrap() = starts;
    }

    fn made(&self) -> usize {
        self.actors.cloner.made.lock().unwrap().len()
    }

    fn started(&self) -> usize {
        self.actors.runtime.started.lock().unwrap().len()
    }
}

#[test]
fn twenty_clients_of_a_new_instance_need_one_clone_and_one_start() {
    paused(async {
        let fixture = new_instance();
        let clients = (0..20).map(|_| fixture.attach());
        let leases = futures_util::future::join_all(clients).await;
        assert!(leases.iter().all(Result::is_ok));
        assert_eq!((fixture.made(), fixture.started()), (1, 1));
        assert_eq!(fixture.status.borrow().sessions, 20);
        let stored = fixture.actors.store.instances().unwrap();
        assert_eq!(stored[0].phase, Phase::Ready);
    });
}

#[test]
fn idle_instance_stops_after_its_last_session() {
    paused(async {
        let mut fixture = new_instance();
        let first = fixture.attach().await.unwrap();
        let second = fixture.attach().await.unwrap();
        drop(first);
        tokio::time::sleep(Duration::from_secs(3000)).await;
        assert_eq!(fixture.status.borrow().state.name(), "running");
        drop(second);
        tokio::time::sleep(Duration::from_secs(290)).await;
        assert_eq!(fixture.status.borrow().state.name(), "running");
        fixture.until("stopped").await;
        assert!(fixture.actors.runtime.running_now().is_empty());
        fixture.attach().await.unwrap();
        assert_eq!((fixture.made(), fixture.started()), (1, 2));
    });
}

#[test]
fn busy_instance_without_sessions_stops_later() {
    paused(async {
        let mut limits = limits();
        limits.instance_idle_timeout = Duration::from_secs(60);
        let fixture = fixture_of(Origin::Create, limits);
        let reasons =
            |reasons: Vec<AwakeReason>| *fixture.actors.probe.reasons.lock().unwrap() = reasons;
        let autovacuum = AwakeReason::Autovacuum("autovacuum: VACUUM t".to_owned());
        let prepared = AwakeReason::PreparedTransaction("p".to_owned());
        let mut took = Vec::new();
        for list in [vec![], vec![autovacuum], vec![prepared.clone()]] {
            reasons(list);
            drop(fixture.addr.send(Attach::default()).await.unwrap().unwrap());
            let begin = Instant::now();
            let stopped = |status: &InstanceStatus| status.state == State::Stopped;
            fixture.status.until(stopped).await;
            took.push(begin.elapsed().as_secs());
        }
        assert_eq!(took, [60, 120, 13 * 60]);
        // It stops a period after the work has ended.
        reasons(vec![prepared]);
        drop(fixture.addr.send(Attach::default()).await.unwrap().unwrap());
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert_eq!(fixture.status.borrow().state.name(), "running");
        reasons(vec![]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(fixture.status.borrow().state.name(), "stopped");
    });
}

#[test]
fn unresponsive_postgres_is_stopped() {
    paused(async {
        let mut fixture = new_instance();
        *fixture.actors.probe.unreachable.lock().unwrap() = true;
        drop(fixture.attach().await.unwrap());
        fixture.until("stopped").await;
        *fixture.actors.probe.unreachable.lock().unwrap() = false;
        let gate = fixture.actors.probe.clone();
        let _closed = gate.answer_gate.write().await;
        drop(fixture.attach().await.unwrap());
        fixture.until("stopped").await;
    });
}

#[test]
fn client_is_served_while_postgres_is_asked_for_its_work() {
    paused(async {
        let fixture = new_instance();
        let probe = fixture.actors.probe.clone();
        drop(fixture.attach().await.unwrap());
        let closed = probe.answer_gate.write().await;
        tokio::time::sleep(Duration::from_secs(305)).await;
        let lease = fixture.attach().await.unwrap();
        drop(closed);
        tokio::time::sleep(Duration::from_secs(3000)).await;
        assert_eq!(fixture.status.borrow().state.name(), "running");
        assert_eq!(fixture.started(), 1);
        drop(lease);
    });
}

#[test]
fn waiting_client_that_leaves_does_not_count() {
    paused(async {
        let mut fixture = new_instance();
        {
            let waiting = fixture.addr.send(Attach::default());
            tokio::pin!(waiting);
            let polled = futures_util::poll!(waiting.as_mut());
            assert!(polled.is_pending());
        }
        let lease = fixture.attach().await.unwrap();
        drop(lease);
        fixture.until("stopped").await;
        assert_eq!(fixture.status.borrow().sessions, 0);
    });
}

#[test]
fn client_during_a_stop_gets_the_next_postgres() {
    paused(async {
        let mut fixture = new_instance();
        drop(fixture.attach().await.unwrap());
        let runtime = fixture.actors.runtime.clone();
        let gate = runtime.stop_gate.write().await;
        fixture.until("stopping").await;
        let attached = fixture.addr.send(Attach::default());
        drop(gate);
        attached.await.unwrap().unwrap();
        assert_eq!(fixture.started(), 2);
    });
}

#[test]
fn stop_is_answered_though_a_client_that_waited_starts_the_next_postgres() {
    paused(async {
        let mut fixture = new_instance();
        let lease = fixture.attach().await.unwrap();
        let runtime = fixture.actors.runtime.clone();
        let gate = runtime.stop_gate.write().await;
        let stopped = fixture.addr.send(Control(Command::Stop));
        fixture.until("stopping").await;
        let attached = fixture.addr.send(Attach::default());
        drop(gate);
        attached.await.unwrap().unwrap();
        stopped.await.unwrap().unwrap();
        assert_eq!(fixture.started(), 2);
        drop(lease);
    });
}

#[test]
fn failed_clone_refuses_all_clients_and_leaves_no_record() {
    paused(async {
        let mut fixture = new_instance();
        *fixture.actors.cloner.failure.lock().unwrap() = Some(CloneError::NoSpace {
            free_bytes: 1,
            reserve_bytes: 2,
            missing_bytes: 1,
            taken: None,
        });
        let (a, b) = tokio::join!(fixture.attach(), fixture.attach());
        for attached in [a, b] {
            let error = attached.unwrap_err();
            assert!(
                matches!(error, InstanceError::Clone(CloneError::NoSpace { .. })),
                "{error}"
            );
        }
        fixture.status.ended().await;
        assert_eq!(fixture.status.borrow().state, State::Gone);
        assert_eq!(fixture.actors.store.instances().unwrap(), []);
    });
}

#[test]
fn failed_start_is_reported_with_its_log_and_the_next_client_retries() {
    paused(async {
        let mut fixture = new_instance();
        fixture.set(Starts::Fail);
        let error = fixture.attach().await.unwrap_err();
        let InstanceError::Start(StartError::Exited { log, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(log, ["FATAL:  no"]);
        fixture.until("failed").await;
        fixture.set(Starts::Succeed);
        fixture.attach().await.unwrap();
        assert!(fixture.status.borrow().failure.is_none());
    });
}

#[test]
fn hanging_start_times_out() {
    paused(async {
        // Without a clone, since paused time advances while a worker thread is busy.
        let fixture = fixture_of(Origin::Stopped, limits());
        fixture.set(Starts::Hang);
        let began = Instant::now();
        let error = fixture.attach().await.unwrap_err();
        assert!(
            matches!(error, InstanceError::StartTimeout { .. }),
            "{error}"
        );
        assert_eq!(began.elapsed().as_secs(), 30);
    });
}

#[test]
fn stop_command_cancels_a_hanging_start_and_refuses_waiting_clients() {
    paused(async {
        let fixture = new_instance();
        fixture.set(Starts::Hang);
        let (attached, stopped) = tokio::join!(fixture.attach(), async {
            while fixture.started() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            fixture.control(Command::Stop).await
        });
        stopped.unwrap();
        assert!(matches!(attached, Err(InstanceError::Stopped)));
    });
}

#[test]
fn crashed_postgres_is_cleaned_up() {
    paused(async {
        let mut fixture = new_instance();
        let lease = fixture.attach().await.unwrap();
        fixture.actors.runtime.crash(lease.uid);
        fixture.until("stopped").await;
        assert_eq!(*fixture.actors.runtime.stopped.lock().unwrap(), [lease.uid]);
        drop(lease);
        fixture.attach().await.unwrap();
        assert_eq!(fixture.status.borrow().sessions, 1);
    });
}

#[test]
fn reset_keeps_the_name_and_replaces_the_clone() {
    paused(async {
        let fixture = new_instance();
        let old = fixture.attach().await.unwrap().uid;
        fixture.control(Command::Reset).await.unwrap();
        let status = fixture.status.borrow().clone();
        assert_eq!((status.record.name.as_str(), status.record.epoch), ("i", 2));
        assert_ne!(status.record.uid, old);
        assert_eq!(
            fixture.actors.store.instances().unwrap()[0].uid,
            status.record.uid
        );
        while fixture.actors.cloner.deleted.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*fixture.actors.cloner.deleted.lock().unwrap(), [old]);
        assert_eq!(fixture.attach().await.unwrap().uid, status.record.uid);
    });
}

#[test]
fn reset_waits_for_the_write_in_progress() {
    paused(async {
        let fixture = fixture_of(Origin::Stopped, limits());
        let cloner = fixture.actors.cloner.clone();
        let gate = cloner.manifest_gate.write().await;
        let pinned = fixture.addr.send(SetPin(Pin::Forever));
        let pinned = tokio::spawn(pinned);
        while cloner.manifests.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reset = tokio::spawn(fixture.addr.send(Control(Command::Reset)));
        tokio::task::yield_now().await;
        // The worker threads run in real time; 50 ms suffice for a clone that did not wait.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(fixture.made(), 0);
        drop(gate);
        pinned.await.unwrap().unwrap().unwrap();
        reset.await.unwrap().unwrap().unwrap();
        let record = &fixture.actors.store.instances().unwrap()[0];
        assert_eq!((record.epoch, record.pin), (2, Pin::Forever));
    });
}

#[test]
fn sessions_in_quick_succession_share_one_write() {
    paused(async {
        let fixture = new_instance();
        let a_minute_passes = || fixture.actors.clock.pass(Duration::from_secs(60));
        a_minute_passes();
        let lease = fixture.attach().await.unwrap();
        let first = Instant::now();
        let written = || fixture.actors.store.instances().unwrap()[0].last_used_at;
        while written() != fixture.status.borrow().record.last_used_at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        a_minute_passes();
        drop(lease);
        while fixture.status.borrow().sessions > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while written() != fixture.status.borrow().record.last_used_at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(first.elapsed() >= USE_INTERVAL);
    });
}

#[test]
fn failed_reset_keeps_the_old_clone() {
    paused(async {
        let fixture = new_instance();
        let old = fixture.attach().await.unwrap().uid;
        *fixture.actors.cloner.failure.lock().unwrap() = Some(CloneError::Failed {
            message: "no".to_owned(),
        });
        let error = fixture.control(Command::Reset).await.unwrap_err();
        assert!(matches!(error, InstanceError::Clone(_)), "{error}");
        assert_eq!(fixture.attach().await.unwrap().uid, old);
        let deleted = fixture.actors.cloner.deleted.lock();
        // The clone that failed is, before the old one is used again.
        let deleted = deleted.unwrap_or_else(PoisonError::into_inner).clone();
        assert!(
            !deleted.is_empty() && !deleted.contains(&old),
            "{deleted:?}"
        );
    });
}

#[test]
fn deletion_removes_postgres_data_and_record() {
    paused(async {
        let fixture = new_instance();
        let lease = fixture.attach().await.unwrap();
        fixture.control(Command::Delete).await.unwrap();
        assert!(fixture.actors.runtime.running_now().is_empty());
        assert_eq!(*fixture.actors.cloner.deleted.lock().unwrap(), [lease.uid]);
        assert_eq!(fixture.actors.store.instances().unwrap(), []);
        assert!(fixture.addr.send(Attach::default()).await.is_err());
    });
}

#[test]
fn pin_is_durable_before_it_is_acknowledged() {
    paused(async {
        let fixture = fixture_of(Origin::Stopped, limits());
        fixture
            .addr
            .send(SetPin(Pin::Forever))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            fixture.actors.store.instances().unwrap()[0].pin,
            Pin::Forever
        );
        let manifests = fixture.actors.cloner.manifests.lock().unwrap();
        assert_eq!(manifests.last().unwrap().pin, Pin::Forever);
    });
}
