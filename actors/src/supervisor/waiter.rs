//! Clients that wait until their instance has an actor.

use super::*;

/// A client that waits until its instance has an actor.
pub(super) struct Waiter {
    pub(super) request: ConnectRequest,
    pub(super) identity: Identity,
    pub(super) reply: oneshot::Sender<Result<Acquired, AcquireError>>,
}

impl Supervisor {
    /// Answers the waiters: the first one created the instance, the others found it.
    pub(super) fn answer_created(
        &mut self,
        waiting: Vec<Waiter>,
        created: Created,
        ctx: &mut Context<Self>,
    ) {
        for (position, waiter) in waiting.into_iter().enumerate() {
            if position > 0 || self.draining {
                self.acquire(waiter, ctx);
                continue;
            }
            let Some(status) = self.table.get(&waiter.request.instance) else {
                waiter.refuse(AcquireError::Unanswered);
                continue;
            };
            let record = status.record;
            waiter.answer(Acquired {
                addr: self.actor_of(&record, ctx),
                settings: self.settings_of(&record),
                record,
                created: Some(created.clone()),
            });
        }
    }
}

impl Waiter {
    /// Whether the client may use this project as the role that it asks for.
    pub(super) fn admit(
        &self,
        project: &ProjectName,
        settings: &ProjectSettings,
    ) -> Result<(), DenyReason> {
        let role = self.request.role.as_deref().unwrap_or(&settings.role);
        self.identity.admit(project, role)
    }

    pub(super) fn answer(self, acquired: Acquired) {
        if self.reply.send(Ok(acquired)).is_err() {
            tracing::debug!("a client left before its instance was found");
        }
    }

    pub(super) fn refuse(self, error: AcquireError) {
        if self.reply.send(Err(error)).is_err() {
            tracing::debug!("a client left before its refusal");
        }
    }
}
