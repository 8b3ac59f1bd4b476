use jiff::SignedDuration;
use multidb_store::{JobFailure, ObservedTime};

use super::*;
use crate::config::Cron;

const START: &str = "2026-01-31T12:00:00Z";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A project whose refreshes end at once, as this says.
struct World {
    plan: Plan,
    jobs: Vec<JobRecord>,
    /// Seconds since [`START`], without jumps.
    passed: i64,
    /// The wall clock's jumps, in seconds.
    ahead: i64,
    works: bool,
}

impl World {
    fn new(schedule: &str) -> Self {
        let schedule = match schedule.parse::<humantime::Duration>() {
            Ok(every) => RefreshSchedule::Every(every.into()),
            Err(_) => RefreshSchedule::Cron(Cron::example(schedule)),
        };
        Self {
            plan: Plan::new(schedule, TimeZone::UTC),
            jobs: Vec::new(),
            passed: 0,
            ahead: 0,
            works: true,
        }
    }

    fn now(&self) -> Moment {
        let start: Timestamp = START.parse().unwrap();
        let wall = start + SignedDuration::from_secs(self.passed + self.ahead);
        let since_boot = Duration::from_secs(self.passed.unsigned_abs());
        let observed = ObservedTime::default();
        Moment {
            wall,
            since_boot,
            observed,
        }
    }

    /// Lets so many seconds pass, and returns when refreshes began, in seconds since the last call.
    fn pass(&mut self, seconds: i64) -> Vec<i64> {
        let begin = self.passed;
        let mut begun = Vec::new();
        // Looks every half minute.
        while self.passed < begin + seconds {
            self.passed += 30;
            if let Due::Now { .. } = self.look() {
                begun.push(self.passed - begin);
                self.run();
            }
        }
        begun
    }

    fn look(&mut self) -> Due {
        let history = History::of(&project(), &self.jobs, &[]);
        let now = self.now();
        self.plan.look(&history, now)
    }

    fn run(&mut self) {
        let id = JobId::from_number(self.jobs.len() as u64);
        let mut job = JobRecord::queued(id, JobKind::Refresh, project(), None);
        job.begin(self.now().wall);
        match self.works {
            true => job.end(JobState::Done, self.now().wall),
            false => job.fail(JobFailure::default(), self.now().wall),
        }
        self.jobs.push(job);
    }

    /// The daemon is off for so long, and starts again.
    fn restart(&mut self, off: i64) {
        self.passed += off;
        let World { plan, .. } = self;
        *plan = Plan::new(plan.schedule.clone(), TimeZone::UTC);
    }
}

fn project() -> ProjectName {
    "shop".parse().unwrap()
}

#[test]
fn refreshes_begin_at_the_times_of_the_schedule() {
    let mut world = World::new("0 3 * * *");
    assert_eq!(world.pass(2 * DAY), [15 * HOUR, 39 * HOUR]);
    let mut world = World::new("6h");
    assert_eq!(
        world.pass(DAY),
        [30, 6 * HOUR + 30, 12 * HOUR + 30, 18 * HOUR + 30]
    );
}

#[test]
fn missed_refresh_runs_once_at_the_next_start() {
    for schedule in ["0 3 * * *", "24h"] {
        let mut world = World::new(schedule);
        world.pass(DAY);
        world.restart(10 * DAY);
        assert_eq!(world.pass(HOUR), [30], "{schedule}");
    }
    let mut world = World::new("0 3 * * *");
    world.pass(DAY);
    world.restart(HOUR);
    assert!(world.pass(HOUR).is_empty());
}

#[test]
fn failed_refresh_is_retried_with_growing_pauses() {
    let mut world = World::new("0 3 * * *");
    world.works = false;
    let minutes =
        |times: Vec<i64>| -> Vec<i64> { times.iter().map(|at| at / 60 - 15 * 60).collect() };
    let begun = minutes(world.pass(19 * HOUR));
    // 1, 2, 4 … minutes after the failure is seen, and an hour at most.
    assert_eq!(begun, [0, 1, 4, 8, 17, 33, 66, 126, 187]);
    world.restart(60);
    assert_eq!(world.pass(HOUR).len(), 0);
    world.works = true;
    assert_eq!(world.pass(HOUR).len(), 1);
    assert_eq!(world.pass(DAY - HOUR).len(), 1);
}

#[test]
fn clock_that_jumps_neither_storms_nor_stalls() {
    for schedule in ["0 3 * * *", "24h"] {
        let mut world = World::new(schedule);
        world.pass(2 * DAY);
        world.ahead = 365 * DAY;
        assert_eq!(world.pass(HOUR).len(), 1, "{schedule}");
        assert_eq!(world.pass(5 * DAY).len(), 5, "{schedule}");
        world.ahead = 0;
        assert_eq!(world.pass(HOUR).len(), 0, "{schedule}");
        let begun = world.pass(5 * DAY).len();
        assert!((4..=5).contains(&begun), "{schedule}: {begun}");
        world.restart(0);
        let begun = world.pass(5 * DAY).len();
        assert!((4..=5).contains(&begun), "{schedule}: {begun}");
    }
}

#[test]
fn cancelled_refresh_waits_for_its_next_time() {
    let mut world = World::new("0 3 * * *");
    world.pass(DAY);
    world.works = false;
    world.pass(DAY);
    world.run();
    let now = world.now().wall;
    world.jobs.last_mut().unwrap().end(JobState::Cancelled, now);
    assert!(world.pass(14 * HOUR).is_empty());
    assert!(!world.pass(2 * HOUR).is_empty());
}

#[test]
fn attempt_that_becomes_no_job_is_retried_too() {
    let mut world = World::new("0 3 * * *");
    world.pass(15 * HOUR - 30);
    world.passed += 60;
    assert_eq!(world.look(), Due::Now { attempt: 1 });
    let history = History::default();
    world.plan.failed_to_begin(&history, world.now());
    assert!(matches!(world.look(), Due::At(_)));
    assert_eq!(world.pass(3 * 60), [60]);
}

#[test]
fn snapshots_tell_when_they_were_refreshed() {
    let begun: Timestamp = "2026-01-31T03:00:05Z".parse().unwrap();
    let long: ProjectName = "p".repeat(63).parse().unwrap();
    for project in [project(), long] {
        let id = snapshot_id(&project, begun);
        let ids = ["monday", "shop-2026", &id, &format!("{id}-2")];
        let ids: Vec<SnapshotId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let history = History::of(&project, &[], &ids);
        assert_eq!(history.success_begun, Some(begun), "{id}");
    }
}
