//! Instances that come into memory again: after a restart of the daemon, or after their actor panicked.

use multidb_store::RuntimeKind;
use tokio::sync::RwLockWriteGuard;

use super::*;
use crate::instance::Control;
use crate::ports::{RuntimeError, Unavailable};

#[test]
fn start_adopts_running_instances_and_removes_leftovers() {
    paused(async {
        let world = Harness::new(limits());
        let uid = InstanceUid::from_bits;
        let records = vec![
            record("cloning", 1, Phase::Cloning),
            record("runs", 2, Phase::Ready),
            record("rests", 3, Phase::Ready),
            record("deleting", 4, Phase::Deleting),
        ];
        let running = vec![uid(2), uid(5)];
        let directories = vec![uid(5), uid(6)];
        restore(&world, records, running, directories).await;
        let _held = attach(&world, "runs").await.unwrap();
        while status(&world, "cloning").await.is_some()
            || status(&world, "deleting").await.is_some()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(
            status(&world, "runs").await.unwrap().state.name(),
            "running"
        );
        assert_eq!(status(&world, "rests").await.unwrap().state, State::Stopped);
        let mut deleted = world.cloner.deleted.lock().unwrap().clone();
        deleted.sort();
        assert_eq!(deleted, [1, 4, 5, 6].map(uid));
        assert_eq!(world.runtime.running_now(), [uid(2)].into());
        let stored = world.store.instances().unwrap();
        let names: Vec<_> = stored.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["rests", "runs"]);
    });
}

#[test]
fn start_stops_instances_without_a_slot() {
    paused(async {
        let world = Harness::new(Limits {
            max_running: 1,
            ..limits()
        });
        let records = vec![record("a", 1, Phase::Ready), record("b", 2, Phase::Ready)];
        let running = [1, 2].map(InstanceUid::from_bits).to_vec();
        restore(&world, records, running, Vec::new()).await;
        while status(&world, "b").await.unwrap().state != State::Stopped {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.runtime.running_now().len(), 1);
    });
}

