//! The counts and orders against a naive recount, over random sequences of changes.

use std::sync::LazyLock;
use std::time::Duration;

use multidb_store::{Phase, Pin};
use proptest::prelude::*;

use super::*;
use crate::instance::lifecycle::{AfterStop, Job};
use crate::ports::RuntimeError;
use crate::testing::record;

const RETENTION: Duration = Duration::from_secs(100);

/// A change of one of a few instances.
#[derive(Debug, Clone)]
enum Change {
    Publish(InstanceStatus),
    Remove(InstanceName),
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn name(number: u8) -> InstanceName {
    format!("i{number}").parse().unwrap()
}

fn any_state() -> impl Strategy<Value = State> {
    let job = Job::default();
    prop_oneof![
        3 => Just(State::Stopped),
        3 => Just(State::Running { job, idle: None }),
        1 => Just(State::Starting { job }),
        1 => Just(State::Stopping { job, then: AfterStop::Stopped }),
        1 => Just(State::Failed),
        1 => Just(State::Deleting { job }),
        1 => Just(State::Gone),
    ]
}

fn any_pin() -> impl Strategy<Value = Pin> {
    prop_oneof![
        4 => Just(Pin::None),
        1 => Just(Pin::Forever),
        1 => (0..300i64).prop_map(|second| Pin::Until(at(second))),
    ]
}

/// The beginning of all residencies.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn stop_failure() -> InstanceError {
    InstanceError::Stop(RuntimeError {
        message: "no".to_owned(),
        hint: None,
    })
}

