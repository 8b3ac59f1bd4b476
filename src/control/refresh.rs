//! Refreshes: a project's next snapshot from its configured source.

mod incoming;
mod schedule;

use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{JobKind, ProjectName, SnapshotId};

pub(super) use self::schedule::Schedules;
use super::access::{Action, Caller, Resource, authorize};
use super::jobs::view;
use super::model::{ImportOrder, JobView, OrderSource, ServerInfo};
use super::{Control, ControlError};
use crate::config::{RefreshMethod, RefreshSource, SourceUrl};
use crate::import::{DumpCommand, ErrorPolicy, ImportSource, LogicalSource, SourceServer};
use crate::refresh::snapshot_id;

impl Control {
    /// Starts a job that makes the project's next snapshot from its configured source.
    pub async fn start_refresh(
        &self,
        caller: &Caller,
        project: &ProjectName,
    ) -> Result<JobView, ControlError> {
        let project = self.project(Some(project))?;
        let resource = Resource::Project(&project);
        authorize(caller, Action::Change, resource, "refresh projects")?;
        let source = self.refresh_source(&project)?;
        let id = self.refresh_id(&project).await?;
        let order = ImportOrder {
            id,
            project,
            // Only its settings are used.
            source: OrderSource::DataDir(source.path().to_owned()),
            taken_at: None,
            postgres_major: None,
            errors: ErrorPolicy::Default,
        };
        let request = self.import_request(caller, order, source)?;
        let job = self
            .import_in_job(caller, JobKind::Refresh, request, None)
            .await?;
        Ok(view(&job))
    }

    fn refresh_source(&self, project: &ProjectName) -> Result<ImportSource, ControlError> {
        let projects = &self.deps.config.projects;
        let refresh = projects
            .get(project)
            .and_then(|found| found.refresh.as_ref());
        let source = refresh.and_then(|refresh| refresh.source.clone());
        Ok(match source {
            None => return Err(ControlError::NoRefreshSource(project.clone())),
            Some(RefreshSource::Command(command)) => {
                ImportSource::Command(DumpCommand::new(command))
            }
            Some(RefreshSource::Server {
                url,
                method: RefreshMethod::Physical,
                passfile,
                ..
            }) => ImportSource::Physical(SourceServer::new(url, passfile)),
            Some(RefreshSource::Server {
                url,
                method: RefreshMethod::Logical,
                passfile,
                exclude_table,
                exclude_table_data,
            }) => ImportSource::Logical(LogicalSource {
                server: SourceServer::new(url, passfile),
                exclude_table,
                exclude_table_data,
            }),
        })
    }

    /// The id of a snapshot that is made now: the project and the time, UTC.
    async fn refresh_id(&self, project: &ProjectName) -> Result<SnapshotId, ControlError> {
        let snapshots = self.deps.index.send(ListSnapshots).await?;
        let is_taken = |id: &SnapshotId| snapshots.iter().any(|snapshot| snapshot.id == *id);
        let plain = snapshot_id(project, self.deps.clock.now().wall);
        // A clock that was set back.
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let plain = std::iter::once(plain.clone());
        let mut ids = plain.chain(numbered).filter_map(|id| id.parse().ok());
        ids.find(|id| !is_taken(id)).ok_or(ControlError::ActorEnded)
    }
}

/// The source of an import from a running server, as requested.
pub(super) fn server_source(server: ServerInfo) -> Result<ImportSource, ControlError> {
    let url = SourceUrl::parse(&server.url)
        .map_err(|problem| ControlError::InvalidArgument(format!("the URL {problem}")))?;
    let source = SourceServer::new(url, server.passfile);
    Ok(match server.logical {
        false => ImportSource::Physical(source),
        true => ImportSource::Logical(LogicalSource {
            server: source,
            exclude_table: Vec::new(),
            exclude_table_data: Vec::new(),
        }),
    })
}
