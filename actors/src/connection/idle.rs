//! When a session is idle, and how the proxy ends it.
//!
//! The last six bytes of the backend's stream tell that it waits for its client. They can be wrong (a pipelined
//! query runs, or a row ends with these bytes). So the backend is looked up in `pg_stat_activity` before its
//! session is ended, and the session continues if any byte passed in the meantime. Where Postgres has no free
//! connection for that, the last six bytes have to do for one session at a time (`activities.rs`).

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::activities::{Answer, Candidate, INTERVAL, Loss, Urgency};
use super::{ConnectionActor, EndRequest, OpenSession, TerminationReason, cancel};
use crate::metrics::labels::SessionEnd;
use crate::ports::{BackendActivity, ProbeError};
use crate::sessions::{EndConnection, EndReason, SessionState};
use crate::wire::CancelRequest;

/// The time between two checks of a session that is drained.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// The least time between two checks of a session.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// The delay before the backend of a killed session is terminated, if the error of multidb did not end it.
const TERMINATE_DELAY: Duration = Duration::from_millis(100);
/// The delay before the connection of a terminated backend is closed. The backend's error may wait behind
/// bytes that the client does not read.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The limit of a cancel request to a Postgres that has no free connection.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

impl Handler<EndConnection> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, EndConnection(reason): EndConnection, ctx: &mut Self::Context) {
        if let Some(console) = &self.console {
            return console.end(reason);
        }
        match reason {
            EndReason::Killed => {
                self.account_end(SessionEnd::Killed);
                self.kill(ctx);
            }
            EndReason::Drained => self.drain(ctx),
            EndReason::OverLimit(over) => {
                self.end_with_server(TerminationReason::OverLimit(over));
            }
            EndReason::Commanded(command) => {
                self.end_with_server(TerminationReason::Commanded(command));
            }
        }
    }
}

/// How a session over its limit ends.
enum IdleEnd {
    /// By an error of multidb: the backend waits for its client, so its stream is between two messages.
    ByProxy(TerminationReason),
    /// By its backend, which alone knows where a message of its stream ends.
    ByBackend,
}

impl OpenSession {
    /// The shortest limit that may apply to a session that is idle by its bytes, or to an active one.
    fn shortest_limit(&self, idle: bool) -> Duration {
        let limits = self.idle;
        let of_idle = [limits.listen, None, None];
        let of_active = [limits.copy, limits.active, limits.replication];
        let more = if idle { of_idle } else { of_active };
        more.into_iter()
            .flatten()
            .fold(limits.session, Duration::min)
    }

    /// The time between two checks of a session that is over a limit by its bytes and continues.
    fn check_interval(&self) -> Duration {
        let shortest = self.shortest_limit(true).min(self.shortest_limit(false));
        shortest.min(self.idle.transaction).max(CHECK_INTERVAL_MIN)
    }

    /// The idle time after which the backend is probed. It decides also for a session that seems active.
    fn idle_limit(&self, state: SessionState) -> Duration {
        match state {
            SessionState::Idle => self.shortest_limit(true),
            SessionState::Active => self.shortest_limit(false),
            SessionState::IdleInTransaction => self.idle.transaction,
        }
    }

    /// The activity of the backend, by the end of its stream.
    fn activity_by_bytes(&self) -> BackendActivity {
        let stats = &self.session.stats;
        match stats.state() {
            SessionState::Active => BackendActivity::Active,
            SessionState::Idle if stats.listens() => BackendActivity::Listening,
            SessionState::Idle => BackendActivity::Idle,
            SessionState::IdleInTransaction => BackendActivity::IdleInTransaction,
        }
    }

