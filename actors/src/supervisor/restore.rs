//! The start: gives each record its actor, by [`origin`], and removes leftovers without a record.
//!
//! The store has made `ready` of a `cloning` whose clone is complete, and has records again for all complete data.
//! A Postgres or a directory without a record is therefore of a deletion that was interrupted.

use std::collections::{HashMap, HashSet};

use multidb_store::InstanceUid;

use super::*;
use crate::clone_worker::DiscardClone;
use crate::instance::lifecycle::AfterStop;
use crate::instance::{Found, origin};
use crate::limits::STOP_TIMEOUT;
use crate::ports::FoundServers;

/// Gives the Supervisor the records, the running Postgres servers and the unknown clones. Answered when
/// every instance is known and the leftovers are removed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Restore {
    /// All records.
    pub records: Vec<InstanceRecord>,
    /// The Postgres servers of this root.
    pub found: FoundServers,
    /// The clones on disk without a record.
    pub directories: Vec<InstanceUid>,
}

impl Handler<Restore> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Restore, ctx: &mut Self::Context) -> Self::Result {
        let Restore {
            records,
            found,
            directories,
        } = message;
        let live: HashSet<_> = records.iter().map(|record| record.uid).collect();
        let running = found.running.into_iter();
        let mut servers: HashMap<_, _> = running
            .map(|found| (found.uid, Found::Running(found.postgres)))
            .collect();
        servers.extend(found.undecided.into_iter().map(|uid| (uid, Found::Unknown)));
        for record in records {
            let found = servers.remove(&record.uid).unwrap_or(Found::NotRunning);
            let origin = origin(&record, found, self.slots.try_acquire());
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
        let mut leftovers: Vec<_> = directories
            .into_iter()
            .filter(|uid| !live.contains(uid))
            .collect();
        let (runtime, worker) = (self.deps.runtime.clone(), self.deps.worker.clone());
        Box::pin(async move {
            for uid in strays {
                if !stop_stray(&*runtime, uid).await {
                    leftovers.retain(|leftover| *leftover != uid);
                }
            }
            for uid in leftovers {
                delete_leftover(&worker, uid).await;
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

async fn delete_leftover(worker: &Addr<CloneWorker>, uid: InstanceUid) {
    tracing::warn!(%uid, "a clone without a record is deleted");
    let error = match worker.send(DiscardClone(uid)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => multidb_store::error_chain(&error),
        Err(error) => error.to_string(),
    };
    tracing::error!(%uid, error, "a clone without a record was not deleted");
}