#[test]
fn start_keeps_the_data_of_a_postgres_that_does_not_stop_until_it_does() {
    paused(async {
        let world = Harness::new(limits());
        *world.runtime.stop_failures.lock().unwrap() = 1;
        let uid = InstanceUid::from_bits;
        restore(&world, Vec::new(), vec![uid(1)], vec![uid(1)]).await;
        assert_eq!(world.runtime.running_now(), [uid(1)].into());
        assert!(world.cloner.deleted.lock().unwrap().is_empty());
        while world.cloner.deleted.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(world.runtime.running_now().is_empty());
        assert!(
            world
                .cloner
                .deleted_while_running
                .lock()
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn start_looks_for_what_may_run_before_anything_is_done_to_its_data() {
    paused(async {
        let world = Harness::new(limits());
        let kept = record("kept", 1, Phase::Ready);
        let deleting = record("deleting", 3, Phase::Deleting);
        let uid = InstanceUid::from_bits;
        for number in 1..=3 {
            drop(world.runtime.run(uid(number)));
        }
        let gate = world.runtime.stop_gate.write().await;
        let restore = Restore {
            instances: vec![
                crate::testing::recovered(kept),
                crate::testing::recovered(deleting),
            ],
            found: FoundServers {
                undecided: vec![uid(1), uid(2), uid(3)],
                ..FoundServers::default()
            },
            leftovers: vec![crate::testing::deleted_leftover(uid(2))],
        };
        let restored = tokio::spawn(world.supervisor.send(restore));
        until_state(&world, "kept", "unavailable").await;
        until_state(&world, "deleting", "unavailable").await;
        assert!(world.cloner.deleted.lock().unwrap().is_empty());
        drop(gate);
        restored.await.unwrap().unwrap();
        // It goes on running, since no command asked for its end.
        let _lease = attach(&world, "kept").await.unwrap();
        until_gone(&world, "deleting").await;
        assert_eq!(world.runtime.running_now(), [uid(1)].into());
        let mut deleted = world.cloner.deleted.lock().unwrap().clone();
        deleted.sort();
        assert_eq!(deleted, [uid(2), uid(3)]);
    });
}

fn away() -> FoundServers {
    let unavailable = Unavailable::Away {
        runtime: RuntimeKind::Docker,
        cause: RuntimeError {
            for_clients: false,
            message: "no engine answers".to_owned(),
            hint: None,
        },
    };
    FoundServers {
        unavailable: [(RuntimeKind::Docker, unavailable)].into(),
        ..FoundServers::default()
    }
}

fn record_of(name: &str, number: u64, runtime: RuntimeKind) -> InstanceRecord {
    let mut record = record(name, number, Phase::Ready);
    record.runtime = Some(runtime);
    record
}

#[test]
fn instances_are_unavailable_while_their_runtime_is_away_and_then_come_back_by_themselves() {
    paused(async {
        let world = Harness::new(limits());
        *world.runtime.away.lock().unwrap() = true;
        let uid = InstanceUid::from_bits;
        drop(world.runtime.run(uid(1)));
        let restore = Restore {
            instances: vec![
                crate::testing::recovered(record_of("runs", 1, RuntimeKind::Docker)),
                crate::testing::recovered(record_of("rests", 2, RuntimeKind::Docker)),
            ],
            found: away(),
            leftovers: vec![crate::testing::deleted_leftover(uid(3))],
        };
        world.supervisor.send(restore).await.unwrap();
        for name in ["runs", "rests"] {
            assert_eq!(
                status(&world, name).await.unwrap().state.name(),
                "unavailable"
            );
        }
        let error = attach(&world, "rests").await.unwrap_err();
        assert!(matches!(error, InstanceError::Unavailable(_)), "{error}");
        let error = refused(world.acquire("new", latest()).await);
        assert!(matches!(error, AcquireError::Unavailable { .. }), "{error}");
        let error = control(&world, "rests", Command::Delete).await.unwrap_err();
        assert!(matches!(error, InstanceError::Unavailable(_)), "{error}");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(
            status(&world, "rests").await.unwrap().state.name(),
            "unavailable"
        );
        assert!(world.cloner.deleted.lock().unwrap().is_empty());
        *world.runtime.away.lock().unwrap() = false;
        until_state(&world, "runs", "running").await;
        // The deletion has failed, so it is not carried out later; that of a leftover is.
        until_state(&world, "rests", "stopped").await;
        while world.cloner.deleted.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*world.cloner.deleted.lock().unwrap(), [uid(3)]);
        control(&world, "rests", Command::Delete).await.unwrap();
        assert!(world.runtime.started.lock().unwrap().is_empty());
        attach(&world, "new").await.unwrap();
    });
}

#[test]
fn instance_of_another_runtime_is_never_started_nor_deleted_by_this_one() {
    paused(async {
        let world = Harness::new(limits());
        let unavailable = Unavailable::NotConfigured {
            runtime: RuntimeKind::Process,
            configured: RuntimeKind::Docker,
        };
        let restore = Restore {
            instances: vec![crate::testing::recovered(record_of(
                "other",
                1,
                RuntimeKind::Process,
            ))],
            found: FoundServers {
                unavailable: [(RuntimeKind::Process, unavailable.clone())].into(),
                ..FoundServers::default()
            },
            leftovers: Vec::new(),
        };
        world.supervisor.send(restore).await.unwrap();
        let expected = Err(InstanceError::Unavailable(unavailable));
        assert_eq!(attach(&world, "other").await.map(drop), expected);
        for command in [
            Command::Start,
            Command::Stop,
            Command::Reset,
            Command::Delete,
        ] {
            assert_eq!(control(&world, "other", command).await, expected);
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(
                status(&world, "other").await.unwrap().state.name(),
                "unavailable"
            );
        }
        assert!(world.runtime.started.lock().unwrap().is_empty());
        assert!(world.cloner.deleted.lock().unwrap().is_empty());
        assert!(world.cloner.made.lock().unwrap().is_empty());
    });
}

/// Makes an instance's actor panic.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Panic;

impl Handler<Panic> for InstanceActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("a defect, for the test");
    }
}

#[test]
fn panicked_actor_is_rebuilt_and_adopts_its_postgres() {
    paused(async {
        let world = Harness::new(limits());
        let acquired = world.acquire("a", latest()).await.unwrap();
        let lease = acquired
            .addr
            .send(Attach::default())
            .await
            .unwrap()
            .unwrap();
        assert!(acquired.addr.send(Panic).await.is_err());
        let again = attach(&world, "a").await.unwrap();
        assert_eq!(again.server, lease.server);
        // The session from before the panic is still counted, and its end, too.
        assert_eq!(status(&world, "a").await.unwrap().sessions, 2);
        drop(lease);
        while status(&world, "a").await.unwrap().sessions != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.runtime.started.lock().unwrap().len(), 1);
    });
}

pub(super) async fn panics(world: &Harness, name: &str) {
    let addr = world.acquire(name, None).await.unwrap().addr;
    assert!(addr.send(Panic).await.is_err());
}

