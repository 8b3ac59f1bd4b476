//! Clones that bear an instance's name and are not its data.

use multidb_store::recovery::{Leftover, LeftoverAction};

use super::restoring::{control, panics, until_state};
use super::*;
use crate::instance::InstanceError;
use crate::leftovers::Leftovers;
use crate::ports::CloneError;

fn fail_deletions(world: &Harness, fail: bool) {
    let failure = CloneError::Failed {
        message: "no".to_owned(),
    };
    *world.cloner.delete_failure.lock().unwrap() = fail.then_some(failure);
}

fn deleted(world: &Harness) -> Vec<InstanceUid> {
    world.cloner.deleted.lock().unwrap().clone()
}

async fn uid(world: &Harness, name: &str) -> InstanceUid {
    status(world, name).await.unwrap().record.uid
}

#[test]
fn clone_that_a_reset_replaced_is_deleted_before_its_instance() {
    paused(async {
        let world = Harness::new(limits());
        let old = attach(&world, "a").await.unwrap().uid;
        fail_deletions(&world, true);
        control(&world, "a", Command::Reset).await.unwrap();
        let new = uid(&world, "a").await;
        // The old clone would be served under the name after a restart, so the deletion must not be acknowledged.
        let error = control(&world, "a", Command::Delete).await.unwrap_err();
        let InstanceError::Delete(CloneError::Failed { message }) = &error else {
            panic!("{error}")
        };
        assert!(message.contains(&old.to_string()), "{message}");
        assert_eq!(attach(&world, "a").await.unwrap().uid, new);
        fail_deletions(&world, false);
        control(&world, "a", Command::Delete).await.unwrap();
        assert_eq!(deleted(&world), [old, new]);
    });
}

#[test]
fn clone_that_a_reset_replaced_is_deleted_in_the_end() {
    paused(async {
        let world = Harness::new(limits());
        let old = attach(&world, "a").await.unwrap().uid;
        fail_deletions(&world, true);
        control(&world, "a", Command::Reset).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(deleted(&world), []);
        fail_deletions(&world, false);
        while deleted(&world).is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(deleted(&world), [old]);
    });
}

#[test]
fn replaced_clone_is_remembered_by_the_next_actor() {
    paused(async {
        let world = Harness::new(limits());
        let old = attach(&world, "a").await.unwrap().uid;
        fail_deletions(&world, true);
        control(&world, "a", Command::Reset).await.unwrap();
        panics(&world, "a").await;
        control(&world, "a", Command::Delete).await.unwrap_err();
        fail_deletions(&world, false);
        control(&world, "a", Command::Delete).await.unwrap();
        assert!(deleted(&world).contains(&old));
    });
}

#[test]
fn leftover_of_a_start_is_put_aside_before_its_instance_is_deleted() {
    paused(async {
        let world = Harness::new(limits());
        let (uid, mut record) = (InstanceUid::from_bits, record("a", 2, Phase::Ready));
        record.epoch = 2;
        world.store.put(&record).unwrap();
        fail_deletions(&world, true);
        let leftover = |number, action| Leftover {
            uid: uid(number),
            name: Some("a".parse().unwrap()),
            epoch: 1,
            action,
        };
        let restore = Restore {
            instances: vec![crate::testing::recovered(record)],
            found: FoundServers::default(),
            leftovers: vec![
                leftover(1, LeftoverAction::Delete),
                leftover(3, LeftoverAction::Quarantine("why".to_owned())),
            ],
        };
        world.supervisor.send(restore).await.unwrap();
        control(&world, "a", Command::Delete).await.unwrap_err();
        fail_deletions(&world, false);
        control(&world, "a", Command::Delete).await.unwrap();
        assert_eq!(deleted(&world), [uid(1), uid(2)]);
        let quarantined = world.cloner.quarantined.lock().unwrap().clone();
        assert_eq!(quarantined, [(uid(3), "why".to_owned())]);
    });
}

#[test]
fn creation_that_fails_leaves_no_clone_that_a_deletion_does_not_know() {
    paused(async {
        let world = Harness::new(limits());
        let failure = CloneError::Failed {
            message: "no".to_owned(),
        };
        *world.cloner.failure.lock().unwrap() = Some(failure);
        fail_deletions(&world, true);
        let error = attach(&world, "a").await.unwrap_err();
        assert!(matches!(error, InstanceError::Clone(_)), "{error}");
        while status(&world, "a").await.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *world.cloner.failure.lock().unwrap() = None;
        // The name is free, and its next instance knows of the clone.
        let new = attach(&world, "a").await.unwrap().uid;
        control(&world, "a", Command::Delete).await.unwrap_err();
        until_state(&world, "a", "failed").await;
        fail_deletions(&world, false);
        control(&world, "a", Command::Delete).await.unwrap();
        let deleted = deleted(&world);
        assert!(
            deleted.len() >= 2 && deleted.ends_with(&[new]),
            "{deleted:?}"
        );
    });
}

#[test]
fn what_was_put_aside_is_not_touched_again() {
    paused(async {
        let world = Harness::new(limits());
        let leftovers = Leftovers::new(world.runtime.clone(), world.worker.clone());
        let instance = record("a", 2, Phase::Ready);
        let uid = InstanceUid::from_bits(1);
        let leftover = Leftover {
            uid,
            name: Some(instance.name.clone()),
            epoch: 0,
            action: LeftoverAction::Quarantine("why".to_owned()),
        };
        // A command and the retries of the background.
        leftovers.add(leftover);
        let retries = [leftovers.put_aside(uid), leftovers.put_aside(uid)];
        let (cleared, _) = tokio::join!(
            leftovers.clear(&instance),
            futures_util::future::join_all(retries)
        );
        cleared.unwrap();
        // An administrator may have made it an instance again.
        leftovers.put_aside(uid).await;
        let quarantined = world.cloner.quarantined.lock().unwrap().clone();
        assert_eq!(quarantined, [(uid, "why".to_owned())]);
    });
}
