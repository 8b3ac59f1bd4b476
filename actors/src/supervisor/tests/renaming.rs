//! Instances that get another name.

use super::restoring::Panic;
use super::*;
use crate::testing::recovered;

fn rename(name: &str, new_name: &str) -> RenameInstance {
    RenameInstance {
        name: name.parse().unwrap(),
        new_name: new_name.parse().unwrap(),
    }
}

async fn carry_out(world: &Harness, rename: RenameInstance) {
    world.supervisor.send(rename).await.unwrap().unwrap();
}

#[test]
fn actor_that_panics_during_a_rename_keeps_its_name_its_run_and_its_sessions() {
    paused(async {
        let world = Harness::new(limits());
        let lease = attach(&world, "a").await.unwrap();
        let addr = world.acquire("a", None).await.unwrap().addr;
        // The Supervisor looks into the quarantine before it asks the actor to end.
        let renamed = world.supervisor.send(rename("a", "b"));
        let panicked = addr.send(Panic);
        assert!(panicked.await.is_err());
        let error = renamed.await.unwrap().unwrap_err();
        assert!(matches!(error, RenameError::Unsettled { .. }), "{error}");
        assert!(status(&world, "b").await.is_none());
        let again = attach(&world, "a").await.unwrap();
        assert_eq!(again.server, lease.server);
        assert_eq!(status(&world, "a").await.unwrap().sessions, 2);
        assert_eq!(world.runtime.started.lock().unwrap().len(), 1);

        // The next rename is like any other.
        carry_out(&world, rename("a", "b")).await;
        assert!(status(&world, "a").await.is_none());
        assert_eq!(status(&world, "b").await.unwrap().sessions, 2);
    });
}

#[test]
fn clones_of_a_renamed_instance_know_its_new_name_when_it_is_told() {
    paused(async {
        let world = Harness::new(limits());
        let parent = record("a", 1, Phase::Ready);
        let child = InstanceRecord {
            parent: Some(parent.name.clone()),
            ..record("child", 2, Phase::Ready)
        };
        let restore = Restore {
            instances: [parent, child].map(recovered).into(),
            found: FoundServers::default(),
            leftovers: Vec::new(),
        };
        world.supervisor.send(restore).await.unwrap();
        carry_out(&world, rename("a", "b")).await;
        let told = status(&world, "child").await.unwrap().record.parent.clone();
        assert_eq!(told, Some("b".parse().unwrap()));
    });
}
