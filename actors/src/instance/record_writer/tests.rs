//! Random sequences of events against a model of the storage, and the transitions that matter one by one.

use proptest::prelude::*;

use super::*;

/// A record as a number that each change increases, and the storage that it is written to.
#[derive(Default)]
struct Model {
    writer: RecordWriter,
    newest: u64,
    newest_pin: u64,
    /// The awaited changes that are not answered, oldest first.
    pins: Vec<u64>,
    /// The write in progress.
    writing: Option<(u64, Copies)>,
    /// The clone or deletion that has the write lock, and the record that it was given.
    job: Option<(LockedJob, u64)>,
    wanted: bool,
    deleted: bool,
    /// The record in the database, and the one in the manifest.
    database: u64,
    manifest: u64,
    /// The timers that run.
    interval: bool,
    retries: Vec<Retry>,
    /// How many writes of the database alone may have begun.
    database_writes_max: usize,
    database_writes: usize,
}

/// One step of a random sequence.
#[derive(Debug, Clone, Copy)]
enum Step {
    Use,
    Pin,
    Mark,
    Stop,
    Interval,
    Retry,
    WriteEnds(Outcome),
    Clone,
    Delete,
    JobEnds(Outcome),
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        6 => Just(Use),
        4 => Just(Pin),
        1 => Just(Mark),
        1 => Just(Stop),
        3 => Just(Interval),
        2 => Just(Retry),
        6 => Just(WriteEnds(Outcome::Done)),
        3 => Just(WriteEnds(Outcome::Failed)),
        1 => Just(Clone),
        1 => Just(Delete),
        2 => Just(JobEnds(Outcome::Done)),
        2 => Just(JobEnds(Outcome::Failed)),
    ]
}

impl Model {
    fn event(&mut self, event: WriterEvent) {
        for effect in self.writer.step(event) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: WriterEffect) {
        match effect {
            WriterEffect::Write(copies) => {
                assert_eq!(self.writing, None, "two writes at once");
                assert_eq!(self.job, None, "a write beside a clone or a deletion");
                assert!(!self.wanted, "a write before a job that waits");
                assert!(!self.deleted, "a write after the deletion");
                self.writing = Some((self.newest, copies));
                self.database_writes += usize::from(copies == Copies::Database);
                assert!(
                    self.database_writes <= self.database_writes_max,
                    "a use is written too often"
                );
            }
            WriterEffect::Begin(job) => {
                assert_eq!(
                    (self.writing, self.job),
                    (None, None),
                    "a job beside a write"
                );
                assert!(std::mem::take(&mut self.wanted), "a job without a request");
                self.job = Some((job, self.newest));
            }
            WriterEffect::ArmUseInterval => {
                assert!(!self.interval, "two intervals at once");
                self.interval = true;
                self.database_writes_max += 1;
            }
            WriterEffect::ArmRetry { retry, failures } => {
                assert!(failures > 0);
                self.retries.push(retry);
            }
            WriterEffect::AnswerPins { count, outcome } => {
                for pin in self.pins.drain(..count) {
                    let durable = pin <= self.database.min(self.manifest);
                    assert!(
                        durable || outcome == Outcome::Failed,
                        "a change was acknowledged that is not written"
                    );
                }
            }
            WriterEffect::RefusePins => {
                assert!(self.deleted, "an instance that exists refuses a pin");
                self.pins.clear();
            }
        }
    }

    fn write_ends(&mut self, outcome: Outcome) {
        let Some((version, copies)) = self.writing.take() else {
            return;
        };
        if outcome == Outcome::Done {
            assert!(version >= self.database, "an older record was written last");
            self.database = version;
            if copies == Copies::DatabaseAndManifest {
                self.manifest = version;
            }
        } else {
            self.database_writes_max += 1;
        }
        self.event(WriterEvent::Written(outcome));
    }

    fn job_ends(&mut self, outcome: Outcome) {
        let Some((job, version)) = self.job.take() else {
            return;
        };
        match (job, outcome) {
            (LockedJob::Clone(..), Outcome::Done) => {
                (self.database, self.manifest) = (version, version);
            }
            (LockedJob::Delete(_), Outcome::Done) => self.deleted = true,
            // It may have written another record, so that of before is written again.
            (_, Outcome::Failed) => self.database_writes_max += 1,
        }
        self.event(WriterEvent::LockReleased(outcome));
    }

