//! Stops and deletions that fail, and use that lasts.

use super::*;

#[test]
fn a_stop_that_fails_is_told_and_tried_again_until_it_is_done() {
    paused(async {
        let mut universe = new();
        let lease = universe.attach().await.unwrap();
        *universe.world.runtime.stop_failures.lock().unwrap() = 3;
        let error = universe.control(Command::Delete).await.unwrap_err();
        assert!(matches!(error, InstanceError::Stop(_)), "{error}");
        // Nothing is deleted under a Postgres that may run on, and nothing starts beside it.
        assert_eq!(universe.status.borrow().state.name(), "stopping");
        let refused = universe.attach().await.unwrap_err();
        assert!(matches!(refused, InstanceError::Stop(_)), "{refused}");
        assert_eq!(universe.world.cloner.deleted.lock().unwrap().len(), 0);
        universe.status.ended().await;
        assert_eq!(universe.status.borrow().state, State::Gone);
        assert_eq!(*universe.world.runtime.stopped.lock().unwrap(), [lease.uid]);
        assert_eq!(*universe.world.cloner.deleted.lock().unwrap(), [lease.uid]);
    });
}

#[test]
fn a_postgres_that_could_not_be_stopped_keeps_its_place() {
    paused(async {
        let mut limits = limits();
        limits.max_running = 1;
        let mut universe = universe(Origin::Create, limits);
        drop(universe.attach().await.unwrap());
        *universe.world.runtime.stop_failures.lock().unwrap() = 2;
        universe.until("stopping").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(universe.slots.try_acquire().is_none());
        universe.until("stopped").await;
        assert!(universe.slots.try_acquire().is_some());
    });
}

#[test]
fn a_deletion_that_fails_is_told_and_leaves_the_instance_usable() {
    paused(async {
        let universe = new();
        let uid = universe.attach().await.unwrap().uid;
        let failure = CloneError::Failed {
            message: "no".to_owned(),
        };
        *universe.world.cloner.delete_failure.lock().unwrap() = Some(failure);
        let error = universe.control(Command::Delete).await.unwrap_err();
        assert!(matches!(error, InstanceError::Delete(_)), "{error}");
        assert_eq!(universe.attach().await.unwrap().uid, uid);
        // It is an instance like any other: the next start of the daemon does not delete it.
        let stored = || universe.world.store.instances().unwrap();
        while stored()[0].phase != Phase::Ready {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *universe.world.cloner.delete_failure.lock().unwrap() = None;
        universe.control(Command::Delete).await.unwrap();
        assert_eq!(stored(), []);
    });
}

#[test]
fn a_start_by_command_during_a_stop_follows_it() {
    paused(async {
        let mut universe = new();
        drop(universe.attach().await.unwrap());
        let runtime = universe.world.runtime.clone();
        let gate = runtime.stop_gate.write().await;
        universe.until("stopping").await;
        let started = universe.addr.send(Control(Command::Start));
        drop(gate);
        started.await.unwrap().unwrap();
        assert_eq!(universe.started(), 2);
        // Nobody uses it, so it stops again.
        universe.until("stopped").await;
    });
}

#[test]
fn a_long_session_is_use_all_the_time() {
    paused(async {
        let universe = new();
        let lease = universe.attach().await.unwrap();
        let stored = || universe.world.store.instances().unwrap()[0].last_used_at;
        let begun = universe.status.borrow().record.last_used_at;
        while stored() != begun {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while stored() == begun {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(lease);
    });
}

#[test]
fn pin_that_was_not_written_is_refused_and_written_later() {
    paused(async {
        let universe = universe(Origin::Stopped, limits());
        let cloner = universe.world.cloner.clone();
        *cloner.manifest_failures.lock().unwrap() = 2;
        let pinned = universe.addr.send(SetPin(Pin::Forever)).await.unwrap();
        let error = pinned.unwrap_err();
        assert!(matches!(error, InstanceError::Storage(_)), "{error}");
        while cloner.manifests.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let written = cloner.manifests.lock().unwrap();
        assert!(written.iter().all(|record| record.pin == Pin::Forever));
        assert_eq!(*cloner.manifest_failures.lock().unwrap(), 0);
    });
}
