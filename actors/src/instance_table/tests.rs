//! The counts and orders against a naive recount, over random sequences of changes.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{Mark, Phase, Pin};
use proptest::prelude::*;

use super::*;
use crate::instance::lifecycle::{AfterStop, Job};
use crate::ports::RuntimeError;
use crate::testing::record;

const PERIODS: ExpiryPeriods = ExpiryPeriods {
    retention: Duration::from_secs(100),
    grace: Duration::from_secs(50),
};

/// A change of one of a few instances.
#[derive(Debug, Clone)]
enum Change {
    Publish(InstanceStatus),
    Remove(InstanceName),
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn observed(second: u64) -> ObservedTime {
    ObservedTime::from_millis(second * 1000)
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
        for_clients: false,
        message: "no".to_owned(),
        hint: None,
    })
}

fn any_status() -> impl Strategy<Value = InstanceStatus> {
    let times = (0..200u64, prop::option::of(0..300u64));
    let of_record = (0..8u8, "[ab]", "[st]", "[pq]", times, any_pin());
    let until = prop::option::of(0..3u64);
    let of_run = (any_state(), any::<bool>(), any::<bool>(), until);
    (of_record, of_run).prop_map(|(of_record, (state, unused, stop_failed, until))| {
        let resident_until = until.map(|seconds| *START + Duration::from_secs(seconds));
        let (number, created_by, snapshot, project, (last_used, marked), pin) = of_record;
        let mut record = record(name(number).as_str(), 1, Phase::Ready);
        record.created_by = created_by;
        record.snapshot = snapshot.parse().unwrap();
        record.project = project.parse().unwrap();
        record.last_used_at = at(0);
        record.last_used_observed = observed(last_used);
        record.marked = marked.map(|marked| Mark {
            at: at(0),
            observed: observed(marked),
        });
        record.pin = pin;
        InstanceStatus {
            unused,
            failure: stop_failed.then(stop_failure),
            resident_until,
            ..InstanceStatus::unused(record, state)
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

/// The instances for which the step is due, from the statuses alone.
fn due(statuses: &[InstanceStatus], step: ExpiryStep, now: ObservedTime) -> Vec<Timed> {
    let is_stopped = |status: &InstanceStatus| {
        status.unused && matches!(status.state, State::Stopped | State::Failed)
    };
    let stopped = statuses.iter().filter(|status| is_stopped(status));
    let timed = stopped.filter_map(|status| {
        let next = retention::due(&status.record, PERIODS)?;
        let is_due = next.step == step && next.at <= now;
        is_due.then(|| (next.at, status.record.name.clone()))
    });
    let mut due: Vec<_> = timed.collect();
    due.sort();
    due
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
    let marked = statuses.iter().filter(|s| s.record.marked.is_some());
    assert_eq!(table.count_marked(), marked.count());
    assert_eq!(table.count(), statuses.len());
    let steps = [ExpiryStep::Mark, ExpiryStep::Delete];
    let moments = [0, 100, 200, 301, 400].map(observed);
    for (step, now) in steps
        .into_iter()
        .flat_map(|step| moments.map(|now| (step, now)))
    {
        let expected = due(&statuses, step, now);
        assert_eq!(table.due(step, now, None, usize::MAX), expected);
        assert_eq!(table.count_due(step, now), expected.len());
        // In batches, each from behind the last one.
        let mut batches: Vec<Timed> = Vec::new();
        loop {
            let batch = table.due(step, now, batches.last(), 2);
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
        let table = InstanceTable::new(PERIODS);
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
        let table = InstanceTable::new(PERIODS);
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
    let table = InstanceTable::new(PERIODS);
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
    let table = InstanceTable::new(PERIODS);
    let (sender, mut ended) = mpsc::unbounded_channel();
    let record = record("i1", 1, Phase::Ready);
    let mut publisher = table.publisher(name(1), sender);
    let status = |record| InstanceStatus::unused(record, State::Failed);
    publisher.publish(&record, status);
    let first = table.get(&name(1)).unwrap().record;
    publisher.publish(&record, status);
    assert!(Arc::ptr_eq(&first, &table.get(&name(1)).unwrap().record));
    drop(publisher);
    assert_eq!(ended.try_recv(), Ok(ActorEnded(name(1))));
    assert_eq!(table.get(&name(1)).unwrap().state, State::Failed);
}

fn status(number: u8, state: State, failure: Option<InstanceError>) -> InstanceStatus {
    let record = record(name(number).as_str(), 1, Phase::Ready);
    InstanceStatus {
        failure,
        ..InstanceStatus::unused(record, state)
    }
}

#[test]
fn reader_is_told_of_all_once_and_then_of_what_changes() {
    let table = InstanceTable::new(PERIODS);
    (0..3).for_each(|number| table.publish(status(number, State::Stopped, None)));
    let mut changes = table.changes();
    let all: Vec<_> = changes.take().into_keys().collect();
    assert_eq!(all, [name(0), name(1), name(2)]);
    assert!(changes.take().is_empty());
    table.remove(&name(0));
    let job = Job::default();
    table.publish(status(2, State::Starting { job }, None));
    table.publish(status(2, State::Running { job, idle: None }, None));
    let states: Vec<_> = changes
        .take()
        .into_iter()
        .map(|(name, change)| (name, change.status.map(|one| StateName::from(one.state))))
        .collect();
    assert_eq!(
        states,
        [(name(0), None), (name(2), Some(StateName::Running))]
    );
    assert!(changes.take().is_empty());
    // Readers do not take from one another, and a dropped reader costs nothing.
    let mut other = table.changes();
    table.publish(status(1, State::Failed, None));
    assert_eq!(changes.take().len(), 1);
    assert_eq!(other.take().len(), 2);
    drop((changes, other));
    table.publish(status(1, State::Stopped, None));
    assert!(format!("{:?}", table.rows().readers).contains("[]"));
}

#[test]
fn failure_that_is_over_is_not_missed() {
    let table = InstanceTable::new(PERIODS);
    let mut changes = table.changes();
    let failed = |error| status(1, State::Failed, Some(error));
    for error in [InstanceError::Died, InstanceError::Died, stop_failure()] {
        table.publish(failed(error));
        table.publish(status(1, State::Stopped, None));
    }
    // Without a reason there is nothing to tell.
    table.publish(status(2, State::Failed, None));
    // The failure of a stop is not that of the instance.
    table.publish(status(3, State::Stopped, Some(stop_failure())));
    table.remove(&name(1));
    let codes = |change: &InstanceChange| -> Vec<&str> {
        let failures = change.failures.iter();
        let failures = failures.filter_map(|one| one.failure.as_ref());
        failures.map(InstanceError::code).collect()
    };
    let taken = changes.take();
    let told: Vec<_> = taken.values().map(codes).collect();
    assert_eq!(told, [vec!["actor_ended", "stop_failed"], vec![], vec![]]);
    assert!(taken[&name(1)].status.is_none());
    // It is told once; a lasting failure is the status'.
    table.publish(failed(InstanceError::Died));
    assert_eq!(changes.take()[&name(1)].failures.len(), 1);
    table.publish(status(1, State::Stopped, None));
    assert!(changes.take()[&name(1)].failures.is_empty());
}
