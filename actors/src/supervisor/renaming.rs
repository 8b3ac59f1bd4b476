//! `multidb instance rename`: another name for an instance, whose sessions go on.
//!
//! Its actor ends, like an actor that panics, so its run, with its slot and its sessions, outlives it. The manifest of
//! the clone with the new name and the next epoch is the commit: a start drops a record whose clone has another name
//! and a higher epoch (`store/src/recovery.rs`). Then its record follows, and a new actor takes the run over under the
//! new name. Clients of either name wait meanwhile; afterwards the old one is like any unknown name. Its clones are
//! told the new name of their parent, and the record of the old name goes last, so that a start can complete all of
//! that.

use actix_rt::task::JoinHandle;

use super::revive::found_server;
use super::*;
use crate::clone_worker::{ListQuarantine, RemoveOldName, Rename, worker_ended};
use crate::instance::{Found, ParentRenamed, Retire, RunLeases, Written, origin};
use crate::ports::{CloneError, FIND_TIMEOUT, ServerId, find_server};

/// The longest wait of a rename until the clones of the instance know its new name.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Gives an instance another name.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<(), RenameError>")]
pub struct RenameInstance {
    /// Its name.
    pub name: InstanceName,
    /// The new one.
    pub new_name: InstanceName,
}

/// Why an instance keeps its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// There is no such instance.
    #[error("instance \"{instance}\" does not exist")]
    NoSuchInstance {
        /// The name.
        instance: InstanceName,
    },
    /// Another instance has the new name.
    #[error("instance \"{instance}\" exists")]
    NameTaken {
        /// The new name.
        instance: InstanceName,
    },
    /// A clone in the quarantine, or one that is to be deleted, has the new name.
    #[error("a clone without an instance has the name \"{instance}\"")]
    NameLeft {
        /// The new name.
        instance: InstanceName,
    },
    /// It is neither stopped nor running.
    #[error("instance \"{instance}\" is {state}")]
    Unsettled {
        /// The instance.
        instance: InstanceName,
        /// Its state.
        state: &'static str,
    },
    /// The daemon is shutting down.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// Its manifest was not written.
    #[error("the new name was not written")]
    Storage(#[source] CloneError),
}

/// How far a rename got.
enum Renamed {
    /// The instance has its new name, and this is known of its server.
    Done(Box<InstanceRecord>, Found),
    /// Its actor goes on.
    Refused(RenameError),
    /// Its actor has ended.
    Failed(RenameError),
}

impl Handler<RenameInstance> for Supervisor {
    type Result = ResponseActFuture<Self, Result<(), RenameError>>;

    fn handle(&mut self, message: RenameInstance, ctx: &mut Self::Context) -> Self::Result {
        let supervisor = ctx.address();
        if let Some(rebuilt) = self.rebuilt_for_command(&message.name, ctx) {
            let again = async move {
                // It is woken by the drop of the sender, too.
                let _there = rebuilt.await;
                let answer = supervisor.send(message).await;
                answer.unwrap_or(Err(RenameError::ShuttingDown))
            };
            return Box::pin(again.into_actor(self));
        }
        let record = match self.check_rename(&message) {
            Ok(record) => record,
            Err(error) => return Box::pin(fut::ready(Err(error))),
        };
        let addr = self.actor_of(&record, ctx);
        let Some(entry) = self.actors.get_mut(&message.name) else {
            let error = RenameError::NoSuchInstance {
                instance: message.name,
            };
            return Box::pin(fut::ready(Err(error)));
        };
        entry.life = ActorLife::Renaming(Vec::new());
        self.choosing.insert(message.new_name.clone(), Vec::new());
        let work = Work {
            shared: entry.shared.clone(),
            addr,
            message,
            epoch: self.deps.epochs.next_epoch(),
            leftovers: self.leftovers.clone(),
            worker: self.deps.worker.clone(),
            runtime: self.deps.runtime.clone(),
        };
        let RenameInstance { name, new_name } = work.message.clone();
        let renamed = work.run().into_actor(self);
        let ended = renamed.map(move |renamed, actor, ctx| {
            let result = actor.end_rename(&name, renamed, ctx);
            let waiting = actor.choosing.remove(&new_name).unwrap_or_default();
            if actor.choosing.is_empty() {
                actor.removals.forget_confirmed();
            }
            for waiter in waiting {
                actor.acquire(waiter, ctx);
            }
            result
        });
        let told = ended.then(|told, actor, _| {
            let told = async move {
                // A clone that is being made is told when it is complete.
                drop(tokio::time::timeout(TELL_TIMEOUT, told?).await);
                Ok(())
            };
            told.into_actor(actor)
        });
        Box::pin(told)
    }
}

/// A rename in progress, away from the Supervisor.
struct Work {
    message: RenameInstance,
    addr: Addr<InstanceActor>,
    shared: SharedState,
    epoch: u64,
    leftovers: Leftovers,
    worker: Addr<CloneWorker>,
    runtime: Arc<dyn Runtime>,
}

