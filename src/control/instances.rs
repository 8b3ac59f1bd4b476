//! Instances: listed, shown and commanded.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multidb_actors::client_error::LIBRARY_HINT;
use multidb_actors::clone_worker::Measure;
use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance::lifecycle::Command;
use multidb_actors::ports::{CloneError, SuperuserAccess};
use multidb_actors::supervisor::retention::ExpiryPeriods;
use multidb_actors::supervisor::{
    ControlInstance, GetInstance, ListInstances, PinInstance, RecoverInstance, RenameInstance,
    retention,
};
use multidb_store::{InstanceName, InstanceRecord, Pin, error_chain};

use super::access::{Action, Caller, Resource, authorize};
use super::advice::advice;
use super::model::{DeletedView, HappeningView, InstanceFilter, InstanceView, LogsView};
use super::{Control, ControlError};
use crate::runtime::altered;

/// The treatment of the settings that ALTER SYSTEM made in an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterSystem {
    /// They stay.
    Kept,
    /// The settings of the snapshot take their place.
    LeftOut,
}

impl Control {
    /// Lists the selected instances in the order of their names.
    pub async fn list_instances(
        &self,
        caller: &Caller,
        filter: InstanceFilter,
    ) -> Result<Vec<InstanceView>, ControlError> {
        let mut filter = narrowed(filter, caller);
        let limit = filter.limit.unwrap_or(usize::MAX);
        let mut views = Vec::new();
        // Hidden instances leave gaps in a page, which the next pages fill.
        loop {
            let list = ListInstances {
                filter: filter.clone(),
            };
            let listed = self.deps.supervisor.send(list).await?;
            let visible = listed.iter().filter(|one| caller.may_view(&*one.record));
            let missing = limit - views.len();
            views.extend(visible.take(missing).map(|one| self.instance_view(one)));
            filter.after = listed.last().map(|one| one.record.name.clone());
            if views.len() == limit || listed.len() < limit {
                return Ok(views);
            }
        }
    }

    /// Shows one instance with its disk space and its reasons to stay awake.
    pub async fn show_instance(
        &self,
        caller: &Caller,
        name: &InstanceName,
    ) -> Result<InstanceView, ControlError> {
        let status = self.instance(name).await?;
        authorize(caller, Action::View, &*status.record, "see instances")?;
        let mut shown = self.instance_view(&status);
        let measured = self.deps.worker.send(Measure(status.record.uid));
        shown.exclusive_bytes = measured.await?.or(shown.exclusive_bytes);
        shown.resets_to = self.resets_to(&status.record).await?;
        shown.awake_because = Some(self.awake_reasons(&status).await);
        let history = self.deps.history.of(name).await.into_iter();
        shown.history = Some(history.filter_map(HappeningView::of).collect());
        Ok(shown)
    }

    /// Starts an instance's Postgres, as a connection would.
    pub async fn start_instance(
        &self,
        caller: &Caller,
        name: &InstanceName,
        settings: AlterSystem,
    ) -> Result<InstanceView, ControlError> {
        if settings == AlterSystem::LeftOut {
            self.leave_out_altered(caller, name).await?;
        }
        self.command(caller, name, Command::Start).await?;
        Ok(self.instance_view(&self.instance(name).await?))
    }

