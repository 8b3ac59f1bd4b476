//! When a session is idle, and how it ends from our side.
//!
//! The last six bytes of the backend's stream say that it waits for its client. They can be wrong
//! (a pipelined query runs, a row ends like that), so before anything is ended the backend is
//! asked through `pg_stat_activity`, and then it is only ended if nothing was said meanwhile.

use std::time::Duration;

use actix::prelude::*;

use super::{ConnectionActor, EndRequest, OpenSession, TerminationReason};
use crate::ports::BackendActivity;
use crate::sessions::{EndConnection, EndReason, SessionState};

/// How often a session is looked at while the daemon waits for it to become idle.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// The least time between two looks at a session.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// The least time between two questions to its backend, each of which costs a backend of its own.
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// How long an idle session may take to end by a word of ours.
const KILL_PAUSE: Duration = Duration::from_millis(100);
/// How long a backend that was told to end may take until its connection is cut: its last word
/// may have to wait behind what its client does not read.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

impl Handler<EndConnection> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, EndConnection(reason): EndConnection, ctx: &mut Self::Context) {
        match reason {
            EndReason::Killed => self.kill(ctx),
            EndReason::Drained => self.drain(ctx),
        }
    }
}

/// How a session ends that did nothing for too long.
enum IdleEnd {
    /// By a word of ours: its backend is silent, and waits for its client.
    Told(TerminationReason),
    /// By its backend, which alone knows where a message of its stream ends.
    Terminated,
}

impl OpenSession {
    /// The shortest limit of a session that its bytes say is idle, or of one that they say is not.
    fn shortest_limit(&self, idle: bool) -> Duration {
        let limits = self.idle;
        let of_idle = [limits.listen, None, None];
        let of_active = [limits.copy, limits.active, limits.replication];
        let more = if idle { of_idle } else { of_active };
        more.into_iter()
            .flatten()
            .fold(limits.session, Duration::min)
    }

    /// How often a session is looked at that is over a limit by its bytes and goes on.
    fn look_interval(&self) -> Duration {
        let shortest = self.shortest_limit(true).min(self.shortest_limit(false));
        shortest.min(self.idle.transaction).max(LOOK_INTERVAL_MIN)
    }

    /// How long a session may do nothing. One that seems to work is looked at as often as one that
    /// is idle: its backend knows better.
    fn idle_limit(&self, state: SessionState) -> Duration {
        match state {
            SessionState::Idle => self.shortest_limit(true),
            SessionState::Active => self.shortest_limit(false),
            SessionState::IdleInTransaction => self.idle.transaction,
        }
    }

    /// How long a session may do nothing whose backend says this of itself, and how it ends after
    /// that time; `None` where there is no end to it.
    fn end_of(&self, activity: BackendActivity, others: bool) -> Option<(Duration, IdleEnd)> {
        let limits = self.idle;
        let told = |limit, reason| Some((limit, IdleEnd::Told(reason)));
        let session = limits.session;
        match activity {
            BackendActivity::Idle => {
                told(session, TerminationReason::IdleSession { limit: session })
            }
            BackendActivity::Listening => match limits.listen {
                Some(limit) => told(limit, TerminationReason::IdleListener { limit }),
                None if others => None,
                None => told(session, TerminationReason::IdleSession { limit: session }),
            },
            BackendActivity::IdleInTransaction => {
                let limit = limits.transaction;
                told(limit, TerminationReason::IdleInTransaction { limit })
            }
            BackendActivity::InCopy { waits: true } => {
                let limit = limits.copy?;
                told(limit, TerminationReason::IdleInCopy { limit })
            }
            BackendActivity::InCopy { waits: false } | BackendActivity::Active => {
                Some((limits.active?, IdleEnd::Terminated))
            }
            BackendActivity::Replicating => Some((limits.replication?, IdleEnd::Terminated)),
        }
    }
}

