use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multidb_actors::testing::{limits, record};
use multidb_store::{Class, Mark, ObservedTime, Phase, Pin};
use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The observed time of all questions, in seconds.
const NOW: u64 = 40 * DAY;

fn at(seconds: u64) -> ObservedTime {
    ObservedTime::from_millis(seconds * 1000)
}

/// A moment by a wall clock that is so far ahead.
fn now(ahead: i64) -> Moment {
    let wall = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(NOW.cast_signed() + ahead);
    Moment {
        wall,
        since_boot: Duration::ZERO,
        observed: at(NOW),
    }
}

/// An instance that was last used so many seconds ago.
fn unused(bits: u64, ago: u64) -> InstanceRecord {
    let name = format!("i{bits}");
    InstanceRecord {
        last_used_observed: at(NOW - ago),
        last_used_at: now(0).wall - SignedDuration::from_secs(ago.cast_signed()),
        ..record(&name, bits, Phase::Ready)
    }
}

fn candidate(record: InstanceRecord) -> Candidate {
    Candidate {
        record: Arc::new(record),
        is_busy: false,
        exclusive_bytes: Some(5 * GAIN_BYTES_MIN),
    }
}

fn marked(record: InstanceRecord) -> InstanceRecord {
    InstanceRecord {
        marked: Some(Mark {
            at: Timestamp::UNIX_EPOCH,
            observed: at(NOW),
        }),
        ..record
    }
}

/// The names of the instances that go, and the steps before, if each step has its effect. All that are measured have
/// five times the least gain.
fn order(mut facts: Situation) -> Vec<String> {
    let mut steps = Vec::new();
    loop {
        match next(&facts, &limits(), now(0)) {
            Step::EmptyTrash => facts.has_trash = false,
            Step::Deduplicate => facts.dedup = Dedup::Running,
            Step::AwaitDedup => facts.dedup = Dedup::Done,
            Step::DeleteSnapshots => facts.unkept = 0,
            Step::Measure(unmeasured) => {
                for Unmeasured { name, uid } in unmeasured {
                    let mut all = facts.instances.iter_mut();
                    let measured = all.find(|one| one.record.uid == uid).unwrap();
                    measured.exclusive_bytes = Some(5 * GAIN_BYTES_MIN);
                    facts.bytes_taken_max += 5 * GAIN_BYTES_MIN;
                    steps.push(format!("measure {name}"));
                }
                continue;
            }
            Step::DeleteInstance(Choice {
                name,
                uid,
                exclusive_bytes,
                ..
            }) => {
                facts.instances.retain(|one| one.record.uid != uid);
                facts.bytes_above = facts.bytes_above.saturating_sub(exclusive_bytes);
                steps.push(name.to_string());
                continue;
            }
            step @ (Step::Rest | Step::NothingLeft | Step::FilledByOthers) => {
                steps.push(format!("{step:?}"));
                return steps;
            }
        }
        steps.push(format!("{:?}", facts.dedup));
    }
}

#[test]
fn steps_have_their_order_and_end_at_the_mark() {
    let instances = [
        unused(1, 3 * DAY),
        unused(2, 4 * DAY),
        marked(unused(3, 31 * DAY)),
        marked(unused(4, 32 * DAY)),
        unused(5, 2 * DAY),
    ];
    let facts = Situation {
        bytes_above: 16 * GAIN_BYTES_MIN,
        has_trash: true,
        dedup: Dedup::Pending,
        bytes_taken_max: 100 * GAIN_BYTES_MIN,
        unkept: 2,
        instances: instances.map(candidate).into(),
        ..Situation::default()
    };
    let expected = [
        "Pending", "Running", "Done", "Done", "i4", "i3", "i2", "i1", "Rest",
    ];
    assert_eq!(order(facts), expected);
}

#[test]
fn dedup_is_waited_for_only_above_the_reserve() {
    let facts = |is_below_reserve| Situation {
        bytes_above: 1,
        bytes_taken_max: 1,
        is_below_reserve,
        dedup: Dedup::Running,
        ..Situation::default()
    };
    let next = |facts| next(&facts, &limits(), now(0));
    assert_eq!(next(facts(false)), Step::AwaitDedup);
    assert_eq!(next(facts(true)), Step::NothingLeft);
}

#[test]
fn nothing_but_trash_goes_where_something_else_fills_the_disk() {
    let mut facts = Situation {
        bytes_above: 20 * GAIN_BYTES_MIN,
        bytes_taken_max: 20 * GAIN_BYTES_MIN - 1,
        has_trash: true,
        unkept: 1,
        instances: vec![candidate(marked(unused(1, 31 * DAY)))],
        ..Situation::default()
    };
    assert_eq!(order(facts.clone()), ["Done", "FilledByOthers"]);
    facts.bytes_taken_max += 1;
    assert_eq!(order(facts), ["Done", "Done", "i1", "NothingLeft"]);
}

