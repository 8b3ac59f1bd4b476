//! Supervisor: the map from an instance's name to its actor, and what concerns all of them.
//!
//! It creates instances, one at a time for each name; it rebuilds an actor that ended by a
//! defect; it makes room at `max_running`; it lets unused instances expire. It touches neither
//! Postgres nor files.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use multidb_store::{InstanceName, InstanceRecord, Phase, Pin, ProjectName};
use tokio::sync::{oneshot, watch};

use crate::auth::{DenyReason, Identity};
use crate::clone_worker::CloneWorker;
use crate::instance::lifecycle::State;
use crate::instance::{InstanceActor, InstanceDeps, InstanceStatus, Origin};
use crate::limits::{IdleTimeouts, Limits};
use crate::ports::{Clock, Freshness, Runtime, ServerProbe};
use crate::request::{ConnectRequest, Source};
use crate::slots::Slots;
use crate::snapshot_index::{Choice, Choose, ChooseError, SnapshotIndex};

mod creations;
mod error;
mod messages;
mod restore;
pub mod retention;
mod revive;

pub use self::error::AcquireError;
pub use self::messages::{
    Acquire, Acquired, ControlInstance, GetInstance, ListInstances, PinInstance, StopAll,
    StopInstances,
};
pub use self::restore::Restore;

use self::creations::Creations;

/// How often unused instances are looked for, at most; a short retention is looked at more often.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// What a project means for its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectSettings {
    /// Its database, for clients that name none.
    pub database: String,
    /// The role to log in as, for clients that name none.
    pub role: String,
    /// For how long sessions may do nothing.
    pub idle: IdleTimeouts,
}

/// What the Supervisor is made of.
#[derive(Clone)]
pub struct SupervisorDeps {
    /// Runs Postgres.
    pub runtime: Arc<dyn Runtime>,
    /// Asks it.
    pub probe: Arc<dyn ServerProbe>,
    /// Clones, deletions and records.
    pub worker: Addr<CloneWorker>,
    /// The known snapshots.
    pub index: Addr<SnapshotIndex>,
    /// The configured projects.
    pub projects: Arc<HashMap<ProjectName, ProjectSettings>>,
    /// The limits.
    pub limits: Arc<Limits>,
    /// The date and time.
    pub clock: Arc<dyn Clock>,
}

/// The keeper of all instances.
pub struct Supervisor {
    instances: HashMap<InstanceName, Entry>,
    /// The names whose snapshot is being chosen, and who waits for that.
    choosing: HashMap<InstanceName, Vec<Waiter>>,
    slots: Slots,
    creations: Creations,
    draining: bool,
    deps: SupervisorDeps,
}

/// One instance.
struct Entry {
    addr: Addr<InstanceActor>,
    status: watch::Receiver<InstanceStatus>,
    /// When its actor was rebuilt after it had ended by a defect.
    revivals: Vec<tokio::time::Instant>,
}

/// A client that waits until its instance has an actor.
struct Waiter {
    request: ConnectRequest,
    identity: Identity,
    reply: oneshot::Sender<Result<Acquired, AcquireError>>,
}

impl Supervisor {
    /// A Supervisor without instances: [`Restore`] gives it those that are recorded.
    pub fn new(deps: SupervisorDeps) -> Self {
        Self {
            instances: HashMap::new(),
            choosing: HashMap::new(),
            slots: Slots::new(deps.limits.max_running),
            creations: Creations::default(),
            draining: false,
            deps,
        }
    }

    /// Answers with the instance's actor, or begins to create it.
    fn acquire(&mut self, waiter: Waiter, ctx: &mut Context<Self>) {
        if self.draining {
            return waiter.refuse(AcquireError::ShuttingDown);
        }
        let name = waiter.request.instance.clone();
        if let Some(entry) = self.instances.get(&name) {
            let record = entry.status.borrow().record.clone();
            if let Some(project) = &waiter.request.project
                && *project != record.project
            {
                let error = AcquireError::InstanceOfOtherProject {
                    instance: name,
                    project: record.project,
                    requested: project.clone(),
                };
                return waiter.refuse(error);
            }
            let settings = self.settings_of(&record);
            if let Err(error) = waiter.admit(&record.project, &settings) {
                return waiter.refuse(error.into());
            }
            return waiter.answer(Acquired {
                addr: entry.addr.clone(),
                settings,
                record,
                created: false,
            });
        }
        if let Some(waiting) = self.choosing.get_mut(&name) {
            return waiting.push(waiter);
        }
        let Some(source) = waiter.request.source.clone() else {
            return waiter.refuse(AcquireError::NoSuchInstance { instance: name });
        };
        match self.admit_creation(&waiter) {
            Ok(project) => self.choose(waiter, project, source, ctx),
            Err(error) => waiter.refuse(error),
        }
    }

