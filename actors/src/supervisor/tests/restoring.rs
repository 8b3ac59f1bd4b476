//! Instances that come into memory again: after a restart of the daemon, or after their actor panicked.

use tokio::sync::RwLockWriteGuard;

use super::*;
use crate::instance::Control;

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
fn start_keeps_the_data_of_a_postgres_that_does_not_stop() {
    paused(async {
        let world = Harness::new(limits());
        *world.runtime.stop_failures.lock().unwrap() = 1;
        let uid = InstanceUid::from_bits;
        restore(&world, Vec::new(), vec![uid(1)], vec![uid(1), uid(2)]).await;
        assert_eq!(world.runtime.running_now(), [uid(1)].into());
        assert_eq!(*world.cloner.deleted.lock().unwrap(), [uid(2)]);
    });
}

#[test]
fn start_stops_what_may_run_before_anything_else_is_done_to_its_data() {
    paused(async {
        let world = Harness::new(limits());
        let kept = record("kept", 1, Phase::Ready);
        world.store.put(&kept).unwrap();
        let uid = InstanceUid::from_bits;
        drop(world.runtime.run(uid(1)));
        drop(world.runtime.run(uid(2)));
        let gate = world.runtime.stop_gate.write().await;
        let restore = Restore {
            instances: vec![crate::testing::recovered(kept)],
            found: FoundServers {
                running: Vec::new(),
                undecided: vec![uid(1), uid(2)],
            },
            leftovers: vec![crate::testing::deleted_leftover(uid(2))],
        };
        let restored = tokio::spawn(world.supervisor.send(restore));
        until_state(&world, "kept", "stopping").await;
        assert!(world.cloner.deleted.lock().unwrap().is_empty());
        drop(gate);
        restored.await.unwrap().unwrap();
        until_state(&world, "kept", "stopped").await;
        assert!(world.runtime.running_now().is_empty());
        assert_eq!(*world.cloner.deleted.lock().unwrap(), [uid(2)]);
    });
}

/// Makes an instance's actor panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

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
        let lease = acquired.addr.send(Attach).await.unwrap().unwrap();
        assert!(acquired.addr.send(Panic).await.is_err());
        while world.acquire("a", None).await.unwrap().addr == acquired.addr {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let again = attach(&world, "a").await.unwrap();
        assert_eq!(again.server, lease.server);
        assert_eq!(world.runtime.started.lock().unwrap().len(), 1);
    });
}

pub(super) async fn panics(world: &Harness, name: &str) {
    let addr = world.acquire(name, None).await.unwrap().addr;
    assert!(addr.send(Panic).await.is_err());
}

async fn until_state(world: &Harness, name: &str, state: &str) {
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
fn rebuilt_instance_without_a_free_slot_stops_before_it_is_deleted() {
    paused(async {
        let world = Harness::new(Limits {
            max_running: 1,
            ..limits()
        });
        let records = vec![record("a", 1, Phase::Ready), record("b", 2, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let _held = attach(&world, "a").await.unwrap();
        let other = world.acquire("b", None).await.unwrap().addr.send(Attach);
        let other = tokio::spawn(other);
        tokio::task::yield_now().await;
        let gate = world.runtime.stop_gate.write().await;
        // The slot of an actor that ended goes to the instance that waits for one.
        panics(&world, "a").await;
        let _other = other.await.unwrap().unwrap().unwrap();
        until_state(&world, "a", "stopping").await;
        delete_and_check(&world, "a", gate).await;
    });
}

#[test]
fn rebuilt_instance_whose_runtime_fails_stops_before_it_is_deleted() {
    paused(async {
        let world = Harness::new(limits());
        let records = vec![record("a", 1, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let _held = attach(&world, "a").await.unwrap();
        *world.runtime.find_fails.lock().unwrap() = true;
        *world.runtime.stop_failures.lock().unwrap() = 2;
        panics(&world, "a").await;
        until_state(&world, "a", "stopping").await;
        let gate = world.runtime.stop_gate.write().await;
        delete_and_check(&world, "a", gate).await;
        assert_eq!(*world.runtime.stop_failures.lock().unwrap(), 0);
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
