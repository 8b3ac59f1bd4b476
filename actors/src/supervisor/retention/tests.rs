//! The steps of an expiry by record and moment, and random histories with clocks that jump.

use multidb_store::{Mark, Phase};
use proptest::prelude::*;

use super::*;
use crate::testing;

const PERIODS: ExpiryPeriods = ExpiryPeriods {
    retention: Duration::from_secs(60),
    grace: Duration::from_secs(10),
};

fn observed(seconds: u64) -> ObservedTime {
    ObservedTime::from_millis(seconds * 1000)
}

fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn now(wall_seconds: i64, observed_seconds: u64) -> Moment {
    Moment {
        wall: wall(wall_seconds),
        since_boot: Duration::from_secs(observed_seconds),
        observed: observed(observed_seconds),
    }
}

/// Used at second 100 of observed time, and at second 1000 by the wall clock.
fn record(pin: Pin, marked: Option<u64>) -> InstanceRecord {
    InstanceRecord {
        last_used_at: wall(1000),
        last_used_observed: observed(100),
        marked: marked.map(|marked| Mark {
            at: Timestamp::UNIX_EPOCH,
            observed: observed(marked),
        }),
        pin,
        ..testing::record("a", 1, Phase::Ready)
    }
}

fn step(pin: Pin, marked: Option<u64>) -> Option<(ExpiryStep, ObservedTime)> {
    due(&record(pin, marked), PERIODS).map(|due| (due.step, due.at))
}

#[test]
fn unused_instance_is_marked_and_then_deleted() {
    use ExpiryStep::{Delete, Mark};
    assert_eq!(step(Pin::None, None), Some((Mark, observed(160))));
    assert_eq!(step(Pin::None, Some(165)), Some((Delete, observed(175))));
    // Marked under a shorter retention, or before its last use.
    assert_eq!(step(Pin::None, Some(110)), Some((Delete, observed(170))));
    assert_eq!(step(Pin::None, Some(90)), Some((Mark, observed(160))));
    assert_eq!(step(Pin::Forever, Some(165)), None);
}

#[test]
fn pin_for_a_time_delays_both_steps_by_both_clocks() {
    use ExpiryStep::{Delete, Mark};
    let until = |seconds| Pin::Until(wall(seconds));
    // It had 90 seconds left at the last use, then 30, then none.
    assert_eq!(step(until(1090), None), Some((Mark, observed(190))));
    assert_eq!(step(until(1030), None), Some((Mark, observed(160))));
    assert_eq!(step(until(10), None), Some((Mark, observed(160))));
    assert_eq!(step(until(1090), Some(165)), Some((Delete, observed(200))));
    let due = |wall, observed| due_now(&record(until(1090), None), PERIODS, now(wall, observed));
    assert_eq!(due(1090, 190), Some(Mark));
    assert_eq!(due(9999, 189), None, "the wall clock is ahead");
    assert_eq!(due(1089, 999), None, "the wall clock is late");
}

#[test]
fn shown_expiry_is_what_remains_of_observed_time_and_never_past() {
    let at = |pin, marked, moment| expires_at(&record(pin, marked), PERIODS, moment);
    assert_eq!(at(Pin::None, None, now(1000, 100)), Some(wall(1070)));
    assert_eq!(at(Pin::None, None, now(5000, 150)), Some(wall(5020)));
    assert_eq!(at(Pin::None, Some(165), now(5000, 170)), Some(wall(5005)));
    assert_eq!(at(Pin::None, None, now(5000, 9000)), Some(wall(5010)));
    assert_eq!(at(Pin::None, Some(165), now(5000, 9000)), Some(wall(5000)));
    let until = Pin::Until(wall(5900));
    assert_eq!(at(until, None, now(5000, 9000)), Some(wall(5910)));
    assert_eq!(at(Pin::Forever, None, now(5000, 9000)), None);
    let for_ever = ExpiryPeriods {
        retention: Duration::MAX,
        grace: Duration::MAX,
    };
    let last = expires_at(&record(Pin::None, None), for_ever, now(0, 0));
    assert_eq!(last, Some(Timestamp::MAX));
}