impl Work {
    async fn run(self) -> Renamed {
        let RenameInstance { name, new_name } = self.message.clone();
        let listed = self.worker.send(ListQuarantine).await;
        match listed.unwrap_or_else(|_| Err(worker_ended())) {
            Err(error) => return Renamed::Refused(RenameError::Storage(error)),
            Ok(listed) => {
                let mut manifests = listed.iter().filter_map(|one| one.manifest.as_ref().ok());
                if manifests.any(|record| record.name == new_name) {
                    return Renamed::Refused(RenameError::NameLeft { instance: new_name });
                }
            }
        }
        let mut record = match self.addr.send(Retire).await {
            Ok(Ok(record)) => record,
            Ok(Err(state)) => {
                let instance = name;
                return Renamed::Refused(RenameError::Unsettled { instance, state });
            }
            Err(_) => {
                let (instance, state) = (name, "starting again after a defect");
                return Renamed::Failed(RenameError::Unsettled { instance, state });
            }
        };
        // Writes that it has begun would come after the ones here.
        let _last = self.shared.writes().finished().await;
        // They would be served under the old name once it has no instance.
        if let Err(error) = self.leftovers.clear(&record).await {
            return Renamed::Failed(RenameError::Storage(error));
        }
        record.name = new_name;
        record.epoch = self.epoch;
        record.sequence += 1;
        let rename = Rename {
            record: record.clone(),
        };
        let written = self.worker.send(rename).await;
        if let Err(error) = written.unwrap_or_else(|_| Err(worker_ended())) {
            return Renamed::Failed(RenameError::Storage(error));
        }
        let answer = find_server(&*self.runtime, ServerId::from(&record), FIND_TIMEOUT).await;
        let found = found_server(&record, answer);
        Renamed::Done(Box::new(record), found)
    }
}

impl Supervisor {
    /// The record of the instance, if its new name is free.
    fn check_rename(&self, message: &RenameInstance) -> Result<Arc<InstanceRecord>, RenameError> {
        let RenameInstance { name, new_name } = message;
        if self.draining {
            return Err(RenameError::ShuttingDown);
        }
        let status = self.table.get(name);
        let status = status.ok_or_else(|| RenameError::NoSuchInstance {
            instance: name.clone(),
        })?;
        let instance = new_name.clone();
        if self.table.get(new_name).is_some() || self.choosing.contains_key(new_name) {
            return Err(RenameError::NameTaken { instance });
        }
        if self.leftovers.has_name(new_name) {
            return Err(RenameError::NameLeft { instance });
        }
        Ok(status.record)
    }

    fn end_rename(
        &mut self,
        old: &InstanceName,
        renamed: Renamed,
        ctx: &mut Context<Self>,
    ) -> Result<JoinHandle<()>, RenameError> {
        let (record, found) = match renamed {
            Renamed::Done(record, found) => (*record, found),
            Renamed::Refused(error) => {
                if let Some(entry) = self.actors.get_mut(old) {
                    entry.life = ActorLife::Alive;
                }
                return Err(error);
            }
            Renamed::Failed(error) => {
                if let Some(status) = self.table.get(old) {
                    self.revive(status, ctx);
                }
                return Err(error);
            }
        };
        tracing::info!(
            instance = %record.name,
            uid = %record.uid,
            epoch = record.epoch,
            %old,
            "an instance has another name"
        );
        let shared = self.actors.get(old).map(|entry| entry.shared.clone());
        let shared = shared.unwrap_or_default();
        let written = Written::Record(Box::new(record.clone()));
        shared.writes().note(written);
        if matches!(found, Found::NotRunning) {
            shared.end_run();
        }
        let slot = || self.slots.try_acquire().map(RunLeases::new);
        let run = match self.draining {
            true => None,
            false => shared.run().or_else(slot),
        };
        let (name, uid) = (record.name.clone(), record.uid);
        let at = self.deps.clock.now().wall;
        self.deps.history.note_rename(old, &name, at);
        let origin = origin(&record, found, run);
        self.launch(record, origin, shared, ctx);
        self.table.remove(old);
        // The drop wakes the waiters for the old name.
        self.actors.remove(old);
        Ok(self.rename_parent((old, uid), &name, ctx))
    }

    /// Tells the clones of an instance its new name, and removes the record of the old one once they know. Walks the
    /// table.
    fn rename_parent(
        &mut self,
        (old, uid): (&InstanceName, InstanceUid),
        name: &InstanceName,
        ctx: &mut Context<Self>,
    ) -> JoinHandle<()> {
        let children = self.table.list(&InstanceFilter::default()).into_iter();
        let children = children.filter(|child| child.record.parent.as_ref() == Some(old));
        let children: Vec<_> = children.map(|child| child.record).collect();
        let told: Vec<_> = children
            .iter()
            .map(|child| {
                let addr = self.actor_of(child, ctx);
                addr.send(ParentRenamed(name.clone()))
            })
            .collect();
        let (worker, old) = (self.deps.worker.clone(), old.clone());
        actix_rt::spawn(async move {
            for (child, told) in children.iter().zip(told) {
                let told = told.await.unwrap_or(Err(InstanceError::Died));
                // A deleted clone needs no parent.
                if let Err(error) = told
                    && error != InstanceError::Deleted
                {
                    let error = multidb_store::error_chain(&error);
                    tracing::warn!(
                        instance = %child.name,
                        error,
                        "an instance does not know the new name of its parent"
                    );
                }
            }
            let removed = worker
                .send(RemoveOldName {
                    old: old.clone(),
                    uid,
                })
                .await;
            if let Err(error) = removed.unwrap_or_else(|_| Err(worker_ended())) {
                let error = multidb_store::error_chain(&error);
                tracing::error!(instance = %old, error, "the record of an old name was not removed, the next start does so");
            }
        })
    }
}
