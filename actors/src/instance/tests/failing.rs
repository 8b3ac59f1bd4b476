//! Failed stops, deletions and writes, and the time of last use.

use super::*;

#[test]
fn failed_stop_is_reported_and_retried() {
    paused(async {
        let mut fixture = new_instance();
        let lease = fixture.attach().await.unwrap();
        *fixture.actors.runtime.stop_failures.lock().unwrap() = 3;
        let error = fixture.control(Command::Delete).await.unwrap_err();
        assert!(matches!(error, InstanceError::Stop(_)), "{error}");
        // Nothing is deleted under a Postgres that may still run, and no second one starts on its data.
        assert_eq!(fixture.status.borrow().state.name(), "stopping");
        let refused = fixture.attach().await.unwrap_err();
        assert!(matches!(refused, InstanceError::Stop(_)), "{refused}");
        assert_eq!(fixture.actors.cloner.deleted.lock().unwrap().len(), 0);
        fixture.status.ended().await;
        assert_eq!(fixture.status.borrow().state, State::Gone);
        assert_eq!(*fixture.actors.runtime.stopped.lock().unwrap(), [lease.uid]);
        assert_eq!(*fixture.actors.cloner.deleted.lock().unwrap(), [lease.uid]);
    });
}

#[test]
fn postgres_that_does_not_stop_keeps_its_slot() {
    paused(async {
        let mut limits = limits();
        limits.max_running = 1;
        let mut fixture = fixture_of(Origin::Create, limits);
        drop(fixture.attach().await.unwrap());
        *fixture.actors.runtime.stop_failures.lock().unwrap() = 2;
        fixture.until("stopping").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(fixture.slots.try_acquire().is_none());
        fixture.until("stopped").await;
        assert!(fixture.slots.try_acquire().is_some());
    });
}

#[test]
fn failed_deletion_is_reported_and_leaves_the_instance_usable() {
    paused(async {
        let fixture = new_instance();
        let uid = fixture.attach().await.unwrap().uid;
        let failure = CloneError::Failed {
            message: "no".to_owned(),
        };
        *fixture.actors.cloner.delete_failure.lock().unwrap() = Some(failure);
        let error = fixture.control(Command::Delete).await.unwrap_err();
        assert!(matches!(error, InstanceError::Delete(_)), "{error}");
        assert_eq!(fixture.attach().await.unwrap().uid, uid);
        // The next start of the daemon does not delete it.
        let stored = || fixture.actors.store.instances().unwrap();
        while stored()[0].phase != Phase::Ready {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *fixture.actors.cloner.delete_failure.lock().unwrap() = None;
        fixture.control(Command::Delete).await.unwrap();
        assert_eq!(stored(), []);
    });
}

#[test]
fn reset_during_a_deletion_that_fails_has_failed_too() {
    paused(async {
        let mut fixture = new_instance();
        drop(fixture.attach().await.unwrap());
        let failure = CloneError::Failed {
            message: "no".to_owned(),
        };
        *fixture.actors.cloner.delete_failure.lock().unwrap() = Some(failure);
        let runtime = fixture.actors.runtime.clone();
        let gate = runtime.stop_gate.write().await;
        let deleted = fixture.addr.send(Control(Command::Delete));
        fixture.until("stopping").await;
        let reset = fixture.addr.send(Control(Command::Reset));
        drop(gate);
        for answer in [deleted, reset] {
            let error = answer.await.unwrap().unwrap_err();
            assert!(matches!(error, InstanceError::Delete(_)), "{error}");
        }
    });
}

#[test]
fn start_command_during_a_stop_is_carried_out_after_it() {
    paused(async {
        let mut fixture = new_instance();
        drop(fixture.attach().await.unwrap());
        let runtime = fixture.actors.runtime.clone();
        let gate = runtime.stop_gate.write().await;
        fixture.until("stopping").await;
        let started = fixture.addr.send(Control(Command::Start));
        drop(gate);
        started.await.unwrap().unwrap();
        assert_eq!(fixture.started(), 2);
        // It stops again, since it has no sessions.
        fixture.until("stopped").await;
    });
}

#[test]
fn long_session_updates_the_time_of_last_use() {
    paused(async {
        let fixture = new_instance();
        let lease = fixture.attach().await.unwrap();
        let stored = || fixture.actors.store.instances().unwrap()[0].last_used_at;
        let begun = fixture.status.borrow().record.last_used_at;
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
        let fixture = fixture_of(Origin::Stopped, limits());
        let cloner = fixture.actors.cloner.clone();
        *cloner.manifest_failures.lock().unwrap() = 2;
        let pinned = fixture.addr.send(SetPin(Pin::Forever)).await.unwrap();
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
