//! Expiry under clocks that jump, under uses at any moment, and in bulk.

use jiff::SignedDuration;
use multidb_store::{Mark, ObservedTime, StoredTime};

use super::*;
use crate::ports::CloneError;
use crate::supervisor::retention::expires_at;
use crate::testing::FakeClock;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// The retention of the tests.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// With the grace.
const EXPIRED: Duration = Duration::from_secs(31 * 86_400 + 1);

/// A record that was used at the start of observed time.
fn unused(name: &str, bits: u64) -> InstanceRecord {
    record(name, bits, Phase::Ready)
}

/// A record that was marked after its retention.
fn marked(name: &str, bits: u64) -> InstanceRecord {
    let mark = Mark {
        at: Timestamp::UNIX_EPOCH,
        observed: ObservedTime::default() + RETENTION,
    };
    InstanceRecord {
        marked: Some(mark),
        ..unused(name, bits)
    }
}

/// A world with these instances at rest, whose daemons have run for this time.
async fn world_of(observed: Duration, records: Vec<InstanceRecord>) -> Harness {
    let world = Harness::observed_for(observed, limits(), &[project()]);
    world.clock.freeze();
    restore(&world, records, Vec::new(), Vec::new()).await;
    world
}

/// Lets time pass, in steps that the sweep sees.
async fn pass(world: &Harness, time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(5 * MINUTE);
        world.clock.pass(step);
        left -= step;
        tokio::time::sleep(SWEEP_INTERVAL_MAX + Duration::from_secs(1)).await;
    }
}

async fn is_marked(world: &Harness, name: &str) -> bool {
    let status = status(world, name).await.expect("it exists");
    status.record.marked.is_some()
}

