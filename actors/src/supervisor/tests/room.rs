//! Deletions on a disk that is above its mark.

use jiff::SignedDuration;
use multidb_store::Class;

use super::*;
use crate::instance::{ExpiryAnswer, OverLimit};
use crate::ports::CloneError;

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// A world with these instances at rest, which were used last at the start of observed time.
async fn world_of(observed: Duration, records: Vec<InstanceRecord>) -> Harness {
    let world = Harness::observed_for(observed, limits(), &[project()]);
    world.clock.freeze();
    restore(&world, records, Vec::new(), Vec::new()).await;
    world
}

async fn make_room(world: &Harness, name: &str, bits: u64) -> ExpiryAnswer {
    let delete = DeleteForRoom {
        name: name.parse().unwrap(),
        uid: InstanceUid::from_bits(bits),
    };
    world.supervisor.send(delete).await.unwrap()
}

fn unused(name: &str, bits: u64) -> InstanceRecord {
    record(name, bits, Phase::Ready)
}

#[test]
fn only_what_nobody_used_for_a_day_makes_room() {
    paused(async {
        let mut pinned = unused("pinned", 1);
        pinned.pin = Pin::Forever;
        let mut scratch = unused("scratch", 2);
        scratch.class = Class::Scratch;
        let mut short = unused("short", 3);
        short.ttl = Some(Duration::from_secs(3600));
        let records = vec![pinned, scratch, short, unused("used", 4), unused("old", 5)];
        let world = world_of(DAY - Duration::from_secs(1), records).await;
        let held = attach(&world, "used").await.unwrap();
        assert_eq!(make_room(&world, "old", 5).await, ExpiryAnswer::Declined);
        for (name, bits) in [("scratch", 2), ("short", 3)] {
            assert_eq!(make_room(&world, name, bits).await, ExpiryAnswer::Begun);
        }
        world.clock.pass(2 * MINUTE);
        for (name, bits) in [("pinned", 1), ("used", 4), ("old", 6)] {
            let answer = make_room(&world, name, bits).await;
            assert_eq!(answer, ExpiryAnswer::Declined, "{name}");
        }
        assert_eq!(make_room(&world, "old", 5).await, ExpiryAnswer::Begun);
        while status(&world, "old").await.is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(held);
        assert_eq!(world.cloner.deleted.lock().unwrap().len(), 3);
    });
}

#[test]
fn wall_clock_that_jumps_makes_no_room() {
    paused(async {
        let world = world_of(DAY / 2, vec![unused("a", 1)]).await;
        for days in [40, -40, 4000] {
            world
                .clock
                .set_wall_ahead(SignedDuration::from_hours(24 * days));
            assert_eq!(make_room(&world, "a", 1).await, ExpiryAnswer::Declined);
        }
        assert!(status(&world, "a").await.is_some());
    });
}

#[test]
fn what_the_manifest_protects_or_nobody_can_read_stays() {
    paused(async {
        let world = world_of(2 * DAY, vec![unused("a", 1), unused("b", 2)]).await;
        let mut pinned = unused("a", 1);
        pinned.pin = Pin::Forever;
        world.cloner.manifests.lock().unwrap().push(pinned);
        assert_eq!(make_room(&world, "a", 1).await, ExpiryAnswer::Declined);
        *world.cloner.read_failure.lock().unwrap() = Some(CloneError::Failed {
            message: "no".into(),
        });
        assert_eq!(make_room(&world, "b", 2).await, ExpiryAnswer::Declined);
        for name in ["a", "b"] {
            let status = status(&world, name).await.expect("it is there");
            assert_eq!(status.record.marked, None, "{name}");
        }
    });
}

const OVER: OverLimit = OverLimit::MaxInstanceBytes {
    exclusive_bytes: 2 << 30,
    limit_bytes: 1 << 30,
};

async fn limit(world: &Harness, name: &str, bits: u64, over: Option<OverLimit>) -> bool {
    let limit = LimitInstance {
        name: name.parse().unwrap(),
        uid: InstanceUid::from_bits(bits),
        over,
    };
    world.supervisor.send(limit).await.unwrap()
}

async fn command(world: &Harness, name: &str, command: Command) -> Result<(), InstanceError> {
    let name = name.parse().unwrap();
    let sent = world.supervisor.send(ControlInstance { name, command });
    sent.await.unwrap().unwrap()
}

async fn until_stopped(world: &Harness, name: &str) -> InstanceStatus {
    loop {
        let status = status(world, name).await.unwrap();
        if status.state == State::Stopped {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn instance_over_a_limit_is_stopped_and_starts_no_more_until_it_is_below() {
    paused(async {
        let world = world_of(DAY, vec![unused("a", 1), unused("b", 2)]).await;
        let over = InstanceError::OverLimit(OVER);
        let session = attach(&world, "a").await.unwrap();
        assert!(!limit(&world, "a", 7, Some(OVER)).await);
        attach(&world, "a").await.unwrap();
        assert!(limit(&world, "a", 1, Some(OVER)).await);
        // It runs for a moment yet.
        assert_eq!(attach(&world, "a").await.unwrap_err(), over);
        assert_eq!(until_stopped(&world, "a").await.failure, Some(over.clone()));
        drop(session);
        assert_eq!(attach(&world, "a").await.unwrap_err(), over);
        let started = command(&world, "a", Command::Start).await;
        assert_eq!(started.unwrap_err(), over);
        attach(&world, "b").await.unwrap();

        assert!(limit(&world, "a", 1, None).await);
        assert_eq!(status(&world, "a").await.unwrap().failure, None);
        attach(&world, "a").await.unwrap();
    });
}

#[test]
fn reset_of_an_instance_over_a_limit_lets_it_start_again() {
    paused(async {
        let world = world_of(DAY, vec![unused("a", 1)]).await;
        assert!(limit(&world, "a", 1, Some(OVER)).await);
        let over = InstanceError::OverLimit(OVER);
        assert_eq!(attach(&world, "a").await.unwrap_err(), over);
        // A client that comes during the reset waits for it.
        let (reset, attached) = tokio::join!(command(&world, "a", Command::Reset), async {
            while status(&world, "a").await.unwrap().state == State::Stopped {
                tokio::task::yield_now().await;
            }
            attach(&world, "a").await
        });
        reset.unwrap();
        attached.unwrap();
        assert_eq!(status(&world, "a").await.unwrap().failure, None);
    });
}
