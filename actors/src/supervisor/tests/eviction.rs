//! Slots past `max_running`: residency, the order of waiting instances, and instances that give no slot.

use super::*;

fn only(max_running: usize) -> Limits {
    Limits {
        max_running,
        ..limits()
    }
}

/// Instances that are recorded. A clone is made by a thread, which does not hold paused time back.
async fn recorded(world: &Harness, names: &[&str]) {
    let records = (1..).zip(names);
    let records = records.map(|(bits, name)| record(name, bits, Phase::Ready));
    restore(world, records.collect(), Vec::new(), Vec::new()).await;
}

async fn state(world: &Harness, name: &str) -> &'static str {
    status(world, name).await.unwrap().state.name()
}

#[test]
fn instance_keeps_its_slot_for_its_residency() {
    paused(async {
        let world = Harness::new(only(1));
        recorded(&world, &["a", "b"]).await;
        let began = tokio::time::Instant::now();
        drop(attach(&world, "a").await.unwrap());
        attach(&world, "b").await.unwrap();
        let waited = began.elapsed();
        let residency = crate::slots::residency(Duration::ZERO);
        assert!(waited >= residency, "{waited:?}");
        assert!(waited < 2 * residency, "{waited:?}");
    });
}

#[test]
fn instance_that_becomes_unused_is_not_stopped_before_one_that_was_used_earlier() {
    paused(async {
        let world = Harness::new(only(2));
        recorded(&world, &["later", "earlier", "c"]).await;
        let later = attach(&world, "later").await.unwrap();
        let earlier = attach(&world, "earlier").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (waiting, ()) = tokio::join!(attach(&world, "c"), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // Both are unused before the Supervisor hears of one.
            world.clock.pass(Duration::from_secs(1));
            drop(earlier);
            tokio::task::yield_now().await;
            world.clock.pass(Duration::from_secs(1));
            drop(later);
        });
        let _held = waiting.unwrap();
        assert_eq!(state(&world, "earlier").await, "stopped");
        assert_eq!(state(&world, "later").await, "running");
    });
}

#[test]
fn waiting_instances_get_slots_in_the_order_in_which_they_began_to_wait() {
    paused(async {
        let world = Harness::new(only(1));
        recorded(&world, &["holder", "z", "y", "x"]).await;
        let holder = attach(&world, "holder").await.unwrap();
        let served = std::cell::RefCell::new(Vec::new());
        let waits = async |name: &str| {
            let status = status(&world, name).await;
            status.is_some_and(|status| status.waits_for_slot)
        };
        // Each begins when the instance before it waits.
        let wait = async |name: &'static str, before: &str| {
            while before != "holder" && !waits(before).await {
                tokio::task::yield_now().await;
            }
            drop(attach(&world, name).await.unwrap());
            served.borrow_mut().push(name);
        };
        tokio::join!(wait("z", "holder"), wait("y", "z"), wait("x", "y"), async {
            while !waits("x").await {
                tokio::task::yield_now().await;
            }
            assert_eq!(state(&world, "x").await, "starting");
            drop(holder);
        });
        assert_eq!(*served.borrow(), ["z", "y", "x"]);
        assert!(!waits("x").await);
    });
}

#[test]
fn stop_that_fails_does_not_keep_another_instance_from_making_room() {
    paused(async {
        let world = Harness::new(only(2));
        recorded(&world, &["a", "b", "c"]).await;
        drop(attach(&world, "a").await.unwrap());
        world.clock.pass(Duration::from_secs(1));
        drop(attach(&world, "b").await.unwrap());
        tokio::time::sleep(Duration::from_secs(5)).await;
        *world.runtime.stop_failures.lock().unwrap() = 1;
        let began = tokio::time::Instant::now();
        attach(&world, "c").await.unwrap();
        // Before the stop of `a` is retried.
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(state(&world, "a").await, "stopping");
        assert_eq!(state(&world, "b").await, "stopped");
    });
}

#[test]
fn slot_is_asked_of_the_next_instance_if_an_actor_has_ended() {
    paused(async {
        let world = Harness::new(only(2));
        recorded(&world, &["a", "b", "c"]).await;
        drop(attach(&world, "a").await.unwrap());
        world.clock.pass(Duration::from_secs(1));
        drop(attach(&world, "b").await.unwrap());
        tokio::time::sleep(Duration::from_secs(5)).await;
        // Its row stays first in the order until the runtime has answered.
        let _gate = world.runtime.find_gate.write().await;
        super::restoring::panics(&world, "a").await;
        let _c = attach(&world, "c").await.unwrap();
        assert_eq!(state(&world, "b").await, "stopped");
    });
}

/// No instance starts above 80 % of the memory.
fn below_mark() -> Limits {
    Limits {
        memory_high_water: Some(80),
        ..limits()
    }
}

#[test]
fn instance_without_sessions_stops_while_too_much_of_the_memory_is_used() {
    paused(async {
        let world = Harness::new(below_mark());
        recorded(&world, &["later", "earlier", "used", "c"]).await;
        let _used = attach(&world, "used").await.unwrap();
        drop(attach(&world, "earlier").await.unwrap());
        world.clock.pass(Duration::from_secs(1));
        drop(attach(&world, "later").await.unwrap());
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.memory.fill(81);
        let (waiting, ()) = tokio::join!(attach(&world, "c"), async {
            while state(&world, "earlier").await != "stopped" {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(state(&world, "c").await, "starting");
            world.memory.fill(80);
        });
        waiting.unwrap();
        assert_eq!(state(&world, "used").await, "running");
    });
}

#[test]
fn client_that_waited_in_vain_for_memory_is_told_so() {
    paused(async {
        let world = Harness::new(below_mark());
        recorded(&world, &["a", "b", "c"]).await;
        let _used = attach(&world, "a").await.unwrap();
        world.memory.fill(93);
        let (first, second) = tokio::join!(attach(&world, "b"), attach(&world, "c"));
        for error in [first.unwrap_err(), second.unwrap_err()] {
            let expected = InstanceError::NoMemory {
                used_percent: 93,
                mark_percent: 80,
                waited: limits().start_timeout,
            };
            assert_eq!(error, expected);
        }
        // A running instance is left alone.
        attach(&world, "a").await.unwrap();
        world.memory.fill(10);
        attach(&world, "b").await.unwrap();
    });
}