#[test]
fn instance_that_was_not_measured_is_measured_where_something_depends_on_it() {
    let unmeasured = |record| Candidate {
        exclusive_bytes: None,
        ..candidate(record)
    };
    let mut facts = Situation {
        bytes_above: 4 * GAIN_BYTES_MIN,
        bytes_taken_max: 100 * GAIN_BYTES_MIN,
        instances: vec![
            candidate(unused(1, 3 * DAY)),
            unmeasured(unused(2, 4 * DAY)),
            unmeasured(unused(3, 2 * DAY)),
            unmeasured(unused(4, HOUR)),
        ],
        ..Situation::default()
    };
    let expected = ["measure i2", "measure i3", "i2", "Rest"];
    assert_eq!(order(facts.clone()), expected);
    // A younger one waits until it is asked for.
    facts.instances[1] = candidate(unused(2, 4 * DAY));
    assert_eq!(order(facts.clone()), ["i2", "Rest"]);
    // Any instance may have the missing bytes, also one that may not be deleted.
    facts.bytes_above = 20 * GAIN_BYTES_MIN;
    facts.bytes_taken_max = 11 * GAIN_BYTES_MIN;
    let measured = ["measure i3", "measure i4"];
    let mut expected = measured.to_vec();
    expected.extend(["i2", "i1", "i3", "NothingLeft"]);
    assert_eq!(order(facts.clone()), expected);
    facts.bytes_taken_max = 9 * GAIN_BYTES_MIN;
    let mut expected = measured.to_vec();
    expected.push("FilledByOthers");
    assert_eq!(order(facts), expected);
}

fn pins() -> impl Strategy<Value = Pin> {
    let until = (-40 * DAY.cast_signed()..40 * DAY.cast_signed())
        .prop_map(|seconds| Pin::Until(now(0).wall + SignedDuration::from_secs(seconds)));
    prop_oneof![3 => Just(Pin::None), 1 => Just(Pin::Forever), 1 => until]
}

prop_compose! {
    fn candidates()(
        bits in 1..1000_u64,
        ago in prop_oneof![0..2 * DAY, 0..NOW],
        pin in pins(),
        is_marked: bool,
        is_scratch: bool,
        ttl in prop::option::of(60..40 * DAY),
        is_busy in prop::bool::weighted(0.2),
        bytes in prop::option::of(0..20 * GAIN_BYTES_MIN),
    ) -> Candidate {
        let record = InstanceRecord {
            pin,
            class: if is_scratch { Class::Scratch } else { Class::Durable },
            ttl: ttl.map(Duration::from_secs),
            ..unused(bits, ago)
        };
        let record = if is_marked { marked(record) } else { record };
        Candidate { is_busy, exclusive_bytes: bytes, ..candidate(record) }
    }
}

proptest! {
    #[test]
    fn nothing_young_pinned_or_in_use_goes_whatever_the_wall_clock_says(
        instances in prop::collection::vec(candidates(), 0..12),
        bytes_above in 0..50 * GAIN_BYTES_MIN,
        ahead in -4000 * DAY.cast_signed()..4000 * DAY.cast_signed(),
    ) {
        let facts = Situation {
            bytes_above,
            bytes_taken_max: u64::MAX,
            instances: instances.clone(),
            ..Situation::default()
        };
        let step = next(&facts, &limits(), now(ahead));
        prop_assert_eq!(bytes_above == 0, step == Step::Rest);
        if let Step::Measure(unmeasured) = &step {
            prop_assert!(!unmeasured.is_empty() && unmeasured.len() <= MEASURED_AT_ONCE);
            let is_unknown = |one: &&Candidate| one.exclusive_bytes.is_none();
            let unknown: Vec<_> = instances.iter().filter(is_unknown).map(|one| one.record.uid).collect();
            prop_assert!(unmeasured.iter().all(|one| unknown.contains(&one.uid)));
        }
        let Step::DeleteInstance(choice) = step else { return Ok(()) };
        let of = |one: &&Candidate| one.record.uid == choice.uid
            && one.exclusive_bytes == Some(choice.exclusive_bytes)
            && one.record.name == choice.name;
        let chosen: Vec<_> = instances.iter().filter(of).collect();
        let may_go = |one: &&Candidate| {
            let record = &one.record;
            let unused = at(NOW).since(record.last_used_observed);
            let lifetime = record.ttl.unwrap_or(limits().retention);
            let protected = match record.class {
                Class::Durable => Duration::from_secs(DAY),
                Class::Scratch => limits().instance_idle_timeout,
            };
            !one.is_busy && record.pin != Pin::Forever && unused >= protected.min(lifetime)
        };
        prop_assert!(chosen.into_iter().any(|one| may_go(&one)));
        prop_assert!(choice.exclusive_bytes >= GAIN_BYTES_MIN);
    }
}