async fn until_gone(world: &Harness, name: &str) {
    while status(world, name).await.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) async fn control(
    world: &Harness,
    name: &str,
    command: Command,
) -> Result<(), InstanceError> {
    let name = name.parse().unwrap();
    let sent = world.supervisor.send(ControlInstance { name, command });
    sent.await.unwrap().expect("the instance exists")
}

pub(super) async fn until_state(world: &Harness, name: &str, state: &str) {
    while status(world, name).await.unwrap().state.name() != state {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Deletes the instance while its Postgres cannot be stopped, and then opens the gate for the stop.
async fn delete_and_check(world: &Harness, name: &str, gate: RwLockWriteGuard<'_, ()>) {
    let uid = status(world, name).await.unwrap().record.uid;
    let command = ControlInstance {
        name: name.parse().unwrap(),
        command: Command::Delete,
    };
    let deleted = tokio::spawn(world.supervisor.send(command));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.runtime.running_now().contains(&uid));
    assert_eq!(*world.cloner.deleted.lock().unwrap(), []);
    drop(gate);
    // A stop that failed once more has answered the command, and the deletion follows all the same.
    let _answer = deleted.await.unwrap().unwrap();
    while status(world, name).await.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!world.runtime.running_now().contains(&uid));
    assert_eq!(*world.cloner.deleted.lock().unwrap(), [uid]);
    assert_eq!(*world.cloner.deleted_while_running.lock().unwrap(), []);
}

#[test]
fn rebuilt_instance_keeps_its_slot_and_its_sessions() {
    paused(async {
        let world = Harness::new(Limits {
            max_running: 1,
            ..limits()
        });
        let records = vec![record("a", 1, Phase::Ready), record("b", 2, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let held = attach(&world, "a").await.unwrap();
        let other = world
            .acquire("b", None)
            .await
            .unwrap()
            .addr
            .send(Attach::default());
        let other = tokio::spawn(other);
        tokio::task::yield_now().await;
        panics(&world, "a").await;
        let other = other.await.unwrap().unwrap();
        assert!(matches!(other, Err(InstanceError::NoSlot { .. })));
        let status = status(&world, "a").await.unwrap();
        assert_eq!((status.state.name(), status.sessions), ("running", 1));
        assert!(world.runtime.stopped.lock().unwrap().is_empty());
        drop(held);
        attach(&world, "b").await.unwrap();
    });
}

#[test]
fn rebuilt_instance_whose_runtime_is_away_stops_before_it_is_deleted() {
    paused(async {
        let world = Harness::new(limits());
        let records = vec![record("a", 1, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let _held = attach(&world, "a").await.unwrap();
        *world.runtime.away.lock().unwrap() = true;
        panics(&world, "a").await;
        until_state(&world, "a", "unavailable").await;
        assert_eq!(status(&world, "a").await.unwrap().sessions, 1);
        assert!(control(&world, "a", Command::Delete).await.is_err());
        let gate = world.runtime.stop_gate.write().await;
        *world.runtime.away.lock().unwrap() = false;
        delete_and_check(&world, "a", gate).await;
    });
}

#[test]
fn rebuilt_instance_has_the_clone_that_the_worker_made_meanwhile() {
    paused(async {
        let world = Harness::new(limits());
        let old = world.acquire("a", latest()).await.unwrap().record.uid;
        drop(attach(&world, "a").await.unwrap());
        let gate = world.cloner.create_gate.write().await;
        let reset = tokio::spawn(world.supervisor.send(ControlInstance {
            name: "a".parse().unwrap(),
            command: Command::Reset,
        }));
        while world.cloner.made.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panics(&world, "a").await;
        drop(gate);
        assert!(!matches!(reset.await.unwrap(), Ok(Some(Ok(())))));
        let lease = attach(&world, "a").await.unwrap();
        assert_ne!(lease.uid, old);
        assert_eq!(*world.cloner.deleted.lock().unwrap(), [old]);
        assert_eq!(world.store.instances().unwrap()[0].uid, lease.uid);
    });
}

#[test]
fn rebuilt_instance_that_was_being_deleted_is_deleted() {
    paused(async {
        let world = Harness::new(limits());
        let records = vec![record("a", 1, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let addr = world.acquire("a", None).await.unwrap().addr;
        let gate = world.cloner.delete_gate.write().await;
        let deleted = tokio::spawn(addr.send(Control(Command::Delete)));
        until_state(&world, "a", "deleting").await;
        panics(&world, "a").await;
        drop(gate);
        assert!(!matches!(deleted.await.unwrap(), Ok(Ok(()))));
        while status(&world, "a").await.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.store.instances().unwrap(), []);
    });
}
