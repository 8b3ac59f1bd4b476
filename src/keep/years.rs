//! Years of a project's snapshots, day by day: refreshes, also failing ones, imports of old data, instances, pins,
//! removals by hand, and a wall clock that stands in another year for some days.

use jiff::{SignedDuration, Timestamp};
use multidb_store::{ObservedTime, SnapshotPin};
use proptest::prelude::*;

use super::tests::any_rule;
use super::{Candidate, Held, KeepRule, reasons};

const DAY_SECONDS: i64 = 86_400;
const FIRST_DAY: i64 = 1_767_225_600;

/// An event of a day.
#[derive(Debug, Clone)]
enum Event {
    /// Nothing: the source is away.
    Nothing,
    /// A refresh, at this second of the day.
    Refresh(i64),
    /// An import of data that is so many days old.
    Import(i64),
    /// An instance is made of one of the snapshots.
    Create(prop::sample::Index),
    /// All instances of one are deleted.
    DeleteInstances(prop::sample::Index),
    /// One is pinned for so many days, or for good.
    Pin(prop::sample::Index, Option<i64>),
    Unpin(prop::sample::Index),
    /// An operator deletes one.
    Remove(prop::sample::Index),
    /// The wall clock is so many days off for some days.
    Jump(i64, u8),
}

#[derive(Debug, Clone, Default)]
struct Snapshot {
    taken_at: Timestamp,
    imported_at: Timestamp,
    instances: usize,
    pin: SnapshotPin,
}

struct Project {
    rule: KeepRule,
    snapshots: Vec<Snapshot>,
    day: i64,
    /// By how many days the wall clock is off, and for how many days more.
    off: (i64, u8),
}

impl Project {
    fn new(rule: KeepRule) -> Self {
        Self {
            rule,
            snapshots: Vec::new(),
            day: 0,
            off: (0, 0),
        }
    }

    fn wall(&self, second: i64) -> Timestamp {
        let seconds = FIRST_DAY + (self.day + self.off.0) * DAY_SECONDS + second;
        Timestamp::from_second(seconds).unwrap()
    }

    fn observed(&self) -> ObservedTime {
        ObservedTime::default() + days(self.day)
    }

    fn is_pinned(&self, snapshot: &Snapshot) -> bool {
        snapshot.pin.holds(self.wall(0), self.observed())
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |snapshot: &Snapshot| Candidate {
            taken_at: snapshot.taken_at,
            imported_at: snapshot.imported_at,
            held: match snapshot.instances {
                _ if self.is_pinned(snapshot) => Some(Held::Pinned),
                0 => None,
                count => Some(Held::Instances(count)),
            },
            derived: false,
            migrations: 0,
        };
        self.snapshots.iter().map(candidate).collect()
    }

    fn add(&mut self, taken_at: Timestamp, second: i64) {
        self.snapshots.push(Snapshot {
            taken_at,
            imported_at: self.wall(second),
            ..Snapshot::default()
        });
    }

    fn next_day(&mut self) {
        self.day += 1;
        self.off.1 = self.off.1.saturating_sub(1);
        if self.off.1 == 0 {
            self.off.0 = 0;
        }
    }

    fn happen(&mut self, event: &Event) {
        let (wall, observed, count) = (self.wall(0), self.observed(), self.snapshots.len());
        let pick = |index: &prop::sample::Index| (count > 0).then(|| index.index(count));
        match event {
            Event::Nothing => {}
            Event::Refresh(second) => self.add(self.wall(*second), *second),
            Event::Import(age) => self.add(self.wall(-age * DAY_SECONDS), 0),
            Event::Create(one) => pick(one)
                .into_iter()
                .for_each(|at| self.snapshots[at].instances += 1),
            Event::DeleteInstances(one) => {
                pick(one)
                    .into_iter()
                    .for_each(|at| self.snapshots[at].instances = 0);
            }
            Event::Pin(one, length) => {
                let until = |length: &i64| SnapshotPin::Until {
                    at: wall + SignedDuration::from_hours(24 * length),
                    observed: observed + days(*length),
                };
                let pin = length.as_ref().map_or(SnapshotPin::Forever, until);
                pick(one)
                    .into_iter()
                    .for_each(|at| self.snapshots[at].pin = pin);
            }
            Event::Unpin(one) => {
                pick(one)
                    .into_iter()
                    .for_each(|at| self.snapshots[at].pin = SnapshotPin::None);
            }
            // As `snapshot rm`, which refuses one with instances.
            Event::Remove(one) => {
                if let Some(at) = pick(one).filter(|at| self.snapshots[*at].instances == 0) {
                    self.snapshots.remove(at);
                }
            }
            Event::Jump(by, length) => self.off = (*by, *length),
        }
    }

