//! `multidb instance recover`: makes an instance usable again, or brings a quarantined clone back as one.
//!
//! An instance that has failed, or whose actor was given up, looks for its server again and changes nothing. A
//! quarantined clone gets the next epoch, and the name that the administrator gave. Its new manifest is durable before
//! it leaves the quarantine, and it leaves it by one rename: a crash at any moment leaves it in the quarantine, or in
//! its place, where the rule of a start serves it under that name.

use multidb_store::quarantine::Quarantined;

use super::revive::found_server;
use super::*;
use crate::clone_worker::{ListQuarantine, TakeFromQuarantine, worker_ended};
use crate::instance::lifecycle::Command;
use crate::instance::{Found, RunLeases, origin};
use crate::ports::{CloneError, FIND_TIMEOUT, ServerId, find_server};

/// Makes an instance usable again, or brings back a clone from the quarantine. Answers with the name of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<InstanceName, RecoverError>")]
pub struct RecoverInstance {
    /// The instance, or the name that the clone had.
    pub name: InstanceName,
    /// The clone; by default the one of the highest epoch.
    pub uid: Option<InstanceUid>,
    /// The name that the clone gets, if it is another one.
    pub new_name: Option<InstanceName>,
}

/// Why nothing was recovered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// There is no instance of this name, and no such clone of it in the quarantine.
    #[error("there is nothing of \"{instance}\" to recover")]
    NothingToRecover {
        /// The name.
        instance: InstanceName,
        /// The clones in the quarantine, by uid.
        quarantined: Vec<String>,
    },
    /// The name of the new instance is taken.
    #[error("instance \"{instance}\" exists")]
    InstanceExists {
        /// The name.
        instance: InstanceName,
        /// The clone, which stays in the quarantine.
        uid: InstanceUid,
    },
    /// The manifest of the clone cannot be used.
    #[error("the manifest of the quarantined clone {uid} cannot be used: {why}")]
    ManifestUnusable {
        /// The clone.
        uid: InstanceUid,
        /// The reason.
        why: String,
    },
    /// The quarantine could not be read, or the clone not be moved.
    #[error("the clone stays in the quarantine")]
    Storage(#[source] CloneError),
    /// The instance has not recovered.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl Handler<RecoverInstance> for Supervisor {
    type Result = ResponseActFuture<Self, Result<InstanceName, RecoverError>>;

    fn handle(&mut self, message: RecoverInstance, ctx: &mut Self::Context) -> Self::Result {
        if message.uid.is_none() && message.new_name.is_none() && self.has_failed(&message.name) {
            return Box::pin(recover_failed(message.name, ctx.address()).into_actor(self));
        }
        let listed = self.deps.worker.send(ListQuarantine).into_actor(self);
        Box::pin(listed.then(move |listed, actor, _| {
            let listed = listed.unwrap_or_else(|_| Err(worker_ended()));
            let begun = listed
                .map_err(RecoverError::Storage)
                .and_then(|listed| actor.begin_recovery(&message, listed));
            let (runtime, worker) = (actor.deps.runtime.clone(), actor.deps.worker.clone());
            let taken = async move {
                let record = match begun? {
                    Recovery::Needless(name) => return Ok(Recovered::Was(name)),
                    Recovery::Take(record) => record,
                };
                let taken = worker.send(TakeFromQuarantine((*record).clone())).await;
                if let Err(error) = taken.unwrap_or_else(|_| Err(worker_ended())) {
                    return Ok(Recovered::Not(record.name, error));
                }
                let answer = find_server(&*runtime, ServerId::from(&*record), FIND_TIMEOUT).await;
                let found = found_server(&record, answer);
                Ok(Recovered::Taken(record, found))
            };
            let taken = taken.into_actor(actor);
            taken.map(|taken: Result<_, RecoverError>, actor, ctx| actor.end_recovery(taken?, ctx))
        }))
    }
}

/// The task of a recovery.
enum Recovery {
    /// Nothing: the instance is in order.
    Needless(InstanceName),
    /// Bring back the clone of this record.
    Take(Box<InstanceRecord>),
}

/// The result of a recovery.
enum Recovered {
    /// The instance is in order, as it was.
    Was(InstanceName),
    /// The clone is in its place, and this is known of its server.
    Taken(Box<InstanceRecord>, Found),
    /// The clone for this name is still in the quarantine.
    Not(InstanceName, CloneError),
}

/// Has an instance look for its server again.
async fn recover_failed(
    name: InstanceName,
    supervisor: Addr<Supervisor>,
) -> Result<InstanceName, RecoverError> {
    let command = ControlInstance {
        name: name.clone(),
        command: Command::Recover,
    };
    match supervisor.send(command).await {
        Ok(Some(done)) => Ok(done.map(|()| name)?),
        Ok(None) => Err(InstanceError::Deleted.into()),
        Err(_) => Err(InstanceError::Died.into()),
    }
}

impl Supervisor {
    fn has_failed(&self, name: &InstanceName) -> bool {
        let status = self.table.get(name);
        status
            .is_some_and(|status| matches!(status.state, State::Failed | State::Unavailable { .. }))
    }

