//! The comparison of two instances, or of an instance with the data that it was cloned from.

use std::path::PathBuf;
use std::time::Duration;

use actix::Addr;
use multidb_actors::instance::lifecycle::State;
use multidb_actors::instance::{Attach, InstanceActor, Lease, SlotWanted};
use multidb_actors::ports::SuperuserAccess;
use multidb_actors::project::ProjectError;
use multidb_actors::request::ConnectRequest;
use multidb_actors::supervisor::Acquire;
use multidb_store::{InstanceName, InstanceRecord};

use super::access::{Action, Caller, authorize};
use super::model::DiffOrder;
use super::{Control, ControlError};
use crate::diff::{self, Copy, DiffView, Side, SideView};

/// Comparisons at once: each runs up to two servers beyond `max_running`, and holds two schemas in memory.
pub(super) const AT_ONCE: usize = 2;
/// How often a woken instance is asked to stop, and the pause between: the end of its session may be counted later.
const STOP_ATTEMPTS: usize = 20;
const STOP_DELAY: Duration = Duration::from_millis(50);

/// The other side of a comparison.
enum Other {
    Instance(InstanceName),
    /// The data that it was cloned from, which is a base or its snapshot.
    Origin {
        kind: &'static str,
        data: PathBuf,
    },
}

/// An instance that cannot stop meanwhile.
struct Awake {
    addr: Addr<InstanceActor>,
    name: InstanceName,
    lease: Lease,
    record: InstanceRecord,
    was_stopped: bool,
}

