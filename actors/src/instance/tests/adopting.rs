//! Instances whose Postgres runs already.

use super::*;

#[test]
fn adopted_instance_stops_when_idle() {
    paused(async {
        let actors = Harness::new(limits());
        let postgres = actors.runtime.run(record("i", 1, Phase::Ready).uid);
        let slots = Slots::new(1);
        let slot = slots.try_acquire().unwrap();
        let deps = InstanceDeps {
            runtime: actors.runtime.clone(),
            probe: actors.probe.clone(),
            worker: actors.worker.clone(),
            slots: slots.clone(),
            free_slot: actors.supervisor.clone().recipient(),
            limits: Arc::new(limits()),
            clock: actors.root_clock.clone(),
            epochs: Epochs::default(),
            leftovers: Leftovers::new(actors.runtime.clone(), actors.worker.clone()),
            metrics: actors.metrics.clone(),
            history: History::default(),
        };
        let origin = Origin::Adopt(postgres, RunLeases::new(slot));
        let (addr, status) = launch(record("i", 1, Phase::Ready), origin, deps);
        drop(addr.send(Attach::default()).await.unwrap().unwrap());
        assert!(slots.try_acquire().is_none());
        status.until(|status| status.state == State::Stopped).await;
        assert!(slots.try_acquire().is_some());
    });
}