#[test]
fn of_two_pins_the_more_protective_one_is_kept() {
    let (early, late) = (Pin::Until(wall(1)), Pin::Until(wall(2)));
    let order = [Pin::None, early, late, Pin::Forever];
    for (i, one) in order.into_iter().enumerate() {
        for (k, other) in order.into_iter().enumerate() {
            assert_eq!(more_protective(one, other), order[i.max(k)]);
        }
    }
}

/// One event of a history.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// Both clocks advance, and the sweep looks.
    Pass(u64),
    /// The wall clock is set ahead of the truth, or behind it.
    SetWall(i64),
    /// A client uses the instance.
    Use,
    /// An administrator pins it for this time.
    PinFor(i64),
    /// An administrator takes the pin away.
    Unpin,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..40u64).prop_map(Event::Pass),
        3 => (-500..500i64).prop_map(Event::SetWall),
        1 => Just(Event::Use),
        1 => (0..200i64).prop_map(Event::PinFor),
        1 => Just(Event::Unpin),
    ]
}

/// The truth, beside the record that is judged by it.
struct History {
    record: InstanceRecord,
    time: u64,
    ahead: i64,
    used: u64,
    /// When it was marked, and how long its last pin lasts in truth if the pin was not taken away.
    marked: Option<u64>,
    deleted: bool,
}

impl History {
    fn now(&self) -> Moment {
        let wall_seconds = 10_000 + self.time.cast_signed() + self.ahead;
        now(wall_seconds, self.time)
    }

    fn note_use(&mut self) {
        let now = self.now();
        self.record.last_used_at = self.record.last_used_at.max(now.wall);
        self.record.last_used_observed = now.observed;
        self.record.marked = None;
        (self.used, self.marked) = (self.time, None);
    }

    fn sweep(&mut self) {
        let now = self.now();
        let unused = self.time - self.used;
        match due_now(&self.record, PERIODS, now) {
            None => {}
            Some(ExpiryStep::Mark) => {
                assert!(unused >= 60, "marked after {unused} seconds");
                self.marked = Some(self.time);
                self.record.marked = Some(Mark {
                    at: now.wall,
                    observed: now.observed,
                });
            }
            Some(ExpiryStep::Delete) => {
                let marked = self.marked.expect("it was marked since its last use");
                assert!(self.time >= marked + 10, "deleted without its grace");
                assert!(unused >= 70, "deleted after {unused} seconds");
                self.deleted = true;
            }
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Pass(seconds) => {
                self.time += seconds;
                self.sweep();
            }
            Event::SetWall(ahead) => self.ahead = ahead,
            Event::Use => self.note_use(),
            Event::PinFor(seconds) => {
                self.note_use();
                self.record.pin = Pin::Until(self.now().wall + SignedDuration::from_secs(seconds));
            }
            Event::Unpin => {
                self.note_use();
                self.record.pin = Pin::None;
            }
        }
        let shown = expires_at(&self.record, PERIODS, self.now()).unwrap();
        assert!(shown >= self.now().wall, "an expiry in the past is shown");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn jumping_clocks_delete_nothing_early_and_everything_at_last(
        events in prop::collection::vec(event(), 1..80)
    ) {
        let mut history = History {
            record: record(Pin::None, None),
            time: 100,
            ahead: 0,
            used: 100,
            marked: None,
            deleted: false,
        };
        history.note_use();
        for event in events {
            if history.deleted {
                return Ok(());
            }
            history.play(event);
        }
        // No client comes any more, and the wall clock is right again.
        history.play(Event::SetWall(0));
        for _ in 0..200 {
            if !history.deleted {
                history.play(Event::Pass(10));
            }
        }
        prop_assert!(history.deleted, "it is kept for ever: {:?}", history.record);
    }
}

#[test]
fn time_to_live_shortens_both_periods() {
    use ExpiryStep::{Delete, Mark};
    let of = |ttl, marked| {
        let ttl = Some(Duration::from_secs(ttl));
        let record = InstanceRecord {
            ttl,
            ..record(Pin::None, marked)
        };
        due(&record, PERIODS).map(|due| (due.step, due.at))
    };
    assert_eq!(of(5, None), Some((Mark, observed(105))));
    assert_eq!(of(5, Some(105)), Some((Delete, observed(110))));
    assert_eq!(of(30, Some(130)), Some((Delete, observed(140))));
    // The retention was made shorter since.
    assert_eq!(of(90, None), Some((Mark, observed(160))));
}