    /// The project in which the client may create an instance.
    fn admit_creation(&mut self, waiter: &Waiter) -> Result<ProjectName, AcquireError> {
        let project = self.project_of(&waiter.request)?;
        if let Some(settings) = self.deps.projects.get(&project) {
            waiter.admit(&project, settings)?;
        }
        let name = &waiter.identity.name;
        let statuses = self.instances.values().map(|entry| entry.status.borrow());
        let existing = statuses.filter(|status| status.record.created_by == *name);
        let existing = existing.count();
        let coming = self.choosing.values().filter_map(|waiting| waiting.first());
        let coming = coming.filter(|first| first.identity.name == *name).count();
        let recent = self.creations.recent(name);
        waiter
            .identity
            .admit_creation(existing + coming, recent + coming)?;
        Ok(project)
    }

    /// The project that the request names, or the only one.
    fn project_of(&self, request: &ConnectRequest) -> Result<ProjectName, AcquireError> {
        let projects = &self.deps.projects;
        if let Some(project) = &request.project
            && projects.contains_key(project)
        {
            return Ok(project.clone());
        }
        let mut names = projects.keys();
        let error = match (&request.project, names.next(), names.next()) {
            (_, None, _) => AcquireError::NoProject,
            (None, Some(only), None) => return Ok(only.clone()),
            (None, Some(_), Some(_)) => AcquireError::ProjectNeeded {
                known: self.project_names(),
            },
            (Some(project), Some(_), _) => AcquireError::NoSuchProject {
                project: project.clone(),
                known: self.project_names(),
            },
        };
        Err(error)
    }

    fn project_names(&self) -> Vec<ProjectName> {
        let mut names: Vec<_> = self.deps.projects.keys().cloned().collect();
        names.sort();
        names
    }

    /// The settings of the record's project. A project that was taken out of the configuration
    /// leaves its instances usable, by the superuser.
    fn settings_of(&self, record: &InstanceRecord) -> ProjectSettings {
        match self.deps.projects.get(&record.project) {
            Some(settings) => settings.clone(),
            None => ProjectSettings {
                database: "postgres".to_owned(),
                role: record.superuser.clone(),
                idle: IdleTimeouts::default(),
            },
        }
    }

    fn choose(
        &mut self,
        waiter: Waiter,
        project: ProjectName,
        source: Source,
        ctx: &mut Context<Self>,
    ) {
        let name = waiter.request.instance.clone();
        let gitref = match &source {
            Source::GitRef(gitref) => Some(gitref.clone()),
            Source::Snapshot(_) | Source::AsOf(_) => None,
        };
        let user = waiter.identity.name.clone();
        self.choosing.insert(name.clone(), vec![waiter]);
        let chosen = self.deps.index.send(Choose {
            project,
            source,
            freshness: Freshness::Fetch,
        });
        let chosen = chosen.into_actor(self).map(move |result, actor, ctx| {
            let result = result.unwrap_or(Err(ChooseError::IndexUnavailable));
            let waiting = actor.choosing.remove(&name).unwrap_or_default();
            match result {
                Ok(choice) => {
                    // A mistyped revision creates nothing, so it does not count.
                    actor.creations.note(&user);
                    actor.create(name, choice, gitref, user, ctx);
                    actor.answer_created(waiting, ctx);
                }
                // The others may have asked for something else.
                Err(error) => {
                    let mut waiting = waiting.into_iter();
                    if let Some(first) = waiting.next() {
                        first.refuse(error.into());
                    }
                    waiting.for_each(|other| actor.acquire(other, ctx));
                }
            }
        });
        ctx.spawn(chosen);
    }

    fn create(
        &mut self,
        name: InstanceName,
        choice: Choice,
        gitref: Option<String>,
        user: String,
        ctx: &mut Context<Self>,
    ) {
        let now = self.deps.clock.now();
        let snapshot = choice.snapshot;
        let record = InstanceRecord {
            name,
            uid: crate::new_uid(),
            generation: 1,
            phase: Phase::Cloning,
            project: snapshot.project.clone(),
            snapshot: snapshot.id.clone(),
            gitref,
            commit: choice.commit,
            created_by: user,
            postgres_major: snapshot.postgres_major,
            superuser: snapshot.superuser.clone(),
            created_at: now,
            last_used_at: now,
            pin: Pin::None,
        };
        tracing::info!(
            instance = %record.name,
            uid = %record.uid,
            project = %record.project,
            snapshot = %record.snapshot,
            gitref = record.gitref,
            commit = record.commit,
            user = record.created_by,
            "instance is created"
        );
        self.launch(record, Origin::Create, Vec::new(), ctx);
    }

