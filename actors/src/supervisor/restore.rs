//! The start: gives each instance its actor, by [`origin`], and carries out the plan of `recovery::plan` for the other
//! clones. Before anything is done to the data of such a clone, its server is looked for and stopped; where that cannot
//! be known, the clone waits, as one of the [`Leftovers`].

use std::collections::HashSet;

use multidb_store::recovery::{Leftover, Recovered};

use super::*;
use crate::instance::{Found, RunLeases, origin};
use crate::ports::FoundServers;

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
        // Before a command for one of their names.
        for leftover in &leftovers {
            self.leftovers.add(leftover.clone());
        }
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
        let table = self.leftovers.clone();
        Box::pin(async move {
            for uid in strays {
                table.stop_stray(uid).await;
            }
            for leftover in leftovers {
                table.put_aside(leftover.uid).await;
            }
        })
    }
}
