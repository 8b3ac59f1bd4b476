//! Supervisor: the map from an instance's name to its actor, and the decisions that concern several instances.
//!
//! It creates instances, one at a time for each name; it starts the actor of a stopped instance when
//! it is needed, and rebuilds one that panicked; it stops unused instances at `max_running`; it
//! deletes expired ones. It touches neither Postgres nor files.
//!
//! Its decisions read the counts and orders of the [`InstanceTable`], so they cost the same with one other
//! instance as with 50,000.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use multidb_store::{
    Epochs, InstanceName, InstanceRecord, InstanceUid, ObservedTime, Phase, Pin, ProjectName,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::auth::{DenyReason, Identity};
use crate::clone_worker::CloneWorker;
use crate::history::History;
use crate::instance::lifecycle::{AfterStop, State, StateName};
use crate::instance::{InstanceActor, InstanceError, InstanceStatus, Lease, Origin, SharedState};
use crate::instance_table::{ActorEnded, InstanceFilter, InstanceTable, Timed};
use crate::leftovers::Leftovers;
use crate::limits::{IdleTimeouts, Limits};
use crate::metrics::Metrics;
use crate::observed_clock::ObservedClock;
use crate::ports::{Freshness, Memory, Runtime, ServerProbe};
use crate::project::{ProjectError, choose_project};
use crate::request::{ConnectRequest, Source};
use crate::slots::Slots;
use crate::snapshot_index::{Choice, Choose, ChooseError, SnapshotIndex};

mod clock_watch;
mod creations;
mod deletion_rate;
mod entry;
mod error;
mod eviction;
mod expiry;
mod messages;
mod parent;
mod recovering;
mod removals;
mod renaming;
mod restore;
pub mod retention;
mod revive;
mod room;
mod unavailable;
mod waiter;

pub use self::error::AcquireError;
pub use self::expiry::ExpiryStatus;
pub use self::messages::{
    Acquire, Acquired, ControlInstance, CountInstances, CountWaiting, Created, FollowInstances,
    GetExpiryStatus, GetInstance, ListInstances, PinInstance, RemoveSnapshot, StopAll,
    StopInstances,
};
pub use self::recovering::{RecoverError, RecoverInstance};
pub use self::removals::RemoveSnapshotError;
pub use self::renaming::{RenameError, RenameInstance};
pub use self::restore::Restore;
pub use self::room::{DeleteForRoom, LimitInstance};

use self::creations::Creations;
use self::entry::{ActorLife, Entry};
use self::expiry::Expiry;
use self::parent::{Chosen, CreationSource};
use self::removals::Removals;
use self::retention::ExpiryPeriods;
use self::waiter::Waiter;

/// The settings of a project for its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectSettings {
    /// Its database, for clients that name none.
    pub database: String,
    /// The role to log in as, for clients that name none.
    pub role: String,
    /// For how long sessions may do nothing.
    pub idle: IdleTimeouts,
}

/// The dependencies of the Supervisor.
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
    /// The root's clock.
    pub clock: ObservedClock,
    /// When an earlier daemon last deleted an instance by expiry.
    pub last_expiry: Option<ObservedTime>,
    /// The counter of epochs.
    pub epochs: Epochs,
    /// The memory that instances share.
    pub memory: Arc<dyn Memory>,
    /// The metrics of all actors.
    pub metrics: Arc<Metrics>,
    /// Takes the events of instances, for people.
    pub history: History,
}

/// The Supervisor.
pub struct Supervisor {
    /// All instances.
    table: InstanceTable,
    /// The actors of the instances that were used since the start; all others are stopped.
    actors: HashMap<InstanceName, Entry>,
    /// Reports the end of each actor. One stream for all of them: a future for each would be polled
    /// with every message.
    ended: mpsc::UnboundedSender<ActorEnded>,
    /// Taken when the Supervisor starts.
    ended_events: Option<mpsc::UnboundedReceiver<ActorEnded>>,
    /// The names whose snapshot is being chosen, or whose clone is brought back, and their waiters.
    choosing: HashMap<InstanceName, Vec<Waiter>>,
    removals: Removals,
    slots: Slots,
    creations: Creations,
    expiry: Expiry,
    leftovers: Leftovers,
    draining: bool,
    deps: SupervisorDeps,
}

/// A new instance, before its snapshot is chosen.
struct Creation {
    name: InstanceName,
    project: ProjectName,
    source: CreationSource,
    /// The request and the identity of the first client.
    request: ConnectRequest,
    identity: Identity,
}

