//! The containers of an earlier daemon: servers to take over, and leftovers to remove.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerSummaryStateEnum;
use futures_util::future::join_all;
use multidb_actors::ports::{FoundPostgres, RuntimeError};
use multidb_store::InstanceUid;
use tokio::time::timeout;

use super::Inner;
use super::labels::{Labels, Role};
use super::server::ContainerRef;
use crate::runtime::readiness::Readiness;
use crate::runtime::{Purpose, RunningServers, UndecidedServer};

/// The limit for a server of a killed daemon to become ready, after which it is ended.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(60);

/// A container of an earlier daemon, after a look at it.
enum TakenOver {
    /// Its server accepts connections.
    Running(Purpose, PathBuf, FoundPostgres),
    /// It could not be removed, and its server may run.
    Undecided(UndecidedServer),
    /// It is not a server's, or is gone.
    Nothing,
}

impl Inner {
    /// Takes over the running servers, and removes the other containers of this root: exited servers,
    /// and programs of a killed daemon.
    pub(super) async fn take_over(self: Arc<Self>) -> Result<RunningServers, RuntimeError> {
        let containers = self.engine.list(&Labels::filter()).await?;
        let handled = containers.into_iter().filter_map(|container| {
            let role = self.labels.role(&container.labels.unwrap_or_default())?;
            let running = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            Some(self.take_over_one(container.id?, role, running))
        });
        let mut servers = RunningServers::default();
        for taken_over in join_all(handled).await {
            match taken_over {
                TakenOver::Running(purpose, data_dir, found) => {
                    if purpose == Purpose::Import {
                        servers.import_data.insert(found.uid, data_dir);
                    }
                    servers.found.push((purpose, found));
                }
                TakenOver::Undecided(server) => servers.undecided.push(server),
                TakenOver::Nothing => {}
            }
        }
        Ok(servers)
    }

    async fn take_over_one(self: &Arc<Self>, id: String, role: Role, running: bool) -> TakenOver {
        let (uid, purpose, data_dir, log) = match role {
            Role::Server {
                uid,
                purpose,
                data_dir,
                log,
            } => (uid, purpose, data_dir, log),
            Role::Program { daemon } if daemon != self.daemon => {
                if let Err(error) = self.engine.remove(&id).await {
                    tracing::warn!(
                        container = id,
                        error = error.message,
                        "cannot remove the container of a program"
                    );
                }
                return TakenOver::Nothing;
            }
            Role::Program { .. } | Role::Pause => return TakenOver::Nothing,
        };
        if self.locks.is_locked(uid) {
            // This daemon is starting or stopping it.
            return TakenOver::Nothing;
        }
        let _lock = self.locks.lock(uid).await;
        let container = ContainerRef { uid, id, log };
        match self.adopt(&container, &data_dir, running).await {
            Ok(Some(found)) => TakenOver::Running(purpose, data_dir, found),
            Ok(None) => TakenOver::Nothing,
            Err(error) => {
                tracing::warn!(
                    %uid,
                    error = error.message,
                    "cannot remove a container, it is looked at again"
                );
                TakenOver::Undecided(UndecidedServer {
                    uid,
                    purpose,
                    data_dir,
                })
            }
        }
    }

    /// Takes over the server with this uid, or makes sure that its container is gone.
    pub(super) async fn find(
        self: Arc<Self>,
        uid: InstanceUid,
    ) -> Result<Option<FoundPostgres>, RuntimeError> {
        let _lock = self.locks.lock(uid).await;
        let Some(found) = self.inspect_server(uid).await? else {
            let data_dir = self.settings.layout.instance_data(uid);
            self.refuse_other_server(uid, &data_dir).await?;
            return Ok(None);
        };
        self.adopt(&found.container, &found.data_dir, found.running)
            .await
    }

    /// Takes over a server that accepts connections, and removes the container of any other. The caller holds
    /// the lock.
    async fn adopt(
        self: &Arc<Self>,
        container: &ContainerRef,
        data_dir: &Path,
        running: bool,
    ) -> Result<Option<FoundPostgres>, RuntimeError> {
        let uid = container.uid;
        let ready = running && {
            let readiness = Readiness::of_running(data_dir, &self.settings.layout.run_dir(uid));
            let ready = self.ready(&container.id, &readiness);
            matches!(timeout(ADOPTION_TIMEOUT, ready).await, Ok(Ok(())))
        };
        if !ready {
            tracing::info!(%uid, running, "removing a container that accepts no connections");
            self.clear_away(container).await?;
            return Ok(None);
        }
        let postgres = self.watched(container);
        Ok(Some(FoundPostgres { uid, postgres }))
    }
}
