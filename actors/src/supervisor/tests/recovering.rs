//! Instances that are made usable again by a command.

use super::restoring::{Panic, control, panics, until_state};
use super::*;
use crate::ports::CloneError;
use crate::supervisor::{RecoverError, RecoverInstance};

async fn recover(world: &Harness, command: RecoverInstance) -> Result<String, RecoverError> {
    let recovered = world.supervisor.send(command).await.unwrap();
    recovered.map(|name| name.to_string())
}

fn named(name: &str) -> RecoverInstance {
    RecoverInstance::named(name.parse().unwrap())
}

fn quarantined(world: &Harness, name: &str, number: u64, epoch: u64) {
    let mut record = record(name, number, Phase::Ready);
    record.epoch = epoch;
    world.cloner.recoverable.lock().unwrap().push(record);
}

/// Makes the instance's actor panic until it is given up.
async fn give_up(world: &Harness, name: &str) {
    while status(world, name).await.unwrap().state != State::Failed {
        let addr = world.acquire(name, None).await.unwrap().addr;
        let _ended = addr.send(Panic).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn actor_that_keeps_panicking_is_given_up_and_recovered_by_a_command() {
    paused(async {
        let world = Harness::new(limits());
        let held = attach(&world, "a").await.unwrap();
        give_up(&world, "a").await;
        let given_up = status(&world, "a").await.unwrap();
        assert_eq!(given_up.failure, Some(InstanceError::GivenUp));
        let refused = refused(world.acquire("a", None).await);
        assert!(matches!(refused, AcquireError::GivenUp { .. }), "{refused}");
        assert_eq!(world.runtime.running_now(), [held.uid].into());
        world.clock.freeze();
        world.clock.pass(Duration::from_secs(60));
        assert_eq!(recover(&world, named("a")).await.unwrap(), "a");
        let recovered = status(&world, "a").await.unwrap();
        assert_eq!((recovered.state.name(), recovered.sessions), ("running", 1));
        // It counts as a use.
        assert_eq!(
            recovered.record.last_used_observed,
            world.root_clock.now().observed
        );
        // Another command does as well.
        give_up(&world, "a").await;
        control(&world, "a", Command::Start).await.unwrap();
        // Of an instance in order there is nothing to recover.
        assert_eq!(recover(&world, named("a")).await.unwrap(), "a");
    });
}

#[test]
fn client_that_comes_while_the_actor_is_rebuilt_waits_for_it() {
    paused(async {
        let world = Harness::new(limits());
        let records = vec![record("a", 1, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let gate = world.runtime.find_gate.write().await;
        panics(&world, "a").await;
        let acquired = world.acquire("a", None);
        let started = control(&world, "a", Command::Start);
        let pin = PinInstance {
            name: "a".parse().unwrap(),
            pin: Pin::Forever,
        };
        let pinned = world.supervisor.send(pin);
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(gate);
        };
        let (acquired, started, pinned, ()) = tokio::join!(acquired, started, pinned, later);
        started.unwrap();
        pinned.unwrap().unwrap().unwrap();
        acquired
            .unwrap()
            .addr
            .send(Attach::default())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status(&world, "a").await.unwrap().record.pin, Pin::Forever);
    });
}

#[test]
fn failed_instance_is_recovered_without_a_change_of_its_data() {
    paused(async {
        let world = Harness::new(limits());
        let uid = attach(&world, "a").await.unwrap().uid;
        until_state(&world, "a", "stopped").await;
        let failure = CloneError::Failed {
            message: "no".to_owned(),
        };
        *world.cloner.delete_failure.lock().unwrap() = Some(failure);
        control(&world, "a", Command::Delete).await.unwrap_err();
        until_state(&world, "a", "failed").await;
        recover(&world, named("a")).await.unwrap();
        let recovered = status(&world, "a").await.unwrap();
        assert_eq!(recovered.state, State::Stopped);
        assert_eq!((recovered.failure, recovered.record.uid), (None, uid));
        // An instance whose server cannot be looked for is looked for again.
        *world.cloner.delete_failure.lock().unwrap() = None;
        *world.runtime.away.lock().unwrap() = true;
        control(&world, "a", Command::Start).await.unwrap_err();
        let error = recover(&world, named("a")).await.unwrap_err();
        assert!(
            matches!(error, RecoverError::Instance(InstanceError::Unavailable(_))),
            "{error}"
        );
        *world.runtime.away.lock().unwrap() = false;
        recover(&world, named("a")).await.unwrap();
        until_state(&world, "a", "stopped").await;
    });
}

#[test]
fn data_that_was_brought_back_is_used_after_a_recovery() {
    paused(async {
        let world = Harness::new(limits());
        let record = record("a", 1, Phase::Ready);
        let mut unusable = crate::testing::recovered(record.clone());
        unusable.unusable = Some("its data is missing".to_owned());
        let restore = Restore {
            instances: vec![unusable],
            found: FoundServers::default(),
            leftovers: Vec::new(),
        };
        world.supervisor.send(restore).await.unwrap();
        let elsewhere = "its manifest names the clone 000000000002".to_owned();
        *world.cloner.unusable.lock().unwrap() = Some(elsewhere.clone());
        let error = recover(&world, named("a")).await.unwrap_err();
        let expected = InstanceError::DataUnusable { why: elsewhere };
        assert_eq!(error, RecoverError::Instance(expected.clone()));
        let failed = status(&world, "a").await.unwrap();
        assert_eq!(
            (failed.state, failed.failure),
            (State::Failed, Some(expected))
        );
        *world.cloner.unusable.lock().unwrap() = None;
        recover(&world, named("a")).await.unwrap();
        assert_eq!(attach(&world, "a").await.unwrap().uid, record.uid);
    });
}

#[test]
fn newest_quarantined_clone_becomes_an_instance_of_the_next_epoch() {
    paused(async {
        let world = Harness::new(limits());
        quarantined(&world, "a", 1, 3);
        quarantined(&world, "a", 2, 4);
        let other = attach(&world, "b").await.unwrap();
        world.clock.freeze();
        world.clock.pass(Duration::from_secs(60));
        recover(&world, named("a")).await.unwrap();
        let recovered = status(&world, "a").await.unwrap();
        let uid = InstanceUid::from_bits;
        assert_eq!(
            (recovered.state, recovered.record.uid),
            (State::Stopped, uid(2))
        );
        let of_other = status(&world, "b").await.unwrap().record.epoch;
        assert!(recovered.record.epoch > of_other);
        let now = world.root_clock.now().observed;
        assert_eq!(recovered.record.last_used_observed, now);
        // Both copies of the record are written before the answer.
        let stored = world.store.instances().unwrap();
        assert!(stored.contains(&recovered.record), "{stored:?}");
        let manifests = world.cloner.manifests.lock().unwrap().clone();
        assert_eq!(manifests.last(), Some(&*recovered.record));
        assert_eq!(attach(&world, "a").await.unwrap().uid, uid(2));
        drop(other);
    });
}

#[test]
fn quarantined_clone_of_a_taken_name_needs_another_one() {
    paused(async {
        let world = Harness::new(limits());
        let live = attach(&world, "a").await.unwrap().uid;
        quarantined(&world, "a", 1, 3);
        let error = recover(&world, named("a")).await.unwrap_err();
        assert!(
            matches!(error, RecoverError::InstanceExists { .. }),
            "{error}"
        );
        let renamed = RecoverInstance {
            uid: Some(InstanceUid::from_bits(1)),
            new_name: Some("a-before".parse().unwrap()),
            ..named("a")
        };
        assert_eq!(recover(&world, renamed).await.unwrap(), "a-before");
        let recovered = status(&world, "a-before").await.unwrap().record;
        assert_eq!(recovered.uid, InstanceUid::from_bits(1));
        assert_eq!(status(&world, "a").await.unwrap().record.uid, live);
        let error = recover(&world, named("none")).await.unwrap_err();
        assert!(
            matches!(error, RecoverError::NothingToRecover { .. }),
            "{error}"
        );
    });
}

#[test]
fn client_that_asks_for_a_clone_on_its_way_back_waits_for_it() {
    paused(async {
        let world = Harness::new(limits());
        quarantined(&world, "a", 1, 3);
        let gate = world.cloner.take_gate.write().await;
        let begin = || tokio::spawn(world.supervisor.send(named("a")));
        let (mut one, mut other) = (begin(), begin());
        // The list of the quarantine is read for both at once, so either may be the first.
        let (refused, first) = tokio::select! {
            refused = &mut one => (refused, other),
            refused = &mut other => (refused, one),
        };
        let refused = refused.unwrap().unwrap().unwrap_err();
        assert!(
            matches!(refused, RecoverError::InstanceExists { .. }),
            "{refused}"
        );
        let released = async {
            // Messages are handled in order, so the client waits by now.
            assert!(status(&world, "a").await.is_none());
            drop(gate);
        };
        let (acquired, ()) = tokio::join!(world.acquire("a", latest()), released);
        first.await.unwrap().unwrap().unwrap();
        let uid = acquired.unwrap().record.uid;
        assert_eq!(uid, InstanceUid::from_bits(1));
    });
}

#[test]
fn clone_that_cannot_leave_the_quarantine_leaves_its_name_free() {
    paused(async {
        let world = Harness::new(limits());
        quarantined(&world, "a", 1, 3);
        let failure = CloneError::Failed {
            message: "no".to_owned(),
        };
        *world.cloner.take_failure.lock().unwrap() = Some(failure);
        let error = recover(&world, named("a")).await.unwrap_err();
        assert!(matches!(error, RecoverError::Storage(_)), "{error}");
        assert!(status(&world, "a").await.is_none());
        *world.cloner.take_failure.lock().unwrap() = None;
        recover(&world, named("a")).await.unwrap();
        assert_eq!(status(&world, "a").await.unwrap().state, State::Stopped);
    });
}
