//! A model of everything outside the life cycle, which checks its invariants after each step.

use proptest::prelude::*;

use super::*;

/// A simulated environment, which ends the requested jobs in any order.
pub(super) struct Environment {
    pub(super) life: Lifecycle,
    now: Instant,
    /// Jobs that were asked for and not answered.
    jobs: Vec<Effect>,
    /// Whether Postgres runs, and under which number.
    pub(super) running: Option<Job>,
    /// Whether there is data.
    data: bool,
    /// Whether it must not be used.
    unclean: bool,
    /// The waiting clients, and how many of them only asked for a start.
    pub(super) waiting: usize,
    starters: usize,
    sessions: Vec<Job>,
    idle: Vec<Job>,
    /// The unanswered questions to Postgres.
    asked: Vec<Job>,
    /// How often the stop was postponed since the last session.
    postponed: u32,
    pub(super) refused: usize,
    pub(super) served: usize,
    /// Whether the data ever had a server.
    was_started: bool,
    /// Whether the last job with the server was a stop that succeeded.
    stopped_last: bool,
}

/// One step of a random sequence.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Client,
    SessionEnds,
    JobEnds(Outcome),
    /// A start finds that the last run ended uncleanly.
    Unclean,
    /// The job's runtime is away.
    JobUnknown,
    Idle,
    Answer(Awake),
    Crash,
    Room,
    OverLimit,
    Command(Command),
    Stale,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        4 => Just(Client),
        4 => Just(SessionEnds),
        8 => Just(JobEnds(Outcome::Done)),
        2 => Just(JobEnds(Outcome::Failed)),
        1 => Just(Unclean),
        2 => Just(JobUnknown),
        3 => Just(Idle),
        2 => Just(Answer(Awake::Nothing)),
        2 => Just(Answer(Awake::Autovacuum)),
        4 => Just(Answer(Awake::Work)),
        1 => Just(Crash),
        1 => Just(Room),
        1 => Just(OverLimit),
        1 => Just(Stale),
        1 => Just(Command(super::Command::Start)),
        1 => Just(Command(super::Command::Stop)),
        1 => Just(Command(super::Command::Reset)),
        1 => Just(Command(super::Command::Delete)),
        1 => Just(Command(super::Command::Expire)),
        1 => Just(Command(super::Command::Recover)),
    ]
}