    fn want(&mut self, job: LockedJob) {
        let deleting = matches!(self.job, Some((LockedJob::Delete(_), _)));
        if !self.wanted && !deleting && !self.deleted {
            self.wanted = true;
            self.event(WriterEvent::LockWanted(job));
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Use => {
                self.newest += 1;
                self.event(WriterEvent::Used);
            }
            Step::Pin => {
                self.newest += 1;
                self.newest_pin = self.newest;
                self.pins.push(self.newest);
                self.event(WriterEvent::PinSet);
            }
            Step::Mark => {
                self.newest += 1;
                self.database_writes_max += 1;
                self.event(WriterEvent::Changed(Copies::Database));
            }
            Step::Stop => {
                self.database_writes_max += 1;
                self.event(WriterEvent::Stopping);
            }
            Step::Interval => {
                if std::mem::take(&mut self.interval) {
                    self.event(WriterEvent::UseIntervalElapsed);
                }
            }
            Step::Retry => {
                if let Some(retry) = self.retries.pop() {
                    self.event(WriterEvent::RetryElapsed(retry));
                }
            }
            Step::WriteEnds(outcome) => self.write_ends(outcome),
            Step::Clone => self.want(LockedJob::Clone(Job::default(), CloneReason::Reset)),
            Step::Delete => self.want(LockedJob::Delete(Job::default())),
            Step::JobEnds(outcome) => self.job_ends(outcome),
        }
        assert!(
            !self.deleted || self.pins.is_empty(),
            "a pin waits for nothing"
        );
    }

    /// Ends the write and the job in progress and all that follow, without any timer.
    fn finish(&mut self) {
        while self.writing.is_some() || self.job.is_some() {
            self.play(Step::WriteEnds(Outcome::Done));
            self.play(Step::JobEnds(Outcome::Done));
        }
        assert!(!self.wanted, "a clone or a deletion waits for ever");
        assert!(self.pins.is_empty(), "a pin waits for a timer");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_sequence_of_events_keeps_the_record(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::default();
        for step in steps {
            model.play(step);
        }
        model.finish();
        while model.interval || !model.retries.is_empty() {
            model.play(Step::Interval);
            model.play(Step::Retry);
            model.finish();
        }
        if !model.deleted {
            assert_eq!(model.database, model.newest, "the newest record was not written");
            assert!(model.manifest >= model.newest_pin, "a pin is not in the manifest");
        }
    }
}

const FAILED: Outcome = Outcome::Failed;
const DONE: Outcome = Outcome::Done;

#[test]
fn uses_within_an_interval_are_written_together() {
    let mut writer = RecordWriter::default();
    let write = WriterEffect::Write(Copies::Database);
    let both = [WriterEffect::ArmUseInterval, write];
    assert_eq!(writer.step(WriterEvent::Used), both);
    assert_eq!(writer.step(WriterEvent::Written(DONE)), []);
    for _ in 0..1000 {
        assert_eq!(writer.step(WriterEvent::Used), []);
    }
    assert_eq!(writer.step(WriterEvent::UseIntervalElapsed), both);
    assert_eq!(writer.step(WriterEvent::Written(DONE)), []);
    assert_eq!(writer.step(WriterEvent::UseIntervalElapsed), []);
    assert_eq!(writer, RecordWriter::default());
}

#[test]
fn last_use_is_written_before_the_daemon_ends() {
    let mut writer = RecordWriter::default();
    let _write = writer.step(WriterEvent::Used);
    let _none = writer.step(WriterEvent::Written(DONE));
    let _none = writer.step(WriterEvent::Used);
    let write = [WriterEffect::Write(Copies::Database)];
    assert_eq!(writer.step(WriterEvent::Stopping), write);
}

#[test]
fn failed_write_is_told_and_tried_again_after_a_delay_or_for_the_next_pin() {
    let mut writer = RecordWriter::default();
    let write = WriterEffect::Write(Copies::DatabaseAndManifest);
    assert_eq!(writer.step(WriterEvent::PinSet), [write]);
    let effects = writer.step(WriterEvent::Written(FAILED));
    let [WriterEffect::ArmRetry { retry, failures: 1 }, answer] = effects[..] else {
        panic!("{effects:?}");
    };
    let count = 1;
    let refused = WriterEffect::AnswerPins {
        count,
        outcome: FAILED,
    };
    assert_eq!(answer, refused);
    assert_eq!(writer.step(WriterEvent::PinSet), [write]);
    // The delay of the first failure is over, and the second attempt is in progress.
    assert_eq!(writer.step(WriterEvent::RetryElapsed(retry)), []);
    let effects = writer.step(WriterEvent::Written(FAILED));
    let [WriterEffect::ArmRetry { retry, failures: 2 }, _] = effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(writer.step(WriterEvent::RetryElapsed(retry)), [write]);
    assert_eq!(writer.step(WriterEvent::Written(DONE)), []);
}

#[test]
fn deletion_waits_for_the_write_in_progress_and_nothing_is_written_after_it() {
    let mut writer = RecordWriter::default();
    let deletion = LockedJob::Delete(Job::default());
    let _write = writer.step(WriterEvent::PinSet);
    assert_eq!(writer.step(WriterEvent::LockWanted(deletion)), []);
    assert_eq!(writer.step(WriterEvent::PinSet), []);
    let acknowledged = WriterEffect::AnswerPins {
        count: 1,
        outcome: DONE,
    };
    assert_eq!(
        writer.step(WriterEvent::Written(DONE)),
        [acknowledged, WriterEffect::Begin(deletion)]
    );
    let released = WriterEvent::LockReleased(DONE);
    assert_eq!(writer.step(released), [WriterEffect::RefusePins]);
    assert_eq!(writer.step(WriterEvent::PinSet), [WriterEffect::RefusePins]);
}