    /// Stops an instance, and gives it the settings of its snapshot in the place of the settings of
    /// ALTER SYSTEM.
    async fn leave_out_altered(
        &self,
        caller: &Caller,
        name: &InstanceName,
    ) -> Result<(), ControlError> {
        self.command(caller, name, Command::Stop).await?;
        let record = self.instance(name).await?.record.clone();
        let data = self.deps.layout.instance_data(record.uid);
        let snapshot = self.deps.layout.snapshot_data(&record.snapshot);
        tracing::info!(instance = %name, %caller, "the settings of ALTER SYSTEM are left out");
        let left_out = tokio::task::spawn_blocking(move || altered::leave_out(&data, &snapshot));
        let failed = |message: String| ControlError::Storage(CloneError::Failed { message });
        match left_out.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(error_chain(&error))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Ends an instance's sessions and stops its Postgres.
    pub async fn stop_instance(
        &self,
        caller: &Caller,
        name: &InstanceName,
    ) -> Result<InstanceView, ControlError> {
        let sessions = self.command(caller, name, Command::Stop).await?;
        self.view_after(name, sessions).await
    }

    /// Ends an instance's sessions and gives it a fresh clone of its snapshot.
    pub async fn reset_instance(
        &self,
        caller: &Caller,
        name: &InstanceName,
    ) -> Result<InstanceView, ControlError> {
        let sessions = self.command(caller, name, Command::Reset).await?;
        let mut shown = self.view_after(name, sessions).await?;
        let record = self.instance(name).await?.record.clone();
        shown.resets_to = self.resets_to(&record).await?;
        Ok(shown)
    }

    /// The data that a reset gives a clone of another instance: its base or its snapshot.
    pub(super) async fn resets_to(
        &self,
        record: &InstanceRecord,
    ) -> Result<Option<String>, ControlError> {
        if record.parent.is_none() {
            return Ok(None);
        }
        let base = self.deps.layout.instance_base(record.uid);
        let is_kept = tokio::task::spawn_blocking(move || base.is_dir()).await;
        let is_kept = is_kept.map_err(|_| ControlError::ActorEnded)?;
        Ok(Some(if is_kept { "base" } else { "snapshot" }.to_owned()))
    }

    /// Ends an instance's sessions and deletes it.
    pub async fn remove_instance(
        &self,
        caller: &Caller,
        name: &InstanceName,
    ) -> Result<DeletedView, ControlError> {
        let sessions_ended = self.command(caller, name, Command::Delete).await?;
        Ok(DeletedView { sessions_ended })
    }

    /// Gives an instance another name; its sessions go on.
    pub async fn rename_instance(
        &self,
        caller: &Caller,
        rename: RenameInstance,
    ) -> Result<InstanceView, ControlError> {
        let record = self.instance(&rename.name).await?.record.clone();
        authorize(caller, Action::Change, &*record, "rename instances")?;
        let RenameInstance { name, new_name } = rename.clone();
        tracing::info!(instance = %name, %new_name, %caller, "command to rename an instance");
        self.deps.supervisor.send(rename).await??;
        Ok(self.instance_view(&self.instance(&new_name).await?))
    }

    /// Makes a failed instance usable again, or brings a quarantined clone back as an instance.
    pub async fn recover_instance(
        &self,
        caller: &Caller,
        recovery: RecoverInstance,
    ) -> Result<InstanceView, ControlError> {
        authorize(
            caller,
            Action::Change,
            Resource::Quarantine,
            "recover instances",
        )?;
        tracing::info!(
            instance = %recovery.name,
            uid = recovery.uid.map(|uid| uid.to_string()),
            new_name = recovery.new_name.as_ref().map(InstanceName::as_str),
            %caller,
            "command to recover an instance"
        );
        let name = self.deps.supervisor.send(recovery).await??;
        Ok(self.instance_view(&self.instance(&name).await?))
    }

    /// Exempts an instance from expiry, for a time or without end.
    pub async fn pin_instance(
        &self,
        caller: &Caller,
        name: &InstanceName,
        time: Option<Duration>,
    ) -> Result<InstanceView, ControlError> {
        let pin = time.map_or(Ok(Pin::Forever), |time| {
            let time = SignedDuration::try_from(time).ok();
            let until = time.and_then(|time| Timestamp::now().checked_add(time).ok());
            let too_long = || ControlError::InvalidArgument("the time is too long".to_owned());
            until.map(Pin::Until).ok_or_else(too_long)
        })?;
        self.set_pin(caller, name, pin).await
    }

    /// Lets an instance expire again.
    pub async fn unpin_instance(
        &self,
        caller: &Caller,
        name: &InstanceName,
    ) -> Result<InstanceView, ControlError> {
        self.set_pin(caller, name, Pin::None).await
    }

    /// Reads the last lines of an instance's log.
    pub async fn instance_logs(
        &self,
        caller: &Caller,
        name: &InstanceName,
        lines: usize,
    ) -> Result<LogsView, ControlError> {
        let status = self.instance(name).await?;
        authorize(caller, Action::View, &*status.record, "read logs")?;
        let uid = status.record.uid;
        let log = self.deps.layout.instance_log(uid);
        let lines = self.deps.host.server_logs(uid, &log, lines).await?;
        Ok(LogsView { lines })
    }

    pub(super) async fn instance(
        &self,
        name: &InstanceName,
    ) -> Result<InstanceStatus, ControlError> {
        let found = self.deps.supervisor.send(GetInstance(name.clone())).await?;
        found.ok_or_else(|| ControlError::NoSuchInstance(name.clone()))
    }

    /// Carries out a command. Returns the number of sessions before it.
    async fn command(
        &self,
        caller: &Caller,
        name: &InstanceName,
        command: Command,
    ) -> Result<usize, ControlError> {
        let before = self.instance(name).await?;
        authorize(caller, Action::Change, &*before.record, "change instances")?;
        tracing::info!(instance = %name, ?command, %caller, "command for an instance");
        self.announce(&before, command, caller).await;
        let sent = self.deps.supervisor.send(ControlInstance {
            name: name.clone(),
            command,
        });
        let done = sent.await?;
        done.ok_or_else(|| ControlError::NoSuchInstance(name.clone()))??;
        Ok(before.sessions)
    }

    async fn view_after(
        &self,
        name: &InstanceName,
        sessions_ended: usize,
    ) -> Result<InstanceView, ControlError> {
        let mut shown = self.instance_view(&self.instance(name).await?);
        shown.sessions_ended = Some(sessions_ended);
        Ok(shown)
    }

    async fn set_pin(
        &self,
        caller: &Caller,
        name: &InstanceName,
        pin: Pin,
    ) -> Result<InstanceView, ControlError> {
        let status = self.instance(name).await?;
        authorize(caller, Action::Change, &*status.record, "pin instances")?;
        let sent = self.deps.supervisor.send(PinInstance {
            name: name.clone(),
            pin,
        });
        let done = sent.await?;
        done.ok_or_else(|| ControlError::NoSuchInstance(name.clone()))??;
        Ok(self.instance_view(&self.instance(name).await?))
    }

    /// The open sessions, and the background work of Postgres that a stop would interrupt.
    async fn awake_reasons(&self, status: &InstanceStatus) -> Vec<String> {
        let mut reasons = Vec::new();
        match status.sessions {
            0 => {}
            1 => reasons.push("1 session".to_owned()),
            count => reasons.push(format!("{count} sessions")),
        }
        if let Some(endpoint) = &status.endpoint {
            let probe = &self.deps.probe;
            let server = SuperuserAccess::new(endpoint.clone(), &status.record);
            match probe.awake_reasons(&server).await {
                Ok(work) => reasons.extend(work.iter().map(ToString::to_string)),
                Err(error) => tracing::debug!(%error, "an instance did not tell its activity"),
            }
        }
        reasons
    }

    fn instance_view(&self, status: &InstanceStatus) -> InstanceView {
        let deps = &self.deps;
        let record = &status.record;
        let now = deps.clock.now();
        let periods = ExpiryPeriods::from(&deps.config.limits);
        let pin = PinView::of(record.pin, now.wall);
        let failure = status.failure.as_ref();
        let login_fault = deps.sessions.login_faults().of(record.uid);
        let login_hint = login_fault.is_some().then(|| LIBRARY_HINT.to_owned());
        let advice = failure.and_then(|failure| advice(record.name.as_str(), failure));
        InstanceView {
            name: record.name.to_string(),
            project: record.project.to_string(),
            state: status.state.name().to_owned(),
            waiting_for: status.waits_for_slot.then(|| "slot".to_owned()),
            snapshot: record.snapshot.to_string(),
            parent: record.parent.as_ref().map(ToString::to_string),
            resets_to: None,
            class: record.class,
            ttl_seconds: record.ttl.map(|ttl| ttl.as_secs()),
            gitref: record.gitref.clone(),
            commit: record.commit.clone(),
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            expires_at: retention::expires_at(record, periods, now),
            marked_at: record.marked.map(|mark| mark.at),
            pinned: pin.pinned,
            pinned_until: pin.until,
            connections: status.sessions,
            postgres_major: record.postgres_major,
            runtime: record.runtime.unwrap_or(deps.host.kind()).to_string(),
            data_dir: deps.layout.instance_data(record.uid),
            uid: record.uid.to_string(),
            epoch: record.epoch,
            created_by: record.created_by.clone(),
            failure: failure.map(|failure| error_chain(failure)),
            hint: advice.or(login_hint),
            login_fault,
            exclusive_bytes: deps.costs.of_instance(record.uid),
            awake_because: None,
            history: None,
            sessions_ended: None,
        }
    }
}

/// A pin as an answer shows it.
struct PinView {
    pinned: bool,
    until: Option<Timestamp>,
}

impl PinView {
    fn of(pin: Pin, now: Timestamp) -> Self {
        let (pinned, until) = match pin {
            Pin::None => (false, None),
            Pin::Forever => (true, None),
            Pin::Until(until) => (until > now, Some(until)),
        };
        Self { pinned, until }
    }
}

/// Restricts a list to the caller's own instances if it may see no others, so that the Supervisor does
/// not list the rest.
fn narrowed(mut filter: InstanceFilter, caller: &Caller) -> InstanceFilter {
    if let Some(owner) = caller.sees_instances_of() {
        filter.created_by.get_or_insert_with(|| owner.to_owned());
    }
    filter
}