impl Control {
    /// Compares an instance with another one, or with the data that it was cloned from. Counts as a use of both: a user
    /// who compares an instance wants it, like a user who starts it.
    pub async fn diff_instances(
        &self,
        caller: &Caller,
        order: DiffOrder,
    ) -> Result<DiffView, ControlError> {
        const ATTEMPT: &str = "compare instances";
        let first = self.instance(&order.a).await?.record;
        authorize(caller, Action::Change, &*first, ATTEMPT)?;
        let other = match order.b {
            Some(b) if b == order.a => {
                let message = "an instance is not compared with itself".to_owned();
                return Err(ControlError::InvalidArgument(message));
            }
            Some(b) => {
                let second = self.instance(&b).await?.record;
                authorize(caller, Action::Change, &*second, ATTEMPT)?;
                Other::Instance(b)
            }
            None => self.origin(caller, &first).await?,
        };
        tracing::info!(instance = %order.a, %caller, "command to compare an instance");
        let (control, caller, count_time) = (self.clone(), caller.clone(), order.count_time);
        // A caller that leaves does not keep the rest from being cleaned up.
        let compared = tokio::spawn(async move {
            let place = control.comparing.acquire().await;
            let _place = place.map_err(|_| ControlError::ActorEnded)?;
            control.compare(&caller, order.a, other, count_time).await
        });
        compared.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a comparison ended by a defect");
            Err(ControlError::ActorEnded)
        })
    }

    /// The data that a reset would give the instance: its base where that is kept, else its snapshot.
    async fn origin(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
    ) -> Result<Other, ControlError> {
        if self.resets_to(record).await?.as_deref() == Some("base") {
            return Ok(Other::Origin {
                kind: "base",
                data: self.deps.layout.instance_base(record.uid),
            });
        }
        let snapshot = self.snapshot(&record.snapshot).await?;
        authorize(caller, Action::View, &*snapshot, "see snapshots")?;
        Ok(Other::Origin {
            kind: "snapshot",
            data: self.deps.layout.snapshot_data(&record.snapshot),
        })
    }

    async fn compare(
        &self,
        caller: &Caller,
        a: InstanceName,
        other: Other,
        count_time: Duration,
    ) -> Result<DiffView, ControlError> {
        let a = self.wake(caller, a).await?;
        let compared = match other {
            Other::Instance(b) => match self.wake(caller, b).await {
                Ok(b) => {
                    let compared = self.compare_instances(&a, &b, count_time).await;
                    self.release(b).await;
                    compared
                }
                Err(error) => Err(error),
            },
            Other::Origin { kind, data } => {
                let of = match kind {
                    "base" => format!("the state that instance \"{}\" began with", a.name),
                    _ => format!("snapshot \"{}\"", a.record.snapshot),
                };
                let deps = &self.deps;
                let (host, cloner) = (deps.host.clone(), deps.cloner.clone());
                let copy = Copy::new(host, cloner, &deps.layout, of.clone());
                let compared = match copy.serve(data, &a.record).await {
                    Ok(server) => {
                        let name = match kind {
                            "base" => a.name.to_string(),
                            _ => a.record.snapshot.to_string(),
                        };
                        let side = self.side(&a.record, server, of);
                        self.compare_with(&a, (kind, name, side), count_time).await
                    }
                    Err(error) => Err(error.into()),
                };
                copy.remove().await;
                compared
            }
        };
        self.release(a).await;
        compared
    }

    async fn compare_instances(
        &self,
        a: &Awake,
        b: &Awake,
        count_time: Duration,
    ) -> Result<DiffView, ControlError> {
        let side = self.side(&b.record, b.lease.server.clone(), of_instance(b));
        let other = ("instance", b.name.to_string(), side);
        self.compare_with(a, other, count_time).await
    }

    async fn compare_with(
        &self,
        a: &Awake,
        (kind, name, b): (&str, String, Result<Side, ControlError>),
        count_time: Duration,
    ) -> Result<DiffView, ControlError> {
        let b = b?;
        let a_side = self.side(&a.record, a.lease.server.clone(), of_instance(a))?;
        // One pg_dump for both, so that they differ by their contents alone.
        let tools_major = a_side.server.postgres_major.max(b.server.postgres_major);
        let host = self.deps.host.as_ref();
        let read = async |side: &Side| -> Result<diff::State, ControlError> {
            Ok(diff::read(host, side, tools_major, count_time).await?)
        };
        let (state_a, state_b) = tokio::try_join!(read(&a_side), read(&b))?;
        let view = |kind: &str, name: String, side: &Side| SideView {
            kind: kind.to_owned(),
            name,
            database: side.database.clone(),
            postgres_major: side.server.postgres_major,
        };
        let view_a = view("instance", a.name.to_string(), &a_side);
        let view_b = view(kind, name, &b);
        Ok(diff::compare((view_a, state_a), (view_b, state_b)))
    }

    /// The database of the instance's project on this server.
    fn side(
        &self,
        record: &InstanceRecord,
        server: SuperuserAccess,
        of: String,
    ) -> Result<Side, ControlError> {
        let projects = &self.deps.config.projects;
        let project = projects.get(&record.project);
        let project = project.ok_or_else(|| ProjectError::NoSuchProject {
            project: record.project.clone(),
            known: projects.keys().cloned().collect(),
        })?;
        let of_migrations = project.migrations.database();
        Ok(Side {
            of,
            server,
            database: project.database.clone(),
            migrations_database: of_migrations.unwrap_or(&project.database).to_owned(),
            migrations: project.migrations.sql().to_owned(),
        })
    }

    /// Starts an instance as a connection does, and keeps it running.
    async fn wake(&self, caller: &Caller, name: InstanceName) -> Result<Awake, ControlError> {
        let before = self.instance(&name).await?;
        let request = ConnectRequest {
            instance: name.clone(),
            source: None,
            from: None,
            project: Some(before.record.project.clone()),
            role: None,
            user: None,
            idle: Default::default(),
            ttl: None,
            class: None,
        };
        let identity = self.identity(caller)?;
        let acquired = self.deps.supervisor.send(Acquire { request, identity });
        let acquired = acquired.await?.map_err(ControlError::Acquire)?;
        let lease = acquired.addr.send(Attach::default()).await??;
        Ok(Awake {
            addr: acquired.addr,
            record: self.instance(&name).await?.record.as_ref().clone(),
            name,
            lease,
            was_stopped: matches!(before.state, State::Stopped | State::Stopping { .. }),
        })
    }

    /// Releases an instance, and stops it if it was woken for this alone and no client has connected meanwhile.
    async fn release(&self, awake: Awake) {
        let Awake {
            addr,
            name,
            lease,
            was_stopped,
            ..
        } = awake;
        drop(lease);
        if !was_stopped {
            return;
        }
        for _ in 0..STOP_ATTEMPTS {
            let asked = addr.send(SlotWanted).await;
            let status = self.instance(&name).await;
            if asked.is_err()
                || !status.is_ok_and(|status| matches!(status.state, State::Running { .. }))
            {
                return;
            }
            tokio::time::sleep(STOP_DELAY).await;
        }
    }
}

fn of_instance(awake: &Awake) -> String {
    format!("instance \"{}\"", awake.name)
}