    fn quiet_since(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.session.stats.idle_for())
            .unwrap_or(now)
    }

    /// The session as one that may be ended by its bytes alone, if it is over its limit by them.
    fn candidate(&self, others: bool) -> Option<Candidate> {
        let (limit, _) = self.end_of(self.activity_by_bytes(), others)?;
        let stats = &self.session.stats;
        (stats.idle_for() >= limit).then(|| Candidate {
            loss: match stats.state() {
                SessionState::Idle => Loss::Nothing,
                SessionState::IdleInTransaction => Loss::Transaction,
                SessionState::Active => Loss::Query,
            },
            quiet_since: self.quiet_since(),
        })
    }

    /// The limit of a session whose backend reports this activity, and how it ends. `None` is no limit.
    fn end_of(&self, activity: BackendActivity, others: bool) -> Option<(Duration, IdleEnd)> {
        let limits = self.idle;
        let by_proxy = |limit, reason| Some((limit, IdleEnd::ByProxy(reason)));
        let session = limits.session;
        match activity {
            BackendActivity::Idle => {
                by_proxy(session, TerminationReason::IdleSession { limit: session })
            }
            BackendActivity::Listening => match limits.listen {
                Some(limit) => by_proxy(limit, TerminationReason::IdleListener { limit }),
                None if others => None,
                None => by_proxy(session, TerminationReason::IdleSession { limit: session }),
            },
            BackendActivity::IdleInTransaction => {
                let limit = limits.transaction;
                by_proxy(limit, TerminationReason::IdleInTransaction { limit })
            }
            BackendActivity::InCopy { waits: true } => {
                let limit = limits.copy?;
                by_proxy(limit, TerminationReason::IdleInCopy { limit })
            }
            BackendActivity::InCopy { waits: false } | BackendActivity::Active => {
                Some((limits.active?, IdleEnd::ByBackend))
            }
            BackendActivity::Replicating => Some((limits.replication?, IdleEnd::ByBackend)),
        }
    }
}

impl ConnectionActor {
    /// Schedules a check for the time when the session may be over a limit.
    pub(super) fn watch_idleness(&mut self, ctx: &mut Context<Self>) {
        let Some(open) = &self.session else {
            return;
        };
        let stats = &open.session.stats;
        let limit = open.idle_limit(stats.state());
        let remaining = limit.saturating_sub(stats.idle_for());
        // A transaction that begins in the meantime may have a shorter limit.
        let next = remaining.min(open.check_interval()).max(CHECK_INTERVAL_MIN);
        ctx.run_later(next, Self::check);
    }

    fn check(&mut self, ctx: &mut Context<Self>) {
        let Some(open) = &self.session else {
            return;
        };
        let stats = &open.session.stats;
        if stats.idle_for() < open.idle_limit(stats.state()) {
            return self.watch_idleness(ctx);
        }
        let candidate = open.candidate(self.others_work(open));
        self.probe(ctx, Urgency::Check, candidate, |actor, answer, chunks, ctx| {
            let Some(open) = &actor.session else {
                return;
            };
            let session = &open.session;
            let activity = match answer {
                Answer::Activity(activity) => activity,
                Answer::NoFreeConnection { chosen: true } => Some(open.activity_by_bytes()),
                Answer::NoFreeConnection { chosen: false } | Answer::Unknown => None,
            };
            let activity = match activity {
                Some(BackendActivity::Idle) if session.stats.listens() => Some(BackendActivity::Listening),
                activity => activity,
            };
            if activity == Some(BackendActivity::Listening) && session.stats.chunks() == chunks {
                session.stats.note_only_listens();
            }
            let others = actor.others_work(open);
            let next = open.check_interval().max(INTERVAL);
            let end = activity.and_then(|activity| open.end_of(activity, others));
            let over = |limit| session.stats.idle_for() >= limit && session.stats.chunks() == chunks;
            match end {
                Some((limit, IdleEnd::ByProxy(reason))) if over(limit) => {
                    actor.end_if_quiet(reason, chunks);
                }
                Some((limit, IdleEnd::ByBackend)) if over(limit) => {
                    tracing::info!(id = %actor.id, instance = %open.instance.name, ?activity, ?limit, "session is over its limit, its backend is terminated");
                    actor.account_end(SessionEnd::Active);
                    return actor.terminate(ctx);
                }
                _ => {}
            }
            // For a session that continues because bytes have passed.
            ctx.run_later(next, Self::check);
        });
    }

