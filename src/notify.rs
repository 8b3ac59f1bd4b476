//! Tells people and programs of events: `[[notify]]`.
//!
//! [`ledger`] is pure: it knows the occurrences that were told, and chooses the ones that are to be told from the
//! present ones. `control/notifying.rs` looks for these every few seconds, in the records and the tables that there are
//! anyway, so that no actor sends or waits for anything. A [`Notifier`] has a bounded queue and a task for each target,
//! which is a [`command`] or a [`webhook`]. A message that no target has taken yet is told again after a restart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::{NotifyConfig, NotifyTarget};

mod command;
pub mod ledger;
pub mod message;
mod webhook;

use self::message::Message;

/// The messages that wait for a target; the oldest one is dropped for a further one.
const QUEUED_MAX: usize = 100;
/// The attempts to deliver a message, with delays of a quarter of an hour together.
const ATTEMPTS_MAX: u32 = 10;
/// The delay after the first failed attempt; it doubles with each one.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest delay.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(300);

/// The targets of the configuration. Clones share them.
#[derive(Clone)]
pub struct Notifier {
    targets: Arc<[Target]>,
}

/// A target and the messages that wait for it.
struct Target {
    config: NotifyConfig,
    state: Mutex<TargetState>,
    queued: Notify,
}

#[derive(Default)]
struct TargetState {
    queue: VecDeque<Arc<Message>>,
    counts: TargetCounts,
}

/// The results of the messages to a target since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetCounts {
    /// The messages that it took.
    pub sent: u64,
    /// The messages that it did not take in all attempts, or refused.
    pub failed: u64,
    /// The messages that were dropped, since too many waited.
    pub dropped: u64,
    /// When it last took one.
    pub last_sent_at: Option<Timestamp>,
    /// The error of the last attempt, if that failed.
    pub last_error: Option<String>,
}

/// A target, as the status shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    /// The program, or the URL without secrets.
    pub target: String,
    /// The names of its events.
    pub on: Vec<&'static str>,
    /// The messages that wait.
    pub queued: usize,
    /// The results of the other messages.
    pub counts: TargetCounts,
}

/// Why an attempt failed.
#[derive(Debug)]
struct AttemptError {
    message: String,
    /// Whether a further attempt may succeed.
    passes: bool,
}

impl AttemptError {
    /// A failure that may pass.
    fn passing(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            passes: true,
        }
    }

    /// A failure that stays until the operator changes something.
    fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            passes: false,
        }
    }
}

impl Notifier {
    /// The targets of these sections.
    pub fn new(sections: &[NotifyConfig]) -> Self {
        let targets = sections.iter().map(|config| Target {
            config: config.clone(),
            state: Mutex::default(),
            queued: Notify::new(),
        });
        Self {
            targets: targets.collect(),
        }
    }

    /// Whether there are no targets.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Queues a message for the targets that want its event. Never waits.
    pub fn send(&self, message: Message) {
        let message = Arc::new(message);
        for target in self.targets.iter() {
            if message
                .event()
                .is_some_and(|event| target.config.on.contains(&event))
            {
                target.push(message.clone());
            }
        }
    }

    /// Delivers the queued messages, for as long as it is polled.
    pub async fn run(&self) {
        join_all(self.targets.iter().map(Target::run)).await;
    }

    /// Delivers a message to every target once, regardless of the events that the target wants, past the queues.
    /// Returns the error of each target that did not take it, in the order of the configuration.
    pub async fn deliver_to_all(&self, message: &Message) -> Vec<(String, Option<String>)> {
        let attempts = self.targets.iter().map(|target| async {
            let attempt = target.attempt(message).await;
            let name = target.config.target.to_string();
            (name, attempt.err().map(|error| error.message))
        });
        join_all(attempts).await
    }

