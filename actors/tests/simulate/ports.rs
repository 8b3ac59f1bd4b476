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

use crate::servers::Server;
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
    /// The code that calls a port panics at times.
    pub fn may_panic_anywhere(&self) {
        let rate = self.world.settings.faults.panics.div_ceil(30);
        self.panic_at(rate, "code that calls a port panics");
    }

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
        self.panic_at(self.world.settings.faults.panics, "an actor panics");
    }

    fn panic_at(&self, rate: u32, what: &str) {
        if !self.life.is_over() && self.world.fails(rate) {
            self.world.trace(format_args!("{what}"));
            self.world.note_panic();
            std::panic::panic_any(PANIC);
        }
    }
}

pub fn unreachable() -> RuntimeError {
    RuntimeError {
        for_clients: false,
        message: "simulated: no engine answers".to_owned(),
        hint: None,
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        self.may_panic_anywhere();
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
        project: &ProjectName,
        gitref: &str,
        freshness: Freshness,
    ) -> Result<Revision, RevisionError> {
        let rate = self.world.settings.faults.git;
        self.may_panic_anywhere();
        let fails = self.world.fails(rate);
        let is_fetch = freshness == Freshness::Fetch && (fails || self.world.fails(rate));
        // The limit of a fetch.
        let most = if is_fetch { 20_000 } else { 50 };
        self.takes(1, most).await;
        if fails {
            return Err(unreadable());
        }
        self.world.source.resolve(project, gitref, freshness).await
    }

    async fn defined_migrations(
        &self,
        project: &ProjectName,
        listing: &str,
    ) -> Result<HashSet<String>, RevisionError> {
        self.may_panic_anywhere();
        self.takes(1, 20).await;
        if self.world.fails(self.world.settings.faults.git) {
            return Err(unreadable());
        }
        self.world.source.defined_migrations(project, listing).await
    }
}

fn unreadable() -> RevisionError {
    RevisionError::Repository {
        message: "simulated".to_owned(),
        form: None,
    }
}

impl Ports {
    /// Connects to a server for a question.
    async fn ask(&self, access: &SuperuserAccess) -> Result<Arc<Server>, ProbeError> {
        self.takes(1, 20).await;
        let faults = &self.world.settings.faults;
        let server = self.world.server_at(&access.endpoint);
        let server = server.ok_or_else(unreachable)?;
        if self.world.fails(faults.full) {
            return Err(ProbeError::NoFreeConnection);
        }
        if self.world.fails(faults.probe) {
            return Err(unreachable().into());
        }
        Ok(server)
    }
}

#[async_trait]
impl ServerProbe for Ports {
    async fn backend_activities(
        &self,
        server: &SuperuserAccess,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, ProbeError> {
        let server = self.ask(server).await?;
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
        self.ask(server).await?;
        if self.world.fails(self.world.settings.faults.probe) {
            return Ok(vec![AwakeReason::PreparedTransaction("t".to_owned())]);
        }
        Ok(Vec::new())
    }

    async fn terminate_backend(
        &self,
        server: &SuperuserAccess,
        process_id: i32,
    ) -> Result<(), ProbeError> {
        self.ask(server).await?.terminate(process_id);
        Ok(())
    }
}
