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
