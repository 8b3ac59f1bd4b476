//! The removal of snapshots, beside choices in progress.

use super::*;

async fn delete(world: &Harness, name: &str) {
    let name = name.parse().unwrap();
    let command = Command::Delete;
    let deleted = world.supervisor.send(ControlInstance { name, command });
    deleted.await.unwrap().unwrap().unwrap();
}

async fn remove_snapshot(
    world: &Harness,
    id: &str,
    force: bool,
) -> Result<(), RemoveSnapshotError> {
    let id = id.parse().unwrap();
    let removed = world.supervisor.send(RemoveSnapshot { id, force });
    removed.await.unwrap()
}

#[test]
fn snapshot_in_use_is_removed_only_by_force() {
    paused(async {
        let world = Harness::new(limits());
        world.acquire("a", gitref("main")).await.unwrap();
        world.acquire("b", gitref("main")).await.unwrap();
        let refused = remove_snapshot(&world, "s2", false).await;
        let in_use = RemoveSnapshotError::SnapshotInUse {
            snapshot: "s2".parse().unwrap(),
            instances: ["a", "b"].map(|name| name.parse().unwrap()).to_vec(),
            instances_total: 2,
        };
        assert_eq!(refused, Err(in_use));
        let acquired = world.acquire("c", latest()).await.unwrap();
        assert_eq!(acquired.record.snapshot.as_str(), "s2");
        remove_snapshot(&world, "s2", true).await.unwrap();
        let acquired = world.acquire("d", latest()).await.unwrap();
        assert_eq!(acquired.record.snapshot.as_str(), "s1");
        let snapshot = "s2".parse().unwrap();
        let unknown = remove_snapshot(&world, "s2", true).await;
        assert_eq!(
            unknown,
            Err(RemoveSnapshotError::NoSuchSnapshot { snapshot })
        );
    });
}

#[test]
fn choice_of_a_snapshot_that_is_removed_meanwhile_is_made_again() {
    paused(async {
        let world = Harness::new(limits());
        for (name, source) in [("a", gitref("main")), ("b", latest())] {
            // The choice is under way when the removal is asked for.
            let (acquired, removed) = tokio::join!(
                world.acquire(name, source),
                remove_snapshot(&world, "s2", false),
            );
            removed.unwrap();
            assert_eq!(acquired.unwrap().record.snapshot.as_str(), "s1", "{name}");
            let again = snapshot("s2", 200, &["a.1", "a.2"]);
            world.index.send(AddSnapshot(again)).await.unwrap();
            let acquired = world.acquire(&format!("{name}-again"), latest()).await;
            assert_eq!(acquired.unwrap().record.snapshot.as_str(), "s2");
            delete(&world, &format!("{name}-again")).await;
        }
    });
}
