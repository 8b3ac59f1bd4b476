//! The start: records are claims, and the world is the truth. The store has made `ready` of a `cloning` whose clone is
//! complete, and has records again for all complete data.
//!
//! | record | world | what is done |
//! | --- | --- | --- |
//! | cloning | anything | stopped where it runs, and deleted: no client was told of it |
//! | ready | runs | taken over, or stopped where there is no place |
//! | ready | does not run | rests |
//! | deleting | anything | stopped where it runs, and deleted |
//! | none | runs, or a directory with our manifest | stopped, and deleted |

use std::collections::HashSet;

use multidb_store::InstanceUid;

use super::*;
use crate::clone_worker::DiscardClone;
use crate::instance::lifecycle::Then;
use crate::limits::STOP_TIMEOUT;
use crate::ports::FoundPostgres;

/// Gives the Supervisor what is recorded, what runs and what directories there are. Answered when
/// every instance has its actor and all left-overs are gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Restore {
    /// All records.
    pub records: Vec<InstanceRecord>,
    /// All Postgres of ours that run.
    pub found: Vec<FoundPostgres>,
    /// All directories with our manifest.
    pub directories: Vec<InstanceUid>,
}

/// How an instance that does not run comes into memory.
pub(super) fn origin_at_rest(record: &InstanceRecord) -> Origin {
    match record.phase {
        Phase::Ready => Origin::Rest,
        Phase::Cloning | Phase::Deleting => Origin::Delete,
    }
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
        let (mut running, strays): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|found| live.contains(&found.uid));
        for record in records {
            let position = running.iter().position(|found| found.uid == record.uid);
            let origin = match position.map(|position| running.swap_remove(position)) {
                Some(found) if record.phase == Phase::Ready => match self.slots.try_acquire() {
                    Some(slot) => Origin::Adopt(found.postgres, slot),
                    None => {
                        tracing::info!(instance = %record.name, "no place to go on running, it is stopped");
                        Origin::Stop(Then::Rest)
                    }
                },
                Some(_) => Origin::Stop(Then::Delete),
                None => origin_at_rest(&record),
            };
            self.launch(record, origin, Vec::new(), ctx);
        }
        let left_over: Vec<_> = directories
            .into_iter()
            .filter(|uid| !live.contains(uid))
            .collect();
        let (runtime, worker) = (self.deps.runtime.clone(), self.deps.worker.clone());
        Box::pin(async move {
            for stray in strays {
                tracing::warn!(uid = %stray.uid, "a postgres without a record is stopped");
                if let Err(error) = runtime.stop(stray.uid, STOP_TIMEOUT).await {
                    tracing::error!(uid = %stray.uid, error = multidb_store::error_chain(&error), "it was not stopped");
                }
            }
            for uid in left_over {
                tracing::warn!(%uid, "a clone without a record is deleted");
                match worker.send(DiscardClone(uid)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%uid, error = multidb_store::error_chain(&error), "it was not deleted");
                    }
                    Err(error) => tracing::error!(%uid, %error, "it was not deleted"),
                }
            }
        })
    }
}