    /// Applies the rule, and returns the deleted snapshots.
    fn keep(&mut self) -> Vec<Snapshot> {
        let reasons = reasons(&self.candidates(), &self.rule, &jiff::tz::TimeZone::UTC);
        let all = std::mem::take(&mut self.snapshots).into_iter().zip(reasons);
        let (kept, gone): (Vec<_>, Vec<_>) = all.partition(|(_, reasons)| !reasons.is_empty());
        self.snapshots = kept.into_iter().map(|(snapshot, _)| snapshot).collect();
        gone.into_iter().map(|(snapshot, _)| snapshot).collect()
    }
}

fn days(count: i64) -> std::time::Duration {
    std::time::Duration::from_secs((count * DAY_SECONDS).unsigned_abs())
}

fn any_event() -> impl Strategy<Value = Event> {
    let one = any::<prop::sample::Index>;
    prop_oneof![
        30 => (0..DAY_SECONDS).prop_map(Event::Refresh),
        3 => Just(Event::Nothing),
        2 => (0_i64..800).prop_map(Event::Import),
        3 => one().prop_map(Event::Create),
        3 => one().prop_map(Event::DeleteInstances),
        1 => (one(), prop::option::of(1_i64..90)).prop_map(|(one, length)| Event::Pin(one, length)),
        1 => one().prop_map(Event::Unpin),
        1 => one().prop_map(Event::Remove),
        1 => (-9000_i64..9000, 1_u8..9).prop_map(|(by, length)| Event::Jump(by, length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn years_of_snapshots_lose_none_that_is_needed_and_keep_no_more_than_the_rule(
        rule in any_rule(), events in prop::collection::vec(any_event(), 1100)
    ) {
        let mut project = Project::new(rule);
        let places = rule.last + rule.daily + rule.weekly + rule.monthly + 1;
        for event in &events {
            project.next_day();
            // A pin may have ended.
            for event in [&Event::Nothing, event] {
                project.happen(event);
                let newest = project.snapshots.iter().map(|one| one.taken_at).max();
                let gone = project.keep();
                for one in &gone {
                    prop_assert_eq!(one.instances, 0, "an instance needs it");
                    prop_assert!(!project.is_pinned(one));
                    prop_assert_ne!(Some(one.taken_at), newest);
                }
                let left = &project.snapshots;
                let free = left.iter().filter(|one| one.instances == 0 && !project.is_pinned(one));
                prop_assert!(free.count() <= places);
                // One with a time of another year takes one place of each kind.
                if matches!(event, Event::Refresh(_)) && project.off.0 != 0 {
                    prop_assert!(gone.len() <= 5, "{gone:?}");
                }
            }
        }
    }

    #[test]
    fn deletions_day_by_day_leave_what_the_rule_keeps_of_all(
        rule in any_rule(),
        gaps in prop::collection::vec((0_i64..3, 0..DAY_SECONDS), 700)
    ) {
        let mut project = Project::new(rule);
        let mut all = Project::new(rule);
        for (gap, second) in gaps {
            for one in [&mut project, &mut all] {
                one.day += gap;
                one.add(one.wall(second), second);
            }
            project.keep();
        }
        all.keep();
        let times = |project: &Project| {
            let mut times: Vec<Timestamp> = project.snapshots.iter().map(|one| one.taken_at).collect();
            times.sort();
            times
        };
        prop_assert_eq!(times(&project), times(&all));
    }
}