impl Environment {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let (life, effect) = Lifecycle::create(now);
        Self {
            life,
            now,
            jobs: vec![effect],
            running: None,
            data: false,
            unclean: false,
            waiting: 0,
            starters: 0,
            sessions: Vec::new(),
            idle: Vec::new(),
            asked: Vec::new(),
            postponed: 0,
            refused: 0,
            served: 0,
            was_started: false,
            stopped_last: false,
        }
    }

    fn event(&mut self, event: Event) {
        let effects = self.life.step(event, self.now);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Clone(..) | Effect::Start(_) | Effect::Delete(_) => self.jobs.push(effect),
                Effect::Stop(_) | Effect::StopAgain(_) => {
                    // A start or a look in progress is given up.
                    self.jobs.retain(|job| {
                        !matches!(
                            job,
                            Effect::Start(_) | Effect::Look(_) | Effect::LookAgain(_)
                        )
                    });
                    self.jobs.push(effect);
                }
                Effect::Look(_) | Effect::LookAgain(_) => {
                    self.jobs.retain(|job| !matches!(job, Effect::LookAgain(_)));
                    self.jobs.push(effect);
                }
                Effect::Serve(run) => {
                    assert_eq!(
                        self.running,
                        Some(run),
                        "served by a postgres that does not run"
                    );
                    self.postponed = 0;
                    let waiting = std::mem::take(&mut self.waiting);
                    let served = waiting - std::mem::take(&mut self.starters);
                    self.served += served;
                    self.sessions.extend(std::iter::repeat_n(run, served));
                    let sessions = served;
                    self.event(Event::Served { run, sessions });
                }
                Effect::RefuseFailed | Effect::RefuseStopped | Effect::Redirect => {
                    let waiting = std::mem::take(&mut self.waiting);
                    self.refused += waiting - std::mem::take(&mut self.starters);
                }
                Effect::ArmIdle(idle) => self.idle.push(idle),
                Effect::Ask(idle) => self.asked.push(idle),
            }
        }
    }

    fn job_ends(&mut self, outcome: Outcome) {
        if self.jobs.is_empty() {
            return;
        }
        if self.unclean && matches!(self.jobs[0], Effect::Start(_)) {
            return self.unclean();
        }
        match self.jobs.remove(0) {
            Effect::Clone(job, why) => {
                assert_eq!(self.running, None, "reset under a running postgres");
                assert!(
                    self.stopped_last || why == CloneReason::Create,
                    "reset without a look for its postgres"
                );
                self.data |= outcome == Outcome::Done || why != CloneReason::Create;
                self.unclean &= outcome == Outcome::Failed;
                self.event(Event::CloneDone { job, outcome });
            }
            Effect::Start(job) => {
                assert!(self.data, "a start without data");
                assert!(
                    !self.unclean || outcome == Outcome::Failed,
                    "unclean data is served"
                );
                assert_eq!(self.running, None, "a second postgres on the same data");
                (self.was_started, self.stopped_last) = (true, false);
                if outcome == Outcome::Done {
                    self.running = Some(job);
                }
                let outcome = server_outcome(outcome);
                self.event(Event::StartDone { job, outcome });
            }
            Effect::Stop(job) | Effect::StopAgain(job) => {
                if outcome == Outcome::Done {
                    self.running = None;
                }
                self.stopped_last = outcome == Outcome::Done;
                let outcome = server_outcome(outcome);
                self.event(Event::StopDone { job, outcome });
            }
            Effect::Look(job) | Effect::LookAgain(job) => {
                let found = match outcome {
                    Outcome::Done => self.look(job),
                    Outcome::Failed => Looked::Unknown,
                };
                self.event(Event::Looked { job, found });
            }
            Effect::Delete(job) => {
                assert_eq!(self.running, None, "deleted under a running postgres");
                assert!(
                    self.stopped_last || !self.was_started,
                    "deleted without a look for its postgres"
                );
                // Without data nothing is left to use, even if the deletion fails.
                let outcome = if self.data { outcome } else { Outcome::Done };
                self.data &= outcome == Outcome::Failed;
                self.event(Event::DeleteDone { job, outcome });
            }
            other => unreachable!("{other:?} is no job"),
        }
    }

    /// A start does not use data that may be damaged, until there is a fresh clone.
    fn unclean(&mut self) {
        let Some(Effect::Start(job)) = self.jobs.first().copied() else {
            return;
        };
        self.jobs.remove(0);
        self.unclean = true;
        let before = self.life.waiting;
        self.event(Event::EndedUncleanly { job });
        let more = self.life.waiting - before;
        self.waiting += more;
        self.starters += more;
    }

    /// The runtime does not answer, so the result of a start or a stop remains unknown.
    fn job_unknown(&mut self) {
        let Some(job) = self.jobs.first().copied() else {
            return;
        };
        let outcome = ServerOutcome::Unknown;
        let event = match job {
            Effect::Start(job) => Event::StartDone { job, outcome },
            Effect::Stop(job) | Effect::StopAgain(job) => Event::StopDone { job, outcome },
            Effect::Look(job) | Effect::LookAgain(job) => Event::Looked {
                job,
                found: Looked::Unknown,
            },
            _ => return,
        };
        self.jobs.remove(0);
        (self.was_started, self.stopped_last) = (true, false);
        self.event(event);
        assert_eq!(self.life.state().name(), "unavailable");
    }

    /// The result of a look. A postgres that is taken over keeps its sessions.
    fn look(&mut self, job: Job) -> Looked {
        let Some(run) = self.running else {
            return Looked::NotRunning;
        };
        let then = AfterStop::Stopped;
        if !matches!(self.life.state(), State::Unavailable { then: t, .. } if t == then) {
            return Looked::Running;
        }
        self.running = Some(job);
        let ours = self.sessions.iter_mut().filter(|of| **of == run);
        let sessions = ours.map(|of| *of = job).count();
        self.postponed = 0;
        Looked::Adopted { sessions }
    }

    fn answer(&mut self, awake: Awake) {
        let Some(idle) = self.asked.pop() else {
            return;
        };
        let before = self.life.clone();
        self.event(Event::Asked { idle, awake });
        if !matches!(before.state(), State::Running { idle: Some(current), .. } if current == idle)
        {
            assert_eq!(self.life, before, "a stale answer changed something");
        } else if matches!(self.life.state(), State::Running { .. }) {
            self.postponed += 1;
            assert!(
                self.postponed <= awake.periods_max(),
                "postponed without end"
            );
        } else {
            assert_eq!(before.sessions(), 0, "an instance in use was stopped");
            assert!(self.postponed >= awake.periods_max(), "stopped too early");
        }
    }

    fn command(&mut self, command: Command) {
        let before = self.life.waiting;
        self.event(Event::Command(command));
        // The caller of a start may wait like a client.
        if command == Command::Start {
            let more = self.life.waiting.saturating_sub(before);
            self.waiting += more;
            self.starters += more;
        }
    }

    pub(super) fn play(&mut self, step: Step) {
        match step {
            Step::Client => {
                self.waiting += 1;
                self.event(Event::ClientWaits);
            }
            Step::SessionEnds => {
                if let Some(run) = self.sessions.pop() {
                    self.event(Event::SessionEnded { run });
                }
            }
            Step::JobEnds(outcome) => self.job_ends(outcome),
            Step::Unclean => self.unclean(),
            Step::JobUnknown => self.job_unknown(),
            Step::Idle => {
                if let Some(idle) = self.idle.pop() {
                    let before = self.life.state();
                    self.event(Event::IdleElapsed { idle });
                    assert_eq!(self.life.state(), before, "stopped without a question");
                }
            }
            Step::Answer(awake) => self.answer(awake),
            Step::Crash => {
                if let Some(run) = self.running.take() {
                    self.event(Event::Exited { run });
                }
            }
            Step::Room => self.event(Event::SlotWanted),
            Step::OverLimit => self.event(Event::OverLimit),
            Step::Command(command) => self.command(command),
            Step::Stale => {
                let before = self.life.clone();
                let (job, outcome) = (Job(u64::MAX), Outcome::Done);
                for event in [
                    Event::CloneDone { job, outcome },
                    Event::StartDone {
                        job,
                        outcome: ServerOutcome::Done,
                    },
                    Event::EndedUncleanly { job },
                    Event::StopDone {
                        job,
                        outcome: ServerOutcome::Done,
                    },
                    Event::Looked {
                        job,
                        found: Looked::NotRunning,
                    },
                    Event::DeleteDone { job, outcome },
                    Event::Exited { run: job },
                    Event::IdleElapsed { idle: job },
                    Event::Asked {
                        idle: job,
                        awake: Awake::Nothing,
                    },
                    Event::SessionEnded { run: job },
                    Event::Served {
                        run: job,
                        sessions: 1,
                    },
                ] {
                    assert_eq!(self.life.step(event, self.now), Vec::new());
                }
                assert_eq!(self.life, before, "a stale event changed something");
            }
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.jobs.len() <= 1, "two jobs at once: {:?}", self.jobs);
        assert_eq!(
            self.life.waiting, self.waiting,
            "miscounted waiting clients"
        );
        let jobs_expected = match self.life.state() {
            State::Stopped | State::Failed | State::Running { .. } | State::Gone => 0,
            State::Cloning { .. }
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Unavailable { .. }
            | State::Deleting { .. } => 1,
        };
        assert_eq!(self.jobs.len(), jobs_expected, "a state without its job");
        let is_looked_for_later = matches!(
            self.life.state(),
            State::Unavailable { look, .. } if look == Look::Later
        );
        if jobs_expected == 0 || is_looked_for_later {
            assert_eq!(self.waiting, 0, "a client waits for nothing");
        }
        if let State::Running { job, idle } = self.life.state() {
            let current = self.sessions.iter().filter(|run| **run == job).count();
            assert_eq!(self.life.sessions(), current, "miscounted sessions");
            assert_eq!(idle.is_some(), current == 0, "idleness is not waited out");
            if let Some(idle) = idle {
                let pending = self.idle.iter().chain(&self.asked);
                let count = pending.filter(|pending| **pending == idle).count();
                assert_eq!(count, 1, "nothing will end the idle period");
            }
        }
    }
}

fn server_outcome(outcome: Outcome) -> ServerOutcome {
    match outcome {
        Outcome::Done => ServerOutcome::Done,
        Outcome::Failed => ServerOutcome::Failed,
    }
}