    /// Ends the session as soon as it is idle outside a transaction.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        let Some(open) = &self.session else {
            return ctx.stop();
        };
        if open.session.stats.state() != SessionState::Idle {
            ctx.run_later(DRAIN_INTERVAL, Self::drain);
            return;
        }
        let candidate = Candidate {
            loss: Loss::Nothing,
            quiet_since: open.quiet_since(),
        };
        self.probe(
            ctx,
            Urgency::Now,
            Some(candidate),
            |actor, answer, chunks, ctx| {
                if let Answer::NoFreeConnection { chosen: true }
                | Answer::Activity(Some(BackendActivity::Idle | BackendActivity::Listening)) =
                    answer
                {
                    actor.end_if_quiet(TerminationReason::ShuttingDown, chunks);
                }
                ctx.run_later(DRAIN_INTERVAL, Self::drain);
            },
        );
    }

    /// Ends the session now: by an error of multidb if its backend waits for its client, else by the backend.
    fn kill(&mut self, ctx: &mut Context<Self>) {
        if self.session.is_none() {
            return ctx.stop();
        }
        self.probe(
            ctx,
            Urgency::Now,
            None,
            |actor, answer, chunks, ctx| match actor.activity(answer) {
                Some(
                    BackendActivity::Idle
                    | BackendActivity::Listening
                    | BackendActivity::IdleInTransaction,
                ) => {
                    actor.end_if_quiet(TerminationReason::Killed, chunks);
                    // For a client that has sent a query in the meantime.
                    ctx.run_later(TERMINATE_DELAY, Self::terminate);
                }
                Some(
                    BackendActivity::InCopy { .. }
                    | BackendActivity::Active
                    | BackendActivity::Replicating,
                )
                | None => actor.terminate(ctx),
            },
        );
    }

    /// Terminates the backend, which ends the session.
    fn terminate(&mut self, ctx: &mut Context<Self>) {
        let Some(open) = &self.session else {
            return ctx.stop();
        };
        let probe = self.deps.probe.clone();
        let (id, instance) = (self.id, open.instance.clone());
        let (process_id, key) = open.session.cancel_key.clone();
        let terminated = async move {
            let terminated = probe.terminate_backend(&instance.server, process_id).await;
            if terminated == Err(ProbeError::NoFreeConnection) {
                // The backend notices that its client is gone once its query is cancelled.
                let request = CancelRequest { process_id, key };
                cancel::pass_on(&request, id, &instance, CANCEL_TIMEOUT).await;
            }
            terminated
        };
        ctx.spawn(terminated.into_actor(self).map(|result, actor, ctx| {
            match result {
                Ok(()) => {
                    ctx.run_later(KILL_TIMEOUT, |_, ctx| ctx.stop());
                }
                // No error can come from a backend that cannot be reached.
                Err(error) => {
                    tracing::warn!(id = %actor.id, error = multidb_store::error_chain(&error), "backend could not be terminated, its connection is closed");
                    ctx.stop();
                }
            }
        }));
    }

    /// Notes why the session will have ended, where its relay does not know that.
    fn account_end(&mut self, end: SessionEnd) {
        if let Some(account) = &mut self.account {
            account.ends_by(end);
        }
    }

    fn end_with_server(&mut self, reason: TerminationReason) {
        self.account_end(SessionEnd::from(&reason));
        if let Some(open) = &self.session {
            open.control.end_with_server(reason);
        }
    }

    fn end_if_quiet(&self, reason: TerminationReason, chunks: u64) {
        if let Some(open) = &self.session {
            tracing::debug!(
                id = %self.id,
                instance = %open.instance.name,
                reason = reason.code(),
                "session is ended"
            );
            open.control.request(EndRequest { reason, chunks });
        }
    }

    /// Asks about the backend, then calls `then` with the answer and with the count of chunks before the
    /// question.
    fn probe(
        &mut self,
        ctx: &mut Context<Self>,
        urgency: Urgency,
        candidate: Option<Candidate>,
        then: impl FnOnce(&mut Self, Answer, u64, &mut Context<Self>) + 'static,
    ) {
        let Some(open) = &self.session else {
            return;
        };
        let chunks = open.session.stats.chunks();
        let process_id = open.session.cancel_key.0;
        let activities = &self.deps.activities;
        let answered = activities.ask(process_id, &open.instance, urgency, candidate);
        ctx.spawn(answered.into_actor(self).map(move |answer, actor, ctx| {
            then(actor, answer.unwrap_or(Answer::Unknown), chunks, ctx);
        }));
    }

    /// The activity of a session that is to be ended at once. Where Postgres cannot be asked for want of a
    /// connection, the bytes have to do.
    fn activity(&self, answer: Answer) -> Option<BackendActivity> {
        match answer {
            Answer::Activity(activity) => activity,
            Answer::NoFreeConnection { .. } => Some(self.session.as_ref()?.activity_by_bytes()),
            Answer::Unknown => None,
        }
    }

    /// Whether the instance has another session that does more than listen.
    fn others_work(&self, open: &OpenSession) -> bool {
        let instance = &open.instance.name;
        self.deps.sessions.serves_others(instance, self.id)
    }
}
