//! Instances against fakes of the ports, in paused time.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::SignedDuration;
use multidb_store::{InstanceName, Phase, Pin};

use super::lifecycle::Command;
use super::persistence::USE_INTERVAL;
use super::*;
use crate::awake::AwakeReason;
use crate::instance_table::{ActorEnded, InstanceTable};
use crate::ports::StartError;
use crate::testing::{Harness, Starts, limits, paused, record};

mod failing;

struct Universe {
    world: Harness,
    slots: Slots,
    addr: Addr<InstanceActor>,
    status: PublishedStatus,
}

fn universe(origin: Origin, limits: Limits) -> Universe {
    let world = Harness::new(limits.clone());
    let slots = Slots::new(limits.max_running);
    let deps = InstanceDeps {
        runtime: world.runtime.clone(),
        probe: world.probe.clone(),
        worker: world.worker.clone(),
        slots: slots.clone(),
        free_slot: world.supervisor.clone().recipient(),
        limits: Arc::new(limits),
        clock: world.clock.clone(),
    };
    let phase = match origin {
        Origin::Create => Phase::Cloning,
        Origin::Stopped | Origin::Adopt(..) | Origin::Stop(_) | Origin::Delete => Phase::Ready,
    };
    let (addr, status) = launch(record("i", 1, phase), origin, deps);
    Universe {
        world,
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
            while !wanted(&self.borrow()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
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
    let table = InstanceTable::new(deps.limits.retention);
    let name = record.name.clone();
    let (sender, ended) = mpsc::unbounded_channel();
    let publisher = table.publisher(name.clone(), sender);
    let addr = InstanceActor::launch(record, origin, deps, publisher);
    (addr, PublishedStatus { table, name, ended })
}

fn new() -> Universe {
    universe(Origin::Create, limits())
}

impl Universe {
    async fn attach(&self) -> Result<Lease, InstanceError> {
        self.addr.send(Attach).await.unwrap()
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
        *self.world.runtime.starts.lock().unwrap() = starts;
    }

    fn made(&self) -> usize {
        self.world.cloner.made.lock().unwrap().len()
    }

    fn started(&self) -> usize {
        self.world.runtime.started.lock().unwrap().len()
    }
}

#[test]
fn twenty_clients_of_a_new_instance_cost_one_clone_and_one_start() {
    paused(async {
        let universe = new();
        let clients = (0..20).map(|_| universe.attach());
        let leases = futures_util::future::join_all(clients).await;
        assert!(leases.iter().all(Result::is_ok));
        assert_eq!((universe.made(), universe.started()), (1, 1));
        assert_eq!(universe.status.borrow().sessions, 20);
        let stored = universe.world.store.instances().unwrap();
        assert_eq!(stored[0].phase, Phase::Ready);
    });
}

#[test]
fn an_instance_stops_when_its_last_client_has_left_for_long_enough() {
    paused(async {
        let mut universe = new();
        let first = universe.attach().await.unwrap();
        let second = universe.attach().await.unwrap();
        drop(first);
        tokio::time::sleep(Duration::from_secs(3000)).await;
        assert_eq!(universe.status.borrow().state.name(), "running");
        drop(second);
        tokio::time::sleep(Duration::from_secs(290)).await;
        assert_eq!(universe.status.borrow().state.name(), "running");
        universe.until("stopped").await;
        assert!(universe.world.runtime.running_now().is_empty());
        universe.attach().await.unwrap();
        assert_eq!((universe.made(), universe.started()), (1, 2));
    });
}

#[test]
fn an_instance_that_works_for_itself_stops_later_and_not_never() {
    paused(async {
        let mut limits = limits();
        limits.instance_idle_timeout = Duration::from_secs(60);
        let universe = universe(Origin::Create, limits);
        let reasons =
            |reasons: Vec<AwakeReason>| *universe.world.probe.reasons.lock().unwrap() = reasons;
        let autovacuum = AwakeReason::Autovacuum("autovacuum: VACUUM t".to_owned());
        let prepared = AwakeReason::PreparedTransaction("p".to_owned());
        let mut took = Vec::new();
        for list in [vec![], vec![autovacuum], vec![prepared.clone()]] {
            reasons(list);
            drop(universe.addr.send(Attach).await.unwrap().unwrap());
            let begin = Instant::now();
            let stopped = |status: &InstanceStatus| status.state == State::Stopped;
            universe.status.until(stopped).await;
            took.push(begin.elapsed().as_secs());
        }
        assert_eq!(took, [60, 120, 13 * 60]);
        // It stops a period after the work has ended.
        reasons(vec![prepared]);
        drop(universe.addr.send(Attach).await.unwrap().unwrap());
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert_eq!(universe.status.borrow().state.name(), "running");
        reasons(vec![]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(universe.status.borrow().state.name(), "stopped");
    });
}

#[test]
fn a_postgres_that_does_not_answer_is_stopped() {
    paused(async {
        let mut universe = new();
        *universe.world.probe.unreachable.lock().unwrap() = true;
        drop(universe.attach().await.unwrap());
        universe.until("stopped").await;
        *universe.world.probe.unreachable.lock().unwrap() = false;
        let gate = universe.world.probe.clone();
        let _closed = gate.answer_gate.write().await;
        drop(universe.attach().await.unwrap());
        universe.until("stopped").await;
    });
}

#[test]
fn a_client_that_comes_while_postgres_is_asked_is_served() {
    paused(async {
        let universe = new();
        let probe = universe.world.probe.clone();
        drop(universe.attach().await.unwrap());
        let closed = probe.answer_gate.write().await;
        tokio::time::sleep(Duration::from_secs(305)).await;
        let lease = universe.attach().await.unwrap();
        drop(closed);
        tokio::time::sleep(Duration::from_secs(3000)).await;
        assert_eq!(universe.status.borrow().state.name(), "running");
        assert_eq!(universe.started(), 1);
        drop(lease);
    });
}

#[test]
fn a_client_that_leaves_while_it_waits_costs_nothing() {
    paused(async {
        let mut universe = new();
        {
            let waiting = universe.addr.send(Attach);
            tokio::pin!(waiting);
            let polled = futures_util::poll!(waiting.as_mut());
            assert!(polled.is_pending());
        }
        let lease = universe.attach().await.unwrap();
        drop(lease);
        universe.until("stopped").await;
        assert_eq!(universe.status.borrow().sessions, 0);
    });
}

#[test]
fn a_client_that_comes_while_postgres_stops_gets_the_next_one() {
    paused(async {
        let mut universe = new();
        drop(universe.attach().await.unwrap());
        let runtime = universe.world.runtime.clone();
        let gate = runtime.stop_gate.write().await;
        universe.until("stopping").await;
        let attached = universe.addr.send(Attach);
        drop(gate);
        attached.await.unwrap().unwrap();
        assert_eq!(universe.started(), 2);
    });
}

#[test]
fn a_failed_clone_tells_all_and_leaves_no_record() {
    paused(async {
        let mut universe = new();
        *universe.world.cloner.failure.lock().unwrap() = Some(CloneError::NoSpace {
            free_bytes: 1,
            reserve_bytes: 2,
        });
        let (a, b) = tokio::join!(universe.attach(), universe.attach());
        for attached in [a, b] {
            let error = attached.unwrap_err();
            assert!(
                matches!(error, InstanceError::Clone(CloneError::NoSpace { .. })),
                "{error}"
            );
        }
        universe.status.ended().await;
        assert_eq!(universe.status.borrow().state, State::Gone);
        assert_eq!(universe.world.store.instances().unwrap(), []);
    });
}

#[test]
fn a_failed_start_is_told_with_its_log_and_the_next_client_tries_again() {
    paused(async {
        let mut universe = new();
        universe.set(Starts::Fail);
        let error = universe.attach().await.unwrap_err();
        let InstanceError::Start(StartError::Exited { log, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(log, ["FATAL:  no"]);
        universe.until("failed").await;
        universe.set(Starts::Succeed);
        universe.attach().await.unwrap();
        assert!(universe.status.borrow().failure.is_none());
    });
}

#[test]
fn a_start_that_hangs_is_given_up() {
    paused(async {
        // Without a clone: a thread that works does not hold paused time back.
        let universe = universe(Origin::Stopped, limits());
        universe.set(Starts::Hang);
        let began = Instant::now();
        let error = universe.attach().await.unwrap_err();
        assert!(
            matches!(error, InstanceError::StartTimeout { .. }),
            "{error}"
        );
        assert_eq!(began.elapsed().as_secs(), 30);
    });
}

#[test]
fn a_stop_by_command_ends_a_hanging_start_and_tells_who_waits() {
    paused(async {
        let universe = new();
        universe.set(Starts::Hang);
        let (attached, stopped) = tokio::join!(universe.attach(), async {
            while universe.started() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            universe.control(Command::Stop).await
        });
        stopped.unwrap();
        assert!(matches!(attached, Err(InstanceError::Stopped)));
    });
}

#[test]
fn a_crash_is_noticed_and_cleaned_up_after() {
    paused(async {
        let mut universe = new();
        let lease = universe.attach().await.unwrap();
        universe.world.runtime.crash(lease.uid);
        universe.until("stopped").await;
        assert_eq!(*universe.world.runtime.stopped.lock().unwrap(), [lease.uid]);
        drop(lease);
        universe.attach().await.unwrap();
        assert_eq!(universe.status.borrow().sessions, 1);
    });
}

#[test]
fn a_reset_keeps_the_name_and_changes_the_clone() {
    paused(async {
        let universe = new();
        let old = universe.attach().await.unwrap().uid;
        universe.control(Command::Reset).await.unwrap();
        let status = universe.status.borrow().clone();
        assert_eq!(
            (status.record.name.as_str(), status.record.generation),
            ("i", 2)
        );
        assert_ne!(status.record.uid, old);
        assert_eq!(
            universe.world.store.instances().unwrap()[0].uid,
            status.record.uid
        );
        while universe.world.cloner.deleted.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*universe.world.cloner.deleted.lock().unwrap(), [old]);
        assert_eq!(universe.attach().await.unwrap().uid, status.record.uid);
    });
}

#[test]
fn a_reset_waits_for_the_write_before_it() {
    paused(async {
        let universe = universe(Origin::Stopped, limits());
        let cloner = universe.world.cloner.clone();
        let gate = cloner.manifest_gate.write().await;
        let pinned = universe.addr.send(SetPin(Pin::Forever));
        let pinned = tokio::spawn(pinned);
        while cloner.manifests.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reset = tokio::spawn(universe.addr.send(Control(Command::Reset)));
        tokio::task::yield_now().await;
        // The workers live in real time: this is long enough for one that did not wait.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(universe.made(), 0);
        drop(gate);
        pinned.await.unwrap().unwrap().unwrap();
        reset.await.unwrap().unwrap().unwrap();
        let record = &universe.world.store.instances().unwrap()[0];
        assert_eq!((record.generation, record.pin), (2, Pin::Forever));
    });
}

#[test]
fn sessions_in_quick_succession_are_written_down_together() {
    paused(async {
        let universe = new();
        let a_minute_passes = || universe.world.clock.advance(SignedDuration::from_mins(1));
        a_minute_passes();
        let lease = universe.attach().await.unwrap();
        let first = Instant::now();
        let written = || universe.world.store.instances().unwrap()[0].last_used_at;
        while written() != universe.status.borrow().record.last_used_at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        a_minute_passes();
        drop(lease);
        while universe.status.borrow().sessions > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while written() != universe.status.borrow().record.last_used_at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(first.elapsed() >= USE_INTERVAL);
    });
}

#[test]
fn a_reset_that_fails_keeps_the_old_clone() {
    paused(async {
        let universe = new();
        let old = universe.attach().await.unwrap().uid;
        *universe.world.cloner.failure.lock().unwrap() = Some(CloneError::Failed {
            message: "no".to_owned(),
        });
        let error = universe.control(Command::Reset).await.unwrap_err();
        assert!(matches!(error, InstanceError::Clone(_)), "{error}");
        assert_eq!(universe.attach().await.unwrap().uid, old);
        let deleted = universe.world.cloner.deleted.lock();
        assert!(deleted.unwrap_or_else(PoisonError::into_inner).is_empty());
    });
}

#[test]
fn a_deletion_ends_everything() {
    paused(async {
        let universe = new();
        let lease = universe.attach().await.unwrap();
        universe.control(Command::Delete).await.unwrap();
        assert!(universe.world.runtime.running_now().is_empty());
        assert_eq!(*universe.world.cloner.deleted.lock().unwrap(), [lease.uid]);
        assert_eq!(universe.world.store.instances().unwrap(), []);
        assert!(universe.addr.send(Attach).await.is_err());
    });
}

#[test]
fn a_pin_is_durable_before_it_is_answered() {
    paused(async {
        let universe = universe(Origin::Stopped, limits());
        universe
            .addr
            .send(SetPin(Pin::Forever))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            universe.world.store.instances().unwrap()[0].pin,
            Pin::Forever
        );
        let manifests = universe.world.cloner.manifests.lock().unwrap();
        assert_eq!(manifests.last().unwrap().pin, Pin::Forever);
    });
}

#[test]
fn an_instance_that_was_taken_over_stops_when_nobody_comes() {
    paused(async {
        let world = Harness::new(limits());
        let postgres = world.runtime.run(record("i", 1, Phase::Ready).uid);
        let slots = Slots::new(1);
        let slot = slots.try_acquire().unwrap();
        let deps = InstanceDeps {
            runtime: world.runtime.clone(),
            probe: world.probe.clone(),
            worker: world.worker.clone(),
            slots: slots.clone(),
            free_slot: world.supervisor.clone().recipient(),
            limits: Arc::new(limits()),
            clock: world.clock.clone(),
        };
        let origin = Origin::Adopt(postgres, slot);
        let (addr, status) = launch(record("i", 1, Phase::Ready), origin, deps);
        drop(addr.send(Attach).await.unwrap().unwrap());
        assert!(slots.try_acquire().is_none());
        status.until(|status| status.state == State::Stopped).await;
        assert!(slots.try_acquire().is_some());
    });
}
