//! The start: gives each instance its actor, by [`origin`], and carries out what `recovery::plan` says about the
//! other clones. Before anything is done to the data of one, its server is looked for and stopped; where that cannot be
//! known, it waits.

use std::collections::HashSet;

use multidb_store::recovery::{Leftover, LeftoverAction, Recovered};

use super::*;
use crate::clone_worker::QuarantineClone;
use crate::instance::{Found, RunLeases, origin};
use crate::limits::STOP_TIMEOUT;
use crate::ports::{FoundServers, ServerId};

/// The delay before a leftover is tried again; it doubles each time.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// Gives the Supervisor the instances, the running Postgres servers and the other clones. Answered when every
/// instance is known, and when each of the others was put aside or has to wait.
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
            mut found,
            leftovers,
        } = message;
        for instance in instances {
            let Recovered {
                record, unusable, ..
            } = instance;
            let server = found.take(&record);
            let run = self.slots.try_acquire().map(RunLeases::new);
            let origin = match (unusable, server) {
                (Some(why), Found::NotRunning) => Origin::Unusable(why),
                (_, server) => origin(&record, server, run),
            };
            self.place(record, origin, ctx);
        }
        self.await_runtime(ctx);
        let servers = found.running.iter().map(|found| found.uid);
        let mut strays: HashSet<_> = servers.chain(found.undecided).collect();
        strays.retain(|uid| !leftovers.iter().any(|leftover| leftover.uid == *uid));
        let (runtime, worker) = (self.deps.runtime.clone(), self.deps.worker.clone());
        Box::pin(async move {
            let strays = strays.into_iter().map(|uid| (uid, None));
            let leftovers = leftovers.into_iter();
            let leftovers = leftovers.map(|leftover| (leftover.uid, Some(leftover.action)));
            for (uid, action) in strays.chain(leftovers) {
                let Err(error) = put_aside(&*runtime, &worker, uid, action.as_ref()).await else {
                    continue;
                };
                tracing::error!(%uid, error, "a clone without an instance stays as it is, retrying");
                let (runtime, worker) = (runtime.clone(), worker.clone());
                actix_rt::spawn(async move {
                    let mut delay = RETRY_DELAY;
                    loop {
                        tokio::time::sleep(delay).await;
                        let done = put_aside(&*runtime, &worker, uid, action.as_ref()).await;
                        match done {
                            Ok(()) => return,
                            Err(error) => {
                                tracing::debug!(%uid, error, "a leftover stays, retrying")
                            }
                        }
                        delay = (2 * delay).min(RETRY_DELAY_MAX);
                    }
                });
            }
        })
    }
}

/// Stops the server on a clone that is not of an instance, if there is one, and then deletes or quarantines the clone.
async fn put_aside(
    runtime: &dyn Runtime,
    worker: &Addr<CloneWorker>,
    uid: InstanceUid,
    action: Option<&LeftoverAction>,
) -> Result<(), String> {
    let server = ServerId { uid, runtime: None };
    let stopped = runtime.stop(server, STOP_TIMEOUT).await;
    stopped.map_err(|error| multidb_store::error_chain(&error))?;
    let done = match action {
        None => return Ok(()),
        Some(LeftoverAction::Delete) => {
            tracing::info!(%uid, "a clone that is incomplete or superseded is deleted");
            worker.send(DiscardClone(uid)).await
        }
        Some(LeftoverAction::Quarantine(why)) => {
            tracing::warn!(
                %uid,
                why,
                "a clone is quarantined, see multidb doctor"
            );
            let why = why.clone();
            worker.send(QuarantineClone { uid, why }).await
        }
    };
    let done = done.map_err(|error| error.to_string())?;
    done.map_err(|error| multidb_store::error_chain(&error))
}
