//! The ports of one process of the daemon. Once it is dead, nothing that it still does reaches the world.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use multidb_actors::awake::AwakeReason;
use multidb_actors::ports::{
    BackendActivity, Clock, Freshness, ProbeError, Revision, RevisionError, RevisionSource,
    RuntimeError, ServerProbe, SuperuserAccess,
};
use multidb_store::ProjectName;

use crate::world::{Life, World};

/// The start of each panic that is part of a simulation.
pub const PANIC: &str = "simulated panic";

#[derive(Clone)]
pub struct Ports {
    pub world: Arc<World>,
    pub life: Arc<Life>,
}

/// The daemon has died.
pub struct Died;

impl Ports {
    /// A step of the daemon's work, after which it may be dead.
    pub fn step(&self, what: &str) -> Result<(), Died> {
        if self.life.is_over() {
            return Err(Died);
        }
        if self.world.fails(self.world.settings.faults.crash) {
            self.world
                .trace(format_args!("the daemon dies after \"{what}\""));
            self.life.end();
            return Err(Died);
        }
        Ok(())
    }

    /// Takes a time. Never returns to a dead daemon.
    pub async fn takes(&self, from: u64, to: u64) {
        let time = self.world.time(from, to);
        tokio::time::sleep(time).await;
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }

    /// The actor that waits for this panics at times.
    pub fn may_panic(&self) {
        if !self.life.is_over() && self.world.fails(self.world.settings.faults.panics) {
            self.world.trace(format_args!("an actor panics"));
            std::panic::panic_any(PANIC);
        }
    }
}

pub fn unreachable() -> RuntimeError {
    RuntimeError {
        message: "simulated: no engine answers".to_owned(),
        hint: None,
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        self.world.wall()
    }

    fn since_boot(&self) -> Duration {
        self.world.since_boot()
    }
}

#[async_trait]
impl RevisionSource for Ports {
    async fn resolve(
        &self,
        _: &ProjectName,
        gitref: &str,
        freshness: Freshness,
    ) -> Result<Revision, RevisionError> {
        let faults = &self.world.settings.faults;
        if freshness == Freshness::Fetch && self.world.fails(faults.git) {
            // The limit of a fetch.
            self.takes(1000, 20_000).await;
            return Err(RevisionError::Repository {
                message: "simulated".to_owned(),
            });
        }
        self.takes(1, 50).await;
        let listing = match gitref {
            "main" => "l2",
            "old" => "l1",
            _ => {
                return Err(RevisionError::Unknown {
                    gitref: gitref.to_owned(),
                    fetch_failure: None,
                });
            }
        };
        let commit = "0123456789".repeat(4);
        let listing = listing.to_owned();
        Ok(Revision { commit, listing })
    }

    async fn defined_migrations(
        &self,
        _: &ProjectName,
        listing: &str,
    ) -> Result<HashSet<String>, RevisionError> {
        self.takes(1, 20).await;
        let defined: &[&str] = if listing == "l2" {
            &["a.1", "a.2"]
        } else {
            &["a.1"]
        };
        Ok(defined.iter().map(|name| (*name).to_owned()).collect())
    }
}

#[async_trait]
impl ServerProbe for Ports {
    async fn backend_activities(
        &self,
        server: &SuperuserAccess,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, ProbeError> {
        self.takes(1, 20).await;
        let server = self.world.servers().at(&server.endpoint);
        let Some(server) = server else {
            return Err(unreachable().into());
        };
        if self.world.fails(self.world.settings.faults.probe) {
            return Err(unreachable().into());
        }
        let each = process_ids.iter();
        Ok(each
            .filter_map(|id| Some((*id, server.activity(*id)?)))
            .collect())
    }

    async fn awake_reasons(
        &self,
        server: &SuperuserAccess,
    ) -> Result<Vec<AwakeReason>, ProbeError> {
        self.may_panic();
        self.takes(1, 20).await;
        let faults = &self.world.settings.faults;
        if self.world.servers().at(&server.endpoint).is_none() || self.world.fails(faults.probe) {
            return Err(unreachable().into());
        }
        if self.world.fails(faults.probe) {
            return Ok(vec![AwakeReason::PreparedTransaction("t".to_owned())]);
        }
        Ok(Vec::new())
    }

    async fn terminate_backend(
        &self,
        server: &SuperuserAccess,
        process_id: i32,
    ) -> Result<(), ProbeError> {
        self.takes(1, 20).await;
        let server = self.world.servers().at(&server.endpoint);
        server.ok_or_else(unreachable)?.terminate(process_id);
        Ok(())
    }
}