    /// Chooses the clone and reserves its name. Clients that ask for it meanwhile wait.
    fn begin_recovery(
        &mut self,
        message: &RecoverInstance,
        quarantined: Vec<Quarantined>,
    ) -> Result<Recovery, RecoverError> {
        let name = message.new_name.as_ref().unwrap_or(&message.name);
        let exists = self.table.get(name).is_some();
        let chosen = choose(&message.name, message.uid, quarantined);
        if exists
            && *message == RecoverInstance::named(name.clone())
            && let Err(RecoverError::NothingToRecover { .. }) = chosen
        {
            return Ok(Recovery::Needless(name.clone()));
        }
        let mut record = chosen?;
        if exists || self.choosing.contains_key(name) {
            return Err(RecoverError::InstanceExists {
                instance: name.clone(),
                uid: record.uid,
            });
        }
        self.choosing.insert(name.clone(), Vec::new());
        let now = self.deps.clock.now();
        record.name = name.clone();
        record.epoch = self.deps.epochs.next_epoch();
        record.sequence += 1;
        record.phase = Phase::Ready;
        record.last_used_at = record.last_used_at.max(now.wall);
        record.last_used_observed = record.last_used_observed.max(now.observed);
        record.marked = None;
        record.runtime.get_or_insert(self.deps.runtime.kind());
        Ok(Recovery::Take(Box::new(record)))
    }

    fn end_recovery(
        &mut self,
        recovered: Recovered,
        ctx: &mut Context<Self>,
    ) -> Result<InstanceName, RecoverError> {
        let (name, failure) = match recovered {
            Recovered::Was(name) => return Ok(name),
            Recovered::Not(name, error) => (name, Some(error)),
            Recovered::Taken(record, found) => {
                tracing::info!(
                    instance = %record.name,
                    uid = %record.uid,
                    epoch = record.epoch,
                    "a quarantined clone is an instance again"
                );
                let name = record.name.clone();
                let run = self.slots.try_acquire().map(RunLeases::new);
                let origin = origin(&record, found, run);
                self.place(*record, origin, ctx);
                self.await_runtime(ctx);
                (name, None)
            }
        };
        let waiting = self.choosing.remove(&name).unwrap_or_default();
        if self.choosing.is_empty() {
            self.removals.forget_confirmed();
        }
        for waiter in waiting {
            self.acquire(waiter, ctx);
        }
        failure.map_or(Ok(name), |error| Err(RecoverError::Storage(error)))
    }
}

impl RecoverInstance {
    /// The recovery of an instance, or of the newest clone that had its name.
    pub fn named(name: InstanceName) -> Self {
        Self {
            name,
            uid: None,
            new_name: None,
        }
    }
}

/// The record of the quarantined clone that had this name: the one with this uid, or the one of the highest epoch.
fn choose(
    name: &InstanceName,
    uid: Option<InstanceUid>,
    quarantined: Vec<Quarantined>,
) -> Result<InstanceRecord, RecoverError> {
    let is_chosen = |one: &&Quarantined| match (&one.manifest, uid) {
        (Ok(record), None) => record.name == *name,
        (Ok(record), Some(uid)) => record.name == *name && record.uid == uid,
        (Err(_), uid) => uid.is_some() && one.uid == uid,
    };
    // One whose manifest cannot be used is chosen by its uid alone.
    let epoch = |one: &&Quarantined| {
        let record = one.manifest.as_ref();
        record.map_or((0, 0), |record| (record.epoch, record.sequence))
    };
    let chosen = quarantined.iter().filter(is_chosen).max_by_key(epoch);
    match chosen.map(|one| (one.uid, &one.manifest)) {
        Some((_, Ok(record))) => Ok(record.clone()),
        Some((Some(uid), Err(why))) => Err(RecoverError::ManifestUnusable {
            uid,
            why: why.clone(),
        }),
        Some((None, Err(_))) | None => Err(RecoverError::NothingToRecover {
            instance: name.clone(),
            quarantined: quarantined.iter().map(ToString::to_string).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn kept(name: &str, number: u64, epoch: u64) -> Quarantined {
        let mut record = record(name, number, Phase::Ready);
        record.epoch = epoch;
        Quarantined {
            uid: Some(record.uid),
            directory: format!("/quarantine/{}", record.uid).into(),
            note: None,
            manifest: Ok(record),
        }
    }

    fn damaged(number: u64) -> Quarantined {
        Quarantined {
            manifest: Err("it is damaged".to_owned()),
            ..kept("x", number, 1)
        }
    }

    #[test]
    fn newest_clone_of_the_name_is_chosen_or_the_one_of_the_uid() {
        let uid = InstanceUid::from_bits;
        let chosen = |name: &str, uid| {
            let quarantined = vec![
                kept("a", 1, 5),
                kept("a", 2, 7),
                kept("b", 3, 9),
                damaged(4),
            ];
            choose(&name.parse().unwrap(), uid, quarantined)
        };
        assert_eq!(chosen("a", None).unwrap().uid, uid(2));
        assert_eq!(chosen("a", Some(uid(1))).unwrap().uid, uid(1));
        let of_another = chosen("a", Some(uid(3))).unwrap_err();
        let RecoverError::NothingToRecover { quarantined, .. } = of_another else {
            panic!("{of_another}")
        };
        let expected = [
            "\"a\" (000000000001)",
            "\"a\" (000000000002)",
            "\"b\" (000000000003)",
            "000000000004",
        ];
        assert_eq!(quarantined, expected);
        assert!(matches!(
            chosen("a", Some(uid(4))),
            Err(RecoverError::ManifestUnusable { .. })
        ));
        assert!(matches!(
            chosen("x", None),
            Err(RecoverError::NothingToRecover { .. })
        ));
    }
}
