//! The activity of the backends of sessions: one question at a time to each Postgres, about all its sessions.
//!
//! A question needs a connection to Postgres. With a connection for each session, an instance full of
//! sessions could never be asked. Where even the one is refused since all are in use, the session that was
//! quiet for the longest time ends, if it is over its limit by its stream: a session that waits for its client rather
//! than one whose query is over `active_timeout`, which is cancelled. That frees a connection for the next question,
//! which is asked at once, so that the others end by Postgres' own knowledge of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multidb_store::InstanceName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::ports::{BackendActivity, Endpoint, ProbeError, ServerProbe, SuperuserAccess};
use crate::sessions::InstanceTarget;

/// The time between two questions to one Postgres.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);
/// The same while a command or the shutdown waits for the end of a session.
const URGENT_INTERVAL: Duration = Duration::from_millis(20);
/// The time between two attempts while no connection is free.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// The longest time between two questions to a Postgres that does not answer; it doubles up to this.
const FAILED_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// The limit of an answer, for a probe that has none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most sessions of one question.
const SESSIONS_MAX: usize = 1000;
/// How long a session waits for a free connection before its check is over.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The time between two warnings about one Postgres, and how long it is remembered.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The result of a question about a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its activity; `None` if it is gone.
    Activity(Option<BackendActivity>),
    /// Postgres has no free connection.
    NoFreeConnection {
        /// Whether this session is to end for that.
        chosen: bool,
    },
    /// Postgres did not answer.
    Unknown,
}

/// How soon a question has to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A check of the idle limits.
    Check,
    /// A command or the shutdown waits for the end of the session.
    Now,
}

/// The loss of a client by the end of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// Nothing that a new session does not have.
    Nothing,
    /// A transaction.
    Transaction,
    /// A query that runs for longer than it may, or a COPY.
    Query,
}

/// A session that may be ended by its bytes alone. The least ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// The loss of its client.
    pub(super) loss: Loss,
    /// When its last byte passed.
    pub(super) quiet_since: Instant,
}

/// A question about one session.
struct Inquiry {
    process_id: i32,
    urgency: Urgency,
    candidate: Option<Candidate>,
    asked_at: Instant,
    answer: oneshot::Sender<Answer>,
}

/// Asks every Postgres about its sessions.
#[derive(Clone)]
pub struct Activities {
    probe: Arc<dyn ServerProbe>,
    /// The tasks that ask, one for each Postgres that was asked lately.
    tasks: Arc<Mutex<Tasks>>,
}

type Tasks = HashMap<Endpoint, mpsc::UnboundedSender<Inquiry>>;

impl Activities {
    /// Asks by this probe.
    pub fn new(probe: Arc<dyn ServerProbe>) -> Self {
        Self {
            probe,
            tasks: Arc::default(),
        }
    }

    /// Asks about a session. The answer is from after the call. A sender that is dropped means that nothing
    /// is known.
    pub(super) fn ask(
        &self,
        process_id: i32,
        target: &InstanceTarget,
        urgency: Urgency,
        candidate: Option<Candidate>,
    ) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let inquiry = Inquiry {
            process_id,
            urgency,
            candidate,
            asked_at: Instant::now(),
            answer,
        };
        let mut tasks = self.lock();
        let endpoint = &target.server.endpoint;
        let unsent = match tasks.get(endpoint) {
            Some(task) => task.send(inquiry).err().map(|error| error.0),
            None => Some(inquiry),
        };
        if let Some(inquiry) = unsent {
            let (task, incoming) = mpsc::unbounded_channel();
            tasks.insert(endpoint.clone(), task);
            let task = Task {
                activities: self.clone(),
                server: target.server.clone(),
                instance: target.name.clone(),
                incoming,
                pending: vec![inquiry],
                last_asked: None,
                refused: false,
                failures: 0,
                last_chosen: None,
                last_warned: None,
            };
            actix_rt::spawn(task.run());
        }
        answered
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks one Postgres.
struct Task {
    activities: Activities,
    server: SuperuserAccess,
    instance: InstanceName,
    incoming: mpsc::UnboundedReceiver<Inquiry>,
    pending: Vec<Inquiry>,
    last_asked: Option<Instant>,
    /// Whether the last question was refused, since no connection was free.
    refused: bool,
    /// The questions in a row that were not answered.
    failures: u32,
    /// When a session was last chosen to end.
    last_chosen: Option<Instant>,
    last_warned: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        loop {
            if self.pending.is_empty() {
                let next = tokio::time::timeout(WARN_INTERVAL, self.incoming.recv()).await;
                match next {
                    Ok(Some(inquiry)) => self.pending.push(inquiry),
                    Ok(None) => return,
                    Err(_) if self.leave() => return,
                    Err(_) => continue,
                }
            }
            loop {
                let due = tokio::time::sleep_until(self.due());
                tokio::select! {
                    biased;
                    Some(inquiry) = self.incoming.recv() => self.pending.push(inquiry),
                    () = due => break,
                }
            }
            self.question().await;
        }
    }