fn any_status() -> impl Strategy<Value = InstanceStatus> {
    let of_record = (0..8u8, "[ab]", "[st]", "[pq]", 0..200i64, any_pin());
    let until = prop::option::of(0..3u64);
    let of_run = (any_state(), any::<bool>(), any::<bool>(), until);
    (of_record, of_run).prop_map(|(of_record, (state, unused, stop_failed, until))| {
        let resident_until = until.map(|seconds| *START + Duration::from_secs(seconds));
        let (number, created_by, snapshot, project, last_used, pin) = of_record;
        let mut record = record(name(number).as_str(), 1, Phase::Ready);
        record.created_by = created_by;
        record.snapshot = snapshot.parse().unwrap();
        record.project = project.parse().unwrap();
        record.last_used_at = at(last_used);
        record.last_used_observed = ObservedTime::from_millis(last_used.unsigned_abs());
        record.pin = pin;
        InstanceStatus {
            record: Arc::new(record),
            state,
            sessions: 0,
            unused,
            endpoint: None,
            failure: stop_failed.then(stop_failure),
            waits_for_slot: false,
            resident_until,
        }
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => any_status().prop_map(Change::Publish),
        1 => (0..8u8).prop_map(|number| Change::Remove(name(number))),
    ]
}

fn any_filter() -> impl Strategy<Value = InstanceFilter> {
    (
        prop::option::of("[pq]"),
        prop::option::of(prop::sample::select(StateName::ALL.to_vec())),
        prop::option::of("[ab]"),
        prop::option::of(0..8u8),
        prop::option::of(0..5usize),
    )
        .prop_map(
            |(project, state, created_by, after, limit)| InstanceFilter {
                project: project.map(|project| project.parse().unwrap()),
                state,
                created_by,
                after: after.map(name),
                limit,
            },
        )
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

fn names(statuses: &[InstanceStatus]) -> Vec<InstanceName> {
    let names = statuses.iter().map(|status| status.record.name.clone());
    names.collect()
}

/// The instances that expired before `now`, from the statuses alone.
fn expired(statuses: &[InstanceStatus], now: Timestamp) -> Vec<Timed> {
    let is_stopped = |status: &InstanceStatus| {
        status.unused && matches!(status.state, State::Stopped | State::Failed)
    };
    let stopped = statuses.iter().filter(|status| is_stopped(status));
    let timed = stopped.filter_map(|status| {
        let at = retention::expires_at(&status.record, RETENTION)?;
        (at <= now).then(|| (at, status.record.name.clone()))
    });
    let mut expired: Vec<_> = timed.collect();
    expired.sort();
    expired
}

fn check(table: &InstanceTable, model: &BTreeMap<InstanceName, InstanceStatus>) {
    let statuses: Vec<_> = model.values().cloned().collect();
    let state = |status: &InstanceStatus| StateName::from(status.state);
    let counts = table.counts();
    assert_eq!(counts.by_state, count(statuses.iter().map(state)));
    let snapshots = statuses.iter().map(|s| s.record.snapshot.clone());
    assert_eq!(counts.by_snapshot, count(snapshots));
    for (state, number) in &counts.by_state {
        assert_eq!(table.count_in(*state), *number);
    }
    for (snapshot, number) in &counts.by_snapshot {
        assert_eq!(table.count_of(snapshot), *number);
        assert_eq!(table.names_of(snapshot, usize::MAX).len(), *number);
    }
    for user in ["a", "b"] {
        let created = statuses.iter().filter(|s| s.record.created_by == user);
        assert_eq!(table.count_created_by(user), created.count());
    }
    for now in (0..4).map(|seconds| *START + Duration::from_secs(seconds)) {
        let mut evictable: Vec<_> = statuses
            .iter()
            .filter(|s| matches!(s.state, State::Running { .. }) && s.unused)
            .filter(|s| s.resident_until.is_none_or(|until| until <= now))
            .collect();
        evictable.sort_by_key(|s| (s.record.last_used_observed, s.record.name.clone()));
        let evictable = evictable.iter().map(|s| s.record.name.clone());
        assert_eq!(table.evictable(now), evictable.collect::<Vec<_>>());
    }
    let releasing = statuses
        .iter()
        .filter(|s| matches!(s.state, State::Stopping { .. }) && s.failure.is_none());
    assert_eq!(table.count_releasing(), releasing.count());
    for now in [0, 100, 200, 301].map(at) {
        let expected = expired(&statuses, now);
        assert_eq!(table.expired(now, None, usize::MAX), expected);
        // In batches, each from behind the last one.
        let mut batches: Vec<Timed> = Vec::new();
        loop {
            let batch = table.expired(now, batches.last(), 2);
            if batch.is_empty() {
                break;
            }
            batches.extend(batch);
        }
        assert_eq!(batches, expected);
    }
}

proptest! {
    #[test]
    fn counts_and_orders_equal_a_recount(changes in prop::collection::vec(any_change(), 1..60)) {
        let table = InstanceTable::new(RETENTION);
        let mut model = BTreeMap::new();
        for change in changes {
            match change {
                Change::Publish(status) => {
                    let name = status.record.name.clone();
                    table.rows().replace(&name, Some(status.clone()));
                    model.insert(name, status);
                }
                Change::Remove(name) => {
                    table.remove(&name);
                    model.remove(&name);
                }
            }
            check(&table, &model);
        }
    }

    #[test]
    fn list_has_what_the_filter_lets_through(
        statuses in prop::collection::vec(any_status(), 0..12),
        filter in any_filter(),
    ) {
        let table = InstanceTable::new(RETENTION);
        for status in &statuses {
            table.rows().replace(&status.record.name, Some(status.clone()));
        }
        let all = table.list(&InstanceFilter::default());
        let expected = all.into_iter().filter(|s| {
            filter.after.as_ref().is_none_or(|after| s.record.name > *after)
                && filter.project.as_ref().is_none_or(|p| s.record.project == *p)
                && filter.state.is_none_or(|state| s.state.name() == state.as_str())
                && filter.created_by.as_ref().is_none_or(|user| s.record.created_by == *user)
        });
        let expected: Vec<_> = expected.take(filter.limit.unwrap_or(100)).collect();
        prop_assert_eq!(names(&table.list(&filter)), names(&expected));
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_overlap() {
    let table = InstanceTable::new(RETENTION);
    for number in 0..10 {
        table.insert_stopped(record(name(number).as_str(), 1, Phase::Ready));
    }
    let mut filter = InstanceFilter {
        limit: Some(3),
        ..InstanceFilter::default()
    };
    let mut paged = Vec::new();
    loop {
        let page = names(&table.list(&filter));
        let Some(last) = page.last() else { break };
        filter.after = Some(last.clone());
        paged.extend(page);
    }
    assert_eq!(paged, (0..10).map(name).collect::<Vec<_>>());
}

#[test]
fn end_of_an_actor_is_sent_and_its_row_stays() {
    let table = InstanceTable::new(RETENTION);
    let (sender, mut ended) = mpsc::unbounded_channel();
    let record = record("i1", 1, Phase::Ready);
    let mut publisher = table.publisher(name(1), sender);
    let status = |record| InstanceStatus {
        record,
        state: State::Failed,
        sessions: 0,
        unused: true,
        endpoint: None,
        failure: None,
        waits_for_slot: false,
        resident_until: None,
    };
    publisher.publish(&record, status);
    let first = table.get(&name(1)).unwrap().record;
    publisher.publish(&record, status);
    assert!(Arc::ptr_eq(&first, &table.get(&name(1)).unwrap().record));
    drop(publisher);
    assert_eq!(ended.try_recv(), Ok(ActorEnded(name(1))));
    assert_eq!(table.get(&name(1)).unwrap().state, State::Failed);
}