    /// The targets, in the order of the configuration.
    pub fn status(&self) -> Vec<TargetStatus> {
        let targets = self.targets.iter();
        targets.map(Target::status).collect()
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, TargetState> {
        // Each change is whole when the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> TargetStatus {
        let state = self.state();
        TargetStatus {
            target: self.config.target.to_string(),
            on: self.config.on.iter().map(|event| event.name()).collect(),
            queued: state.queue.len(),
            counts: state.counts.clone(),
        }
    }

    fn push(&self, message: Arc<Message>) {
        let dropped = {
            let mut state = self.state();
            state.queue.push_back(message);
            let is_full = state.queue.len() > QUEUED_MAX;
            let oldest = is_full.then(|| state.queue.pop_front()).flatten();
            state.counts.dropped += u64::from(oldest.is_some());
            oldest.map(|oldest| (oldest, state.counts.dropped))
        };
        if let Some((oldest, dropped)) = dropped {
            tracing::warn!(
                target = %self.config.target,
                event = oldest.event_word(),
                id = oldest.id(),
                dropped,
                "a notification is dropped, since {QUEUED_MAX} newer ones wait for the target"
            );
        }
        self.queued.notify_one();
    }

    async fn run(&self) {
        loop {
            let next = self.state().queue.pop_front();
            match next {
                Some(message) => self.deliver(&message).await,
                None => self.queued.notified().await,
            }
        }
    }

    /// Delivers a message, in several attempts if it takes them.
    async fn deliver(&self, message: &Message) {
        let (target, event, id) = (&self.config.target, message.event_word(), message.id());
        for attempt in 1.. {
            let error = match self.attempt(message).await {
                Ok(()) => {
                    let mut state = self.state();
                    state.counts.sent += 1;
                    state.counts.last_sent_at = Some(Timestamp::now());
                    state.counts.last_error = None;
                    tracing::debug!(%target, event, id, attempt, "a notification is delivered");
                    return;
                }
                Err(error) => error,
            };
            let is_last = attempt >= ATTEMPTS_MAX || !error.passes;
            {
                let mut state = self.state();
                state.counts.failed += u64::from(is_last);
                state.counts.last_error = Some(error.message.clone());
            }
            let error = &error.message;
            if is_last {
                tracing::error!(
                    %target, event, id, attempt, error,
                    "a notification is given up; \"multidb notify test\" tries the targets"
                );
                return;
            }
            let delay = delay(attempt, rand::random());
            tracing::warn!(
                %target, event, id, attempt, error,
                next_in = %humantime::format_duration(Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))),
                "a notification was not taken, and is tried again"
            );
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt(&self, message: &Message) -> Result<(), AttemptError> {
        let attempt = async {
            match &self.config.target {
                NotifyTarget::Command(command) => command::run(command, message).await,
                NotifyTarget::Webhook { url, secret } => {
                    webhook::post(url, secret.as_ref(), message).await
                }
            }
        };
        let limit = self.config.timeout;
        timeout(limit, attempt).await.unwrap_or_else(|_| {
            let limit = humantime::format_duration(limit);
            Err(AttemptError::passing(format!("took longer than {limit}")))
        })
    }
}

/// The delay after so many failed attempts. `random` spreads them over its second half, so that many messages do not
/// come at once to a target that is back.
fn delay(attempts: u32, random: u16) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let full = RETRY_DELAY
        .saturating_mul(1 << doublings)
        .min(RETRY_DELAY_MAX);
    full / 2 + full / 2 * u32::from(random) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_limit() {
        let seconds = |attempts, random| delay(attempts, random).as_secs_f64();
        for (attempts, full) in [
            (1, 1.0),
            (2, 2.0),
            (5, 16.0),
            (9, 256.0),
            (10, 300.0),
            (999, 300.0),
        ] {
            assert_eq!(seconds(attempts, 0), full / 2.0);
            assert_eq!(seconds(attempts, u16::MAX), full);
        }
        let longest: f64 = (1..ATTEMPTS_MAX)
            .map(|attempt| seconds(attempt, u16::MAX))
            .sum();
        assert!(longest < 900.0, "{longest}");
    }
}