    /// Ends the task, unless a question has come. Questions are sent under the same lock.
    fn leave(&mut self) -> bool {
        let activities = self.activities.clone();
        let mut tasks = activities.lock();
        match self.incoming.try_recv() {
            Ok(inquiry) => {
                self.pending.push(inquiry);
                false
            }
            Err(_) => {
                tasks.remove(&self.server.endpoint);
                true
            }
        }
    }

    /// When the next question may be asked.
    fn due(&self) -> Instant {
        let Some(last) = self.last_asked else {
            return Instant::now();
        };
        let urgent = self
            .pending
            .iter()
            .any(|inquiry| inquiry.urgency == Urgency::Now);
        let interval = match self.failures {
            _ if urgent => URGENT_INTERVAL,
            0 if self.refused => RETRY_INTERVAL,
            failures => INTERVAL
                .saturating_mul(1 << failures.min(10))
                .min(FAILED_INTERVAL_MAX),
        };
        last + interval
    }

    async fn question(&mut self) {
        self.pending.retain(|inquiry| !inquiry.answer.is_closed());
        let count = self.pending.len().min(SESSIONS_MAX);
        let batch: Vec<Inquiry> = self.pending.drain(..count).collect();
        if batch.is_empty() {
            return;
        }
        self.last_asked = Some(Instant::now());
        let process_ids: Vec<i32> = batch.iter().map(|inquiry| inquiry.process_id).collect();
        let probe = &self.activities.probe;
        let asked = probe.backend_activities(&self.server, &process_ids);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
        self.refused = false;
        match answer {
            Ok(Ok(known)) => {
                self.failures = 0;
                for inquiry in batch {
                    let activity = known.get(&inquiry.process_id).copied();
                    inquiry.answer(Answer::Activity(activity));
                }
            }
            Ok(Err(ProbeError::NoFreeConnection)) => {
                self.failures = 0;
                self.refused = true;
                self.choose(batch);
            }
            Ok(Err(ProbeError::Failed(error))) => self.fail(batch, &error.message),
            Err(_) => self.fail(batch, "no answer in time"),
        }
    }

    fn fail(&mut self, batch: Vec<Inquiry>, error: &str) {
        self.failures = self.failures.saturating_add(1);
        // A Postgres that is being stopped fails once, and its sessions end with it.
        if self.failures > 1 && self.may_warn() {
            tracing::warn!(instance = %self.instance, sessions = batch.len(), error, "activities of sessions are unknown, they continue");
        }
        for inquiry in batch {
            inquiry.answer(Answer::Unknown);
        }
    }

    /// Chooses the session to end, at most one in an [`INTERVAL`]. The other candidates wait for the
    /// connection that becomes free.
    fn choose(&mut self, batch: Vec<Inquiry>) {
        let now = Instant::now();
        let (mut candidates, others): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|inquiry| inquiry.candidate.is_some());
        let may_choose = self
            .last_chosen
            .is_none_or(|last| now.duration_since(last) >= INTERVAL);
        let quietest = (0..candidates.len())
            .filter(|_| may_choose)
            .min_by_key(|index| candidates.get(*index).map(|inquiry| inquiry.candidate));
        if let Some(index) = quietest {
            self.last_chosen = Some(now);
            if self.may_warn() {
                tracing::warn!(instance = %self.instance, waiting = candidates.len(), "postgres has no free connection for a question about its sessions, the one that was quiet longest is ended");
            }
            let chosen = candidates.swap_remove(index);
            chosen.answer(Answer::NoFreeConnection { chosen: true });
        }
        let waits = |inquiry: &Inquiry| now.duration_since(inquiry.asked_at) < WAIT_MAX;
        let (waiting, tired): (Vec<_>, Vec<_>) = candidates.into_iter().partition(waits);
        for inquiry in others.into_iter().chain(tired) {
            inquiry.answer(Answer::NoFreeConnection { chosen: false });
        }
        self.pending.extend(waiting);
    }

    /// Whether a warning is not one too many.
    fn may_warn(&mut self) -> bool {
        let now = Instant::now();
        let may = self
            .last_warned
            .is_none_or(|last| now.duration_since(last) >= WARN_INTERVAL);
        if may {
            self.last_warned = Some(now);
        }
        may
    }
}

impl Inquiry {
    /// A session that has ended in the meantime needs no answer.
    fn answer(self, answer: Answer) {
        let _ended = self.answer.send(answer);
    }
}