    /// The first of those who waited created the instance, the others found it.
    fn answer_created(&mut self, waiting: Vec<Waiter>, ctx: &mut Context<Self>) {
        for (position, waiter) in waiting.into_iter().enumerate() {
            if position > 0 || self.draining {
                self.acquire(waiter, ctx);
                continue;
            }
            let Some(entry) = self.instances.get(&waiter.request.instance) else {
                waiter.refuse(AcquireError::Unanswered);
                continue;
            };
            let record = entry.status.borrow().record.clone();
            waiter.answer(Acquired {
                addr: entry.addr.clone(),
                settings: self.settings_of(&record),
                record,
                created: true,
            });
        }
    }

    /// Starts the instance's actor, and watches for its end.
    fn launch(
        &mut self,
        record: InstanceRecord,
        origin: Origin,
        revivals: Vec<tokio::time::Instant>,
        ctx: &mut Context<Self>,
    ) {
        let name = record.name.clone();
        let deps = InstanceDeps {
            runtime: self.deps.runtime.clone(),
            probe: self.deps.probe.clone(),
            worker: self.deps.worker.clone(),
            slots: self.slots.clone(),
            room: ctx.address().recipient(),
            limits: self.deps.limits.clone(),
            clock: self.deps.clock.clone(),
        };
        let (addr, status) = InstanceActor::launch(record, origin, deps);
        let mut watched = status.clone();
        let entry = Entry {
            addr,
            status,
            revivals,
        };
        self.instances.insert(name.clone(), entry);
        let ended = async move { while watched.changed().await.is_ok() {} };
        let ended = ended
            .into_actor(self)
            .map(move |(), actor, ctx| actor.actor_ended(&name, ctx));
        ctx.spawn(ended);
    }

    /// Stops the least recently used instance without sessions, unless enough are stopping.
    fn make_room(&mut self) {
        let states: Vec<_> = self.instances.values().map(|e| e.status.borrow()).collect();
        let stopping = states
            .iter()
            .filter(|status| matches!(status.state, State::Stopping { .. }))
            .count();
        if stopping >= self.slots.wanted() {
            return;
        }
        let oldest = states
            .iter()
            .filter(|status| matches!(status.state, State::Running { .. }) && status.unused)
            .min_by_key(|status| status.record.last_used_at)
            .map(|status| status.record.name.clone());
        drop(states);
        if let Some(entry) = oldest.and_then(|name| self.instances.get(&name)) {
            // A full mailbox means that it is busy; the one who waits asks again.
            if let Err(error) = entry.addr.try_send(crate::instance::RoomWanted) {
                tracing::debug!(%error, "an instance did not take a request for room");
            }
        }
    }

    /// Deletes the instances that nobody used for the retention time.
    fn sweep(&mut self) {
        let now = self.deps.clock.now();
        for entry in self.instances.values() {
            let status = entry.status.borrow();
            let resting = matches!(status.state, State::Stopped | State::Failed);
            let expires_at = retention::expires_at(&status.record, self.deps.limits.retention);
            if resting && status.unused && expires_at.is_some_and(|at| at <= now) {
                tracing::info!(
                    instance = %status.record.name,
                    last_used_at = %status.record.last_used_at,
                    "instance expires"
                );
                let expire = crate::instance::Control(crate::instance::lifecycle::Command::Expire);
                // A full mailbox means that it is in use: the next sweep sees that.
                if let Err(error) = entry.addr.try_send(expire) {
                    tracing::debug!(%error, "an instance did not take its expiry");
                }
            }
        }
    }
}

impl Waiter {
    /// Whether the client may use this project as the role that it asks for.
    fn admit(&self, project: &ProjectName, settings: &ProjectSettings) -> Result<(), DenyReason> {
        let role = self.request.role.as_deref().unwrap_or(&settings.role);
        self.identity.admit(project, role)
    }

    fn answer(self, acquired: Acquired) {
        if self.reply.send(Ok(acquired)).is_err() {
            tracing::debug!("a client left before its instance was found");
        }
    }

    fn refuse(self, error: AcquireError) {
        if self.reply.send(Err(error)).is_err() {
            tracing::debug!("a client left before its refusal");
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        let interval = (self.deps.limits.retention / 10).min(SWEEP_INTERVAL_MAX);
        let interval = interval.max(Duration::from_millis(100));
        ctx.run_interval(interval, |actor, _| actor.sweep());
    }
}

#[cfg(test)]
mod tests;