impl Supervisor {
    /// A Supervisor without instances: [`Restore`] gives it the recorded ones.
    pub fn new(deps: SupervisorDeps) -> Self {
        let (ended, ended_events) = mpsc::unbounded_channel();
        Self {
            table: InstanceTable::new(ExpiryPeriods::from(&*deps.limits)),
            actors: HashMap::new(),
            ended,
            ended_events: Some(ended_events),
            choosing: HashMap::new(),
            removals: Removals::default(),
            slots: Slots::of(&deps.limits, deps.memory.clone()),
            creations: Creations::default(),
            expiry: Expiry::new(&deps.limits, deps.clock.now(), deps.last_expiry),
            leftovers: Leftovers::new(deps.runtime.clone(), deps.worker.clone()),
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
        if let Some(InstanceStatus { record, .. }) = self.table.get(&name) {
            if let Some(project) = &waiter.request.project
                && *project != record.project
            {
                let error = AcquireError::InstanceOfOtherProject {
                    instance: name,
                    project: record.project.clone(),
                    requested: project.clone(),
                };
                return waiter.refuse(error);
            }
            let settings = self.settings_of(&record);
            if let Err(error) = waiter.admit(&record.project, &settings) {
                return waiter.refuse(error.into());
            }
            if let Some(rebuilt) = self.rebuilt(&name) {
                let rebuilt = rebuilt.into_actor(self);
                let again = rebuilt.map(move |_, actor, ctx| actor.acquire(waiter, ctx));
                ctx.spawn(again);
                return;
            }
            let entry = self.actors.get(&name);
            if entry.is_some_and(|entry| matches!(entry.life, ActorLife::GivenUp)) {
                return waiter.refuse(AcquireError::GivenUp { instance: name });
            }
            return waiter.answer(Acquired {
                addr: self.actor_of(&record, ctx),
                settings,
                record,
                created: None,
            });
        }
        if let Some(waiting) = self.choosing.get_mut(&name) {
            return waiting.push(waiter);
        }
        let source = match Self::source_of(&waiter.request) {
            Ok(source) => source,
            Err(error) => return waiter.refuse(error),
        };
        match self.admit_creation(&waiter, &source) {
            Ok(project) => self.choose(waiter, project, source, ctx),
            Err(error) => waiter.refuse(error),
        }
    }

    /// The project in which the client may create an instance.
    fn admit_creation(
        &mut self,
        waiter: &Waiter,
        source: &CreationSource,
    ) -> Result<ProjectName, AcquireError> {
        let project = self.project_for(&waiter.request, source)?;
        let retention = self.deps.limits.retention;
        if let Some(ttl) = waiter.request.ttl
            && ttl > retention
        {
            return Err(AcquireError::TtlTooLong { ttl, retention });
        }
        if let Some(settings) = self.deps.projects.get(&project) {
            waiter.admit(&project, settings)?;
        }
        let name = &waiter.identity.name;
        let existing = self.table.count_created_by(name);
        let coming = self.choosing.values().filter_map(|waiting| waiting.first());
        let coming = coming.filter(|first| first.identity.name == *name).count();
        let recent = self.creations.recent(name);
        waiter
            .identity
            .admit_creation(existing + coming, recent + coming)?;
        Ok(project)
    }

    /// The project that the request names, or the only one.
    fn project_of(&self, request: &ConnectRequest) -> Result<ProjectName, ProjectError> {
        choose_project(self.deps.projects.keys(), request.project.as_ref())
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
        source: CreationSource,
        ctx: &mut Context<Self>,
    ) {
        let creation = Creation {
            name: waiter.request.instance.clone(),
            project,
            source,
            request: waiter.request.clone(),
            identity: waiter.identity.clone(),
        };
        self.choosing.insert(creation.name.clone(), vec![waiter]);
        self.choose_for(creation, ctx);
    }

    fn choose_for(&self, creation: Creation, ctx: &mut Context<Self>) {
        let number = self.removals.next_choice();
        let (index, runtime) = (self.deps.index.clone(), self.deps.runtime.clone());
        let (instance, project) = (creation.name.clone(), creation.project.clone());
        let (request, identity) = (creation.request.clone(), creation.identity.clone());
        let (source, supervisor) = (creation.source.clone(), ctx.address());
        let chosen = async move {
            let available = runtime.available().await;
            available.map_err(|unavailable| AcquireError::Unavailable {
                instance,
                unavailable,
            })?;
            let source = match source {
                CreationSource::Snapshot(source) => source,
                CreationSource::Parent(parent) => {
                    return parent::attach(request, identity, parent, supervisor, index).await;
                }
            };
            let choose = Choose {
                project,
                source,
                freshness: Freshness::Fetch,
            };
            let began = Instant::now();
            let choice = index.send(choose).await;
            let choice = choice.unwrap_or(Err(ChooseError::IndexUnavailable))?;
            Ok(Chosen {
                choice,
                parent: None,
                took: Some(began.elapsed()),
            })
        };
        let chosen = chosen
            .into_actor(self)
            .map(move |result, actor, ctx| match result {
                Ok(Chosen { choice, .. })
                    if actor.removals.outdates(number, &choice.snapshot.id) =>
                {
                    actor.choose_for(creation, ctx);
                }
                result => actor.chosen(creation, result, ctx),
            });
        ctx.spawn(chosen);
    }

    fn chosen(
        &mut self,
        creation: Creation,
        result: Result<Chosen, AcquireError>,
        ctx: &mut Context<Self>,
    ) {
        let waiting = self.choosing.remove(&creation.name).unwrap_or_default();
        if self.choosing.is_empty() {
            self.removals.forget_confirmed();
        }
        match result {
            Ok(Chosen {
                choice,
                parent,
                took,
            }) => {
                // A mistyped revision creates nothing, so it does not count.
                self.creations.note(&creation.identity.name);
                let now = self.deps.clock.now().wall;
                let age = now.duration_since(choice.snapshot.taken_at);
                let created = Created {
                    parent: parent.as_ref().map(|(name, _)| name.clone()),
                    choose: took.map(|took| took.saturating_sub(choice.fetch.unwrap_or_default())),
                    fetch: choice.fetch,
                    unconfirmed: choice.unconfirmed,
                    taken_at: choice.snapshot.taken_at,
                    age: Duration::try_from(age).unwrap_or_default(),
                    taken_at_origin: choice.snapshot.taken_at_origin,
                };
                self.create(creation, choice, parent, ctx);
                self.answer_created(waiting, created, ctx);
            }
            // The others may have asked for something else.
            Err(error) => {
                let mut waiting = waiting.into_iter();
                if let Some(first) = waiting.next() {
                    first.refuse(error);
                }
                waiting.for_each(|other| self.acquire(other, ctx));
            }
        }
    }

    fn create(
        &mut self,
        creation: Creation,
        choice: Choice,
        parent: Option<(InstanceName, Lease)>,
        ctx: &mut Context<Self>,
    ) {
        let now = self.deps.clock.now();
        let snapshot = choice.snapshot;
        let gitref = match creation.source {
            CreationSource::Snapshot(Source::GitRef(gitref)) => Some(gitref),
            CreationSource::Snapshot(_) | CreationSource::Parent(_) => None,
        };
        let record = InstanceRecord {
            name: creation.name,
            uid: crate::new_uid(),
            epoch: self.deps.epochs.next_epoch(),
            sequence: 0,
            phase: Phase::Cloning,
            project: snapshot.project.clone(),
            snapshot: snapshot.id.clone(),
            gitref,
            commit: choice.commit,
            created_by: creation.identity.name,
            postgres_major: snapshot.postgres_major,
            superuser: snapshot.superuser.clone(),
            created_at: now.wall,
            last_used_at: now.wall,
            last_used_observed: now.observed,
            marked: None,
            pin: Pin::None,
            runtime: Some(self.deps.runtime.kind()),
            ttl: creation.request.ttl,
            class: creation.request.class.unwrap_or_default(),
            parent: parent.as_ref().map(|(name, _)| name.clone()),
        };
        tracing::info!(
            instance = %record.name,
            uid = %record.uid,
            project = %record.project,
            snapshot = %record.snapshot,
            gitref = record.gitref,
            commit = record.commit,
            parent = record.parent.as_ref().map(InstanceName::as_str),
            user = record.created_by,
            "instance is created"
        );
        let origin = parent.map_or(Origin::Create, |(_, lease)| Origin::CloneOf(lease));
        self.launch(record, origin, SharedState::default(), ctx);
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        if let Some(events) = self.ended_events.take() {
            ctx.add_stream(UnboundedReceiverStream::new(events));
        }
        self.sweep_later(ctx);
    }
}

impl StreamHandler<ActorEnded> for Supervisor {
    fn handle(&mut self, ActorEnded(name): ActorEnded, ctx: &mut Self::Context) {
        self.actor_ended(&name, ctx);
    }

    // Never: the Supervisor holds a sender itself.
    fn finished(&mut self, _: &mut Self::Context) {}
}

#[cfg(test)]
mod tests;