async fn until_marked(world: &Harness, name: &str) {
    while !is_marked(world, name).await {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn until_gone(world: &Harness, name: &str) {
    while status(world, name).await.is_some() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn until_stopped(world: &Harness, name: &str) {
    while status(world, name).await.unwrap().state != State::Stopped {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn control(world: &Harness, name: &str, command: Command) {
    let name = name.parse().unwrap();
    let command = ControlInstance { name, command };
    let answer = world.supervisor.send(command).await.unwrap();
    answer.unwrap().unwrap();
}

async fn pin(world: &Harness, name: &str, pin: Pin) {
    let name = name.parse().unwrap();
    let answer = world.supervisor.send(PinInstance { name, pin }).await;
    answer.unwrap().unwrap().unwrap();
}

async fn count(world: &Harness) -> usize {
    let list = world.supervisor.send(ListInstances::default());
    list.await.unwrap().len()
}

fn stored(world: &Harness, name: &str) -> InstanceRecord {
    let records = world.store.instances().unwrap();
    let mut named = records.into_iter().filter(|r| r.name.as_str() == name);
    named.next().expect("it is stored")
}

#[test]
fn unused_instance_is_marked_and_then_deleted_and_a_pinned_or_used_one_stays() {
    paused(async {
        let mut pinned = unused("pinned", 1);
        pinned.pin = Pin::Forever;
        let records = vec![pinned, unused("used", 2), unused("idle", 3)];
        let world = world_of(RETENTION - HOUR, records).await;
        let _held = attach(&world, "used").await.unwrap();
        pass(&world, 59 * MINUTE).await;
        assert!(!is_marked(&world, "idle").await);
        pass(&world, MINUTE).await;
        until_marked(&world, "idle").await;
        pass(&world, 23 * HOUR).await;
        assert!(is_marked(&world, "idle").await);
        assert!(stored(&world, "idle").marked.is_some());
        pass(&world, HOUR).await;
        until_gone(&world, "idle").await;
        for name in ["pinned", "used"] {
            assert!(!is_marked(&world, name).await);
        }
        assert_eq!(world.cloner.deleted.lock().unwrap().len(), 1);
    });
}

#[test]
fn wall_clock_that_jumps_expires_nothing() {
    paused(async {
        let world = world_of(DAY, vec![unused("a", 1), unused("b", 2)]).await;
        for days in [40, -40, 0, 4000, 0] {
            let ahead = SignedDuration::from_hours(24 * days);
            world.clock.set_wall_ahead(ahead);
            pass(&world, 3 * HOUR).await;
            assert_eq!(count(&world).await, 2);
            assert!(!is_marked(&world, "a").await && !is_marked(&world, "b").await);
        }
    });
}

#[test]
fn use_under_a_late_clock_counts_when_the_clock_is_corrected() {
    paused(async {
        let names = ["client", "start", "reset", "pin", "unpin"];
        let records = names.iter().zip(1..).map(|(name, bits)| unused(name, bits));
        let world = world_of(RETENTION - DAY, records.collect()).await;
        let before = status(&world, "client").await.unwrap().record.last_used_at;
        world
            .clock
            .set_wall_ahead(SignedDuration::from_hours(-40 * 24));
        let late = world.root_clock.now().wall;
        drop(attach(&world, "client").await.unwrap());
        control(&world, "start", Command::Start).await;
        control(&world, "reset", Command::Reset).await;
        let an_hour_later = late + SignedDuration::from_hours(1);
        pin(&world, "pin", Pin::Until(an_hour_later)).await;
        pin(&world, "unpin", Pin::None).await;
        for name in names {
            until_stopped(&world, name).await;
        }
        world.clock.set_wall_ahead(SignedDuration::ZERO);
        pass(&world, 27 * HOUR).await;
        for name in names {
            let record = status(&world, name).await.unwrap().record;
            assert_eq!(record.marked, None, "{name}");
            assert_eq!(record.last_used_at, before, "{name}: it went back");
        }
    });
}

#[test]
fn unpinned_old_instance_gets_its_retention_and_an_expiry_in_the_future() {
    paused(async {
        let mut old = unused("old", 1);
        old.pin = Pin::Forever;
        let world = world_of(400 * DAY, vec![old]).await;
        pass(&world, HOUR).await;
        pin(&world, "old", Pin::None).await;
        let now = world.root_clock.now();
        let record = status(&world, "old").await.unwrap().record;
        let shown = expires_at(&record, (&limits()).into(), now).unwrap();
        let expected = record.last_used_at + SignedDuration::try_from(31 * DAY).unwrap();
        assert_eq!((shown, shown > now.wall), (expected, true));
        pass(&world, 3 * HOUR).await;
        assert!(!is_marked(&world, "old").await);
    });
}

#[test]
fn end_of_a_pin_gives_the_grace() {
    paused(async {
        let mut pinned = unused("pinned", 1);
        // It had 50 days left when it was last used, and has two hours by the wall clock.
        pinned.last_used_at = FakeClock::START - SignedDuration::from_hours(50 * 24 - 2);
        let until = FakeClock::START + SignedDuration::from_hours(2);
        pinned.pin = Pin::Until(until);
        let world = world_of(50 * DAY - 2 * HOUR, vec![pinned]).await;
        pass(&world, HOUR + 59 * MINUTE).await;
        assert!(!is_marked(&world, "pinned").await);
        pass(&world, MINUTE).await;
        until_marked(&world, "pinned").await;
        pass(&world, 23 * HOUR).await;
        assert_eq!(count(&world).await, 1);
        pass(&world, HOUR).await;
        until_gone(&world, "pinned").await;
    });
}

#[test]
fn at_most_a_tenth_expires_in_an_hour_and_a_few_at_a_time() {
    paused(async {
        let records = (0..200).map(|bits| marked(&format!("i{bits}"), bits));
        let world = world_of(EXPIRED, records.collect()).await;
        let gate = world.cloner.delete_gate.write().await;
        let counts = || world.supervisor.send(CountInstances);
        let expected = [(StateName::Stopped, 184), (StateName::Deleting, 16)].into();
        while counts().await.unwrap().by_state != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(counts().await.unwrap().by_state, expected);
        drop(gate);
        for minutes in 0..180 {
            let gone = 200 - count(&world).await;
            assert!(
                gone <= 20 * (1 + minutes / 60),
                "{gone} in {minutes} minutes"
            );
            pass(&world, MINUTE).await;
        }
        while count(&world).await > 150 {
            pass(&world, MINUTE).await;
        }
    });
}

#[test]
fn use_of_a_marked_instance_is_durable_before_the_client_is_served() {
    paused(async {
        let world = world_of(
            RETENTION + HOUR,
            vec![marked("client", 1), marked("start", 2), marked("pin", 3)],
        )
        .await;
        let lease = attach(&world, "client").await.unwrap();
        assert_eq!(stored(&world, "client").marked, None);
        control(&world, "start", Command::Start).await;
        assert_eq!(stored(&world, "start").marked, None);
        pin(&world, "pin", Pin::Forever).await;
        assert_eq!(stored(&world, "pin").marked, None);
        drop(lease);
        pass(&world, 27 * HOUR).await;
        assert_eq!(count(&world).await, 3);
    });
}

#[test]
fn use_at_the_moment_of_the_deletion_keeps_the_instance() {
    paused(async {
        let client = async |world: &Harness| drop(attach(world, "a").await.unwrap());
        let pinned = async |world: &Harness| pin(world, "a", Pin::Forever).await;
        for is_pinned in [false, true] {
            let world = world_of(EXPIRED - HOUR, vec![marked("a", 1)]).await;
            let gate = world.cloner.read_gate.write().await;
            pass(&world, HOUR).await;
            while *world.cloner.reads.lock().unwrap() == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // The instance has been asked to delete itself, and reads its manifest.
            if is_pinned {
                pinned(&world).await;
            } else {
                client(&world).await;
            }
            drop(gate);
            pass(&world, 3 * HOUR).await;
            assert!(!is_marked(&world, "a").await);
            assert_eq!(*world.cloner.deleted.lock().unwrap(), []);
        }
    });
}

#[test]
fn pin_in_the_manifest_protects_from_an_older_record() {
    paused(async {
        let world = world_of(EXPIRED - HOUR, vec![marked("a", 1)]).await;
        let pinned = InstanceRecord {
            pin: Pin::Forever,
            ..unused("a", 1)
        };
        world.cloner.manifests.lock().unwrap().push(pinned);
        pass(&world, HOUR).await;
        while status(&world, "a").await.unwrap().record.pin != Pin::Forever {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        while stored(&world, "a").pin != Pin::Forever {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(!is_marked(&world, "a").await);
        assert_eq!(*world.cloner.deleted.lock().unwrap(), []);
    });
}

#[test]
fn instance_whose_manifest_cannot_be_read_is_kept() {
    paused(async {
        let world = world_of(EXPIRED - HOUR, vec![marked("a", 1)]).await;
        let fail = |message: Option<&str>| {
            *world.cloner.read_failure.lock().unwrap() =
                message.map(|message| CloneError::Failed {
                    message: message.to_owned(),
                });
        };
        fail(Some("input/output error"));
        pass(&world, HOUR).await;
        let first = marked("a", 1).marked;
        while status(&world, "a").await.unwrap().record.marked == first {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        fail(None);
        pass(&world, 23 * HOUR).await;
        assert_eq!(count(&world).await, 1);
        pass(&world, HOUR).await;
        until_gone(&world, "a").await;
    });
}

#[test]
fn expiry_waits_until_the_clocks_have_agreed_for_an_hour() {
    paused(async {
        let world = world_of(EXPIRED - HOUR, vec![marked("a", 1), unused("b", 2)]).await;
        let paused_for = async || {
            let status = world.supervisor.send(GetExpiryStatus).await.unwrap();
            status.paused_for
        };
        assert_eq!(paused_for().await, None);
        world.clock.set_wall_ahead(SignedDuration::from_secs(61));
        pass(&world, 55 * MINUTE).await;
        assert!(paused_for().await.is_some());
        world.clock.set_wall_ahead(SignedDuration::ZERO);
        // The instances are due for an hour now.
        pass(&world, 60 * MINUTE).await;
        assert!(paused_for().await.is_some());
        assert_eq!(count(&world).await, 2);
        assert!(!is_marked(&world, "b").await);
        pass(&world, 10 * MINUTE).await;
        assert_eq!(paused_for().await, None);
        until_gone(&world, "a").await;
        until_marked(&world, "b").await;
    });
}

#[test]
fn deletion_is_noted_before_it_begins() {
    paused(async {
        let world = world_of(EXPIRED - HOUR, vec![marked("a", 1), marked("b", 2)]).await;
        let gate = world.cloner.read_gate.write().await;
        pass(&world, HOUR).await;
        let expired = ObservedTime::default() + RETENTION + DAY;
        while *world.cloner.reads.lock().unwrap() == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let noted = world.store.time(StoredTime::LastExpiry).unwrap();
        assert!(noted.unwrap() >= expired, "{noted:?}");
        drop(gate);
        while count(&world).await == 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let stored = world.store.time(StoredTime::Observed).unwrap();
        assert!(
            stored.unwrap() > ObservedTime::default() + RETENTION,
            "{stored:?}"
        );
    });
}

#[test]
fn sleep_of_the_machine_takes_nothing_from_the_grace() {
    paused(async {
        let records = vec![marked("a", 1), unused("b", 2)];
        let world = world_of(RETENTION - HOUR, records).await;
        world.clock.pass(40 * DAY);
        pass(&world, 30 * MINUTE).await;
        assert_eq!(count(&world).await, 2);
        assert!(!is_marked(&world, "b").await);
        let status = world.supervisor.send(GetExpiryStatus).await.unwrap();
        assert_eq!(status.paused_for, None);
    });
}
