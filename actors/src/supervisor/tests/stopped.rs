//! Instances that are stopped and have no actor.

use super::*;

#[test]
fn stopped_instance_gets_an_actor_when_it_is_asked_for() {
    paused(async {
        let world = Harness::new(limits());
        let records = vec![record("a", 1, Phase::Ready), record("b", 2, Phase::Ready)];
        restore(&world, records, Vec::new(), Vec::new()).await;
        let counts = world.supervisor.send(CountInstances).await.unwrap();
        assert_eq!(counts.by_state, [(StateName::Stopped, 2)].into());
        let stop = ControlInstance {
            name: "b".parse().unwrap(),
            command: Command::Stop,
        };
        world.supervisor.send(stop).await.unwrap().unwrap().unwrap();
        let _held = attach(&world, "a").await.unwrap();
        let counts = world.supervisor.send(CountInstances).await.unwrap();
        let expected = [(StateName::Running, 1), (StateName::Stopped, 1)];
        assert_eq!(counts.by_state, expected.into());
    });
}

#[test]
fn many_expired_instances_are_deleted_a_few_at_a_time() {
    paused(async {
        let world = Harness::new(Limits {
            retention: Duration::from_secs(60),
            ..limits()
        });
        let expired = |bits: u64| {
            let mut record = record(&format!("i{bits}"), bits, Phase::Ready);
            record.last_used_at = Timestamp::UNIX_EPOCH;
            record
        };
        let records = (0..100).map(expired).collect();
        restore(&world, records, Vec::new(), Vec::new()).await;
        let gate = world.cloner.delete_gate.write().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let counts = world.supervisor.send(CountInstances).await.unwrap();
        let expected = [(StateName::Stopped, 84), (StateName::Deleting, 16)];
        assert_eq!(counts.by_state, expected.into());
        drop(gate);
        let list = || world.supervisor.send(ListInstances::default());
        while !list().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(world.cloner.deleted.lock().unwrap().len(), 100);
    });
}
