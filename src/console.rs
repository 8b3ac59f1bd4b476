//! The console's statements, carried out by [`Control`].
//!
//! Rows are made of the same types as the JSON of the admin socket: `columns` reads names and types off them, so that
//! neither can drift. Policy and authorization are in [`Control`].

use std::sync::Arc;

use async_trait::async_trait;
use multidb_actors::auth::Identity;
use multidb_actors::console::{
    Column, ConsoleError, ConsoleRequest, InstanceCommand, Listing, Statement, Value,
};
use multidb_actors::ports::{Console, ConsoleAnswer};
use multidb_store::InstanceName;
use serde::Serialize;

use crate::control::model::{
    ConnectionView, ExplainView, InstanceFilter, InstanceView, JobView, LimitView, SnapshotView,
    StatusView, VerdictView,
};
use crate::control::{AlterSystem, Caller, Control, ControlError};

mod columns;
mod failure;

use self::columns::{columns_of, columns_of_list, object, row};

/// The field of [`ExplainView`] with a row for each of its elements.
const VERDICTS: &str = "snapshots";

/// The console of a daemon.
pub struct ConsoleService {
    control: Control,
    instances: Arc<[Column]>,
    instance: Arc<[Column]>,
    snapshots: Arc<[Column]>,
    connections: Arc<[Column]>,
    jobs: Arc<[Column]>,
    status: Arc<[Column]>,
    limits: Arc<[Column]>,
    explain: Arc<[Column]>,
}

impl ConsoleService {
    /// The console in front of this service.
    pub fn new(control: Control) -> Self {
        let decision = columns_of::<ExplainView>();
        let decision = decision
            .into_iter()
            .filter(|column| column.name != VERDICTS);
        let explain = decision.chain(columns_of::<VerdictView>());
        Self {
            control,
            instances: columns_of_list::<InstanceView>().into(),
            instance: columns_of::<InstanceView>().into(),
            snapshots: columns_of_list::<SnapshotView>().into(),
            connections: columns_of_list::<ConnectionView>().into(),
            jobs: columns_of_list::<JobView>().into(),
            status: columns_of::<StatusView>().into(),
            limits: columns_of_list::<LimitView>().into(),
            explain: explain.collect(),
        }
    }

    fn columns_of_listing(&self, listing: Listing) -> &Arc<[Column]> {
        match listing {
            Listing::Instances => &self.instances,
            Listing::Snapshots => &self.snapshots,
            Listing::Connections => &self.connections,
            Listing::Jobs => &self.jobs,
            Listing::Status => &self.status,
            Listing::Limits => &self.limits,
        }
    }

    async fn list(
        &self,
        caller: &Caller,
        listing: Listing,
    ) -> Result<Vec<Vec<Value>>, ControlError> {
        let control = &self.control;
        let columns = self.columns_of_listing(listing);
        Ok(match listing {
            Listing::Instances => {
                let all = InstanceFilter::default();
                rows(columns, &control.list_instances(caller, all).await?)
            }
            Listing::Snapshots => rows(columns, &control.list_snapshots(caller).await?),
            Listing::Connections => rows(columns, &control.list_connections(caller).await),
            Listing::Jobs => rows(columns, &control.list_jobs(caller)),
            Listing::Status => rows(columns, &[control.status(caller).await?]),
            Listing::Limits => rows(columns, &control.limits(caller)?),
        })
    }

    /// A row for each snapshot, with what was decided in each of them. Without any, one row has the rest.
    fn explained(&self, mut explained: ExplainView) -> Vec<Vec<Value>> {
        let verdicts = std::mem::take(&mut explained.snapshots);
        if verdicts.is_empty() {
            return vec![row(&self.explain, object(&explained))];
        }
        let decision = object(&explained);
        let verdicts = verdicts.iter().map(|verdict| {
            let mut fields = decision.clone();
            fields.append(&mut object(verdict));
            row(&self.explain, fields)
        });
        verdicts.collect()
    }

    /// Carries out a command, and returns the number of sessions that it ended.
    async fn command(
        &self,
        caller: &Caller,
        command: InstanceCommand,
        name: &InstanceName,
    ) -> Result<usize, ControlError> {
        let control = &self.control;
        let changed = match command {
            InstanceCommand::Start => {
                control
                    .start_instance(caller, name, AlterSystem::Kept)
                    .await?
            }
            InstanceCommand::Stop => control.stop_instance(caller, name).await?,
            InstanceCommand::Reset => control.reset_instance(caller, name).await?,
            InstanceCommand::Pin => control.pin_instance(caller, name, None).await?,
            InstanceCommand::Unpin => control.unpin_instance(caller, name).await?,
            InstanceCommand::Drop => {
                let deleted = control.remove_instance(caller, name).await?;
                return Ok(deleted.sessions_ended);
            }
        };
        Ok(changed.sessions_ended.unwrap_or(0))
    }
}

#[async_trait(?Send)]
impl Console for ConsoleService {
    fn columns(&self, statement: &Statement) -> Option<Arc<[Column]>> {
        let columns = match statement {
            Statement::List(listing) => self.columns_of_listing(*listing),
            Statement::ShowInstance(_) => &self.instance,
            Statement::Explain { .. } => &self.explain,
            _ => return None,
        };
        Some(columns.clone())
    }

    fn is_admin(&self, user: &Identity) -> bool {
        self.control.caller(user).is_admin()
    }

    async fn answer(
        &self,
        user: &Identity,
        request: ConsoleRequest,
    ) -> Result<ConsoleAnswer, ConsoleError> {
        let caller = self.control.caller(user);
        let of_instance = match &request {
            ConsoleRequest::ShowInstance(name) | ConsoleRequest::Command(_, name) => {
                Some(name.clone())
            }
            ConsoleRequest::List(_) | ConsoleRequest::Explain { .. } => None,
        };
        let answered = match request {
            ConsoleRequest::List(listing) => {
                let rows = self.list(&caller, listing).await;
                rows.map(of_rows)
            }
            ConsoleRequest::ShowInstance(name) => {
                let shown = self.control.show_instance(&caller, &name).await;
                shown.map(|shown| of_rows(vec![row(&self.instance, object(&shown))]))
            }
            ConsoleRequest::Explain { gitref, project } => {
                let explained = self.control.explain(&caller, project.as_ref(), gitref);
                let explained = explained.await;
                explained.map(|explained| of_rows(self.explained(explained)))
            }
            ConsoleRequest::Command(command, name) => {
                let ended = self.command(&caller, command, &name).await;
                ended.map(|ended| of_sessions_ended(&name, ended))
            }
        };
        answered.map_err(|error| failure::of(error, of_instance))
    }
}

fn of_rows(rows: Vec<Vec<Value>>) -> ConsoleAnswer {
    ConsoleAnswer {
        rows,
        notices: Vec::new(),
    }
}

fn of_sessions_ended(name: &InstanceName, ended: usize) -> ConsoleAnswer {
    let notice = match ended {
        0 => None,
        1 => Some(format!("1 session of instance \"{name}\" was ended")),
        ended => Some(format!(
            "{ended} sessions of instance \"{name}\" were ended"
        )),
    };
    ConsoleAnswer {
        rows: Vec::new(),
        notices: notice.into_iter().collect(),
    }
}

fn rows(columns: &[Column], views: &[impl Serialize]) -> Vec<Vec<Value>> {
    let rows = views.iter().map(|view| row(columns, object(view)));
    rows.collect()
}