impl ConnectionActor {
    /// Looks at the session when it may have been idle for too long, and again and again.
    pub(super) fn watch_idleness(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = &self.session else {
            return;
        };
        let stats = &session.shown.stats;
        let limit = session.idle_limit(stats.state());
        let remaining = limit.saturating_sub(stats.idle_for());
        // By then it may have begun a transaction, whose limit may be the shorter one.
        let next = remaining
            .min(session.look_interval())
            .max(LOOK_INTERVAL_MIN);
        ctx.run_later(next, Self::look);
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = &self.session else {
            return;
        };
        let stats = &session.shown.stats;
        if stats.idle_for() < session.idle_limit(stats.state()) {
            return self.watch_idleness(ctx);
        }
        self.ask(ctx, |actor, activity, chunks, ctx| {
            let Some(session) = &actor.session else {
                return;
            };
            let shown = &session.shown;
            let activity = match activity {
                Some(BackendActivity::Idle) if shown.stats.listens() => Some(BackendActivity::Listening),
                activity => activity,
            };
            if activity == Some(BackendActivity::Listening) && shown.stats.chunks() == chunks {
                shown.stats.note_only_listens();
            }
            let others = actor.deps.sessions.serves_others(&shown.instance, actor.id);
            let next = session.look_interval().max(ASK_INTERVAL_MIN);
            let end = activity.and_then(|activity| session.end_of(activity, others));
            let over = |limit| shown.stats.idle_for() >= limit && shown.stats.chunks() == chunks;
            match end {
                Some((limit, IdleEnd::Told(reason))) if over(limit) => {
                    actor.end_if_quiet(reason, chunks);
                }
                Some((limit, IdleEnd::Terminated)) if over(limit) => {
                    tracing::info!(id = %actor.id, instance = %shown.instance, ?activity, ?limit, "session was silent for too long, its backend is ended");
                    return actor.terminate(ctx);
                }
                _ => {}
            }
            // If it was not, since the client spoke after all, there is a next time.
            ctx.run_later(next, Self::look);
        });
    }

    /// Ends the session as soon as it is idle outside a transaction.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = &self.session else {
            return ctx.stop();
        };
        if session.shown.stats.state() != SessionState::Idle {
            ctx.run_later(DRAIN_INTERVAL, Self::drain);
            return;
        }
        self.ask(ctx, |actor, activity, chunks, ctx| {
            if let Some(BackendActivity::Idle | BackendActivity::Listening) = activity {
                actor.end_if_quiet(TerminationReason::ShuttingDown, chunks);
            }
            ctx.run_later(DRAIN_INTERVAL, Self::drain);
        });
    }

    /// Ends the session now: by ourselves where its backend waits for its client, else by its backend, which
    /// alone knows where a message of its stream ends.
    fn kill(&mut self, ctx: &mut Context<Self>) {
        if self.session.is_none() {
            return ctx.stop();
        }
        self.ask(ctx, |actor, activity, chunks, ctx| match activity {
            Some(
                BackendActivity::Idle
                | BackendActivity::Listening
                | BackendActivity::IdleInTransaction,
            ) => {
                actor.end_if_quiet(TerminationReason::Killed, chunks);
                // Unless the client spoke after all.
                ctx.run_later(KILL_PAUSE, Self::terminate);
            }
            Some(
                BackendActivity::InCopy { .. }
                | BackendActivity::Active
                | BackendActivity::Replicating,
            )
            | None => actor.terminate(ctx),
        });
    }

    /// Has the session ended by its backend.
    fn terminate(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = &self.session else {
            return ctx.stop();
        };
        let probe = self.deps.probe.clone();
        let shown = session.shown.clone();
        let terminated = async move {
            let process_id = shown.cancel_key.0;
            let endpoint = &shown.endpoint;
            probe
                .terminate_backend(endpoint, &shown.superuser, process_id)
                .await
        };
        ctx.spawn(terminated.into_actor(self).map(|result, actor, ctx| {
            match result {
                Ok(()) => {
                    ctx.run_later(KILL_PATIENCE, |_, ctx| ctx.stop());
                }
                // A backend that cannot be reached has no more to say.
                Err(error) => {
                    tracing::warn!(id = %actor.id, error = multidb_store::error_chain(&error), "backend was not told to end, its connection is cut");
                    ctx.stop();
                }
            }
        }));
    }

    fn end_if_quiet(&self, reason: TerminationReason, chunks: u64) {
        if let Some(session) = &self.session {
            tracing::info!(
                id = %self.id,
                instance = %session.shown.instance,
                reason = reason.code(),
                "session is ended"
            );
            session.control.request(EndRequest { reason, chunks });
        }
    }

    /// Asks the backend what it does, and goes on with its answer and with the count of chunks of
    /// before the question. There is no answer where it cannot be asked, or is gone.
    fn ask(
        &mut self,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Option<BackendActivity>, u64, &mut Context<Self>) + 'static,
    ) {
        let Some(session) = &self.session else {
            return;
        };
        let probe = self.deps.probe.clone();
        let shown = session.shown.clone();
        let chunks = shown.stats.chunks();
        let asked = async move {
            let process_id = shown.cancel_key.0;
            let process_ids = [process_id];
            let asked = probe.backend_activities(&shown.endpoint, &shown.superuser, &process_ids);
            asked.await.map(|known| known.get(&process_id).copied())
        };
        ctx.spawn(asked.into_actor(self).map(move |answer, actor, ctx| {
            let activity = answer.unwrap_or_else(|error| {
                tracing::warn!(id = %actor.id, error = multidb_store::error_chain(&error), "cannot tell whether a session is idle, it goes on");
                None
            });
            then(actor, activity, chunks, ctx);
        }));
    }
}
