//! The start: gives each instance its actor, by [`origin`], and carries out what `recovery::plan` says about the
//! other clones. A server without an instance is stopped before anything is done to its data.

use std::collections::HashMap;

use multidb_store::InstanceUid;
use multidb_store::recovery::{Leftover, LeftoverAction, Recovered};

use super::*;
use crate::clone_worker::{DiscardClone, QuarantineClone};
use crate::instance::lifecycle::AfterStop;
use crate::instance::{Found, origin};
use crate::limits::STOP_TIMEOUT;
use crate::ports::FoundServers;

/// Gives the Supervisor the instances, the running Postgres servers and the other clones. Answered when every
/// instance is known and nothing is left to be done about the others.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Restore {
    /// All instances.
    pub instances: Vec<Recovered>,
    /// The Postgres servers of this root.
    pub found: FoundServers,
    /// The clones that are not of an instance.
    pub leftovers: Vec<Leftover>,
}

impl Handler<Restore> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Restore, ctx: &mut Self::Context) -> Self::Result {
        let Restore {
            instances,
            found,
            mut leftovers,
        } = message;
        let running = found.running.into_iter();
        let mut servers: HashMap<_, _> = running
            .map(|found| (found.uid, Found::Running(found.postgres)))
            .collect();
        servers.extend(found.undecided.into_iter().map(|uid| (uid, Found::Unknown)));
        for instance in instances {
            let Recovered {
                record, unusable, ..
            } = instance;
            let found = servers.remove(&record.uid).unwrap_or(Found::NotRunning);
            let origin = match (unusable, found) {
                (Some(why), Found::NotRunning) => Origin::Unusable(why),
                (_, found) => origin(&record, found, self.slots.try_acquire()),
            };
            match origin {
                // Its actor is started when a client or an administrator needs it.
                Origin::Stopped => self.table.insert_stopped(record),
                origin => {
                    if matches!(origin, Origin::Stop(AfterStop::Stopped)) {
                        tracing::info!(instance = %record.name, "its postgres is stopped: no slot is free, or its state is unknown");
                    }
                    self.launch(record, origin, Vec::new(), ctx);
                }
            }
        }
        let strays: Vec<_> = servers.into_keys().collect();
        let (runtime, worker) = (self.deps.runtime.clone(), self.deps.worker.clone());
        Box::pin(async move {
            for uid in strays {
                if !stop_stray(&*runtime, uid).await {
                    leftovers.retain(|leftover| leftover.uid != uid);
                }
            }
            for leftover in leftovers {
                put_aside(&worker, leftover).await;
            }
        })
    }
}

/// Stops a Postgres without a record, and returns whether its data may be deleted.
async fn stop_stray(runtime: &dyn Runtime, uid: InstanceUid) -> bool {
    tracing::warn!(%uid, "a postgres without a record is stopped");
    let stopped = runtime.stop(uid, STOP_TIMEOUT).await;
    if let Err(error) = &stopped {
        tracing::error!(
            %uid,
            error = multidb_store::error_chain(error),
            "a postgres without a record was not stopped, the next start of multidb retries"
        );
    }
    stopped.is_ok()
}

/// Deletes or quarantines a clone that is not of an instance.
async fn put_aside(worker: &Addr<CloneWorker>, leftover: Leftover) {
    let Leftover { uid, action } = leftover;
    let done = match action {
        LeftoverAction::Delete => {
            tracing::info!(%uid, "a clone that is incomplete or superseded is deleted");
            worker.send(DiscardClone(uid)).await
        }
        LeftoverAction::Quarantine(why) => {
            tracing::warn!(
                %uid,
                why,
                "a clone is quarantined, see multidb doctor"
            );
            worker.send(QuarantineClone { uid, why }).await
        }
    };
    let error = match done {
        Ok(Ok(())) => return,
        Ok(Err(error)) => multidb_store::error_chain(&error),
        Err(error) => error.to_string(),
    };
    tracing::error!(%uid, error, "a clone without an instance stays, the next start of multidb tries again");
}
