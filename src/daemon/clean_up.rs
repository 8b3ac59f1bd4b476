//! Removes the staging directories of imports that an earlier daemon did not finish.
//!
//! The server of such an import is stopped first. Where the host cannot tell whether it runs, its directory stays, and
//! is looked at again later; meanwhile only imports of the same id are refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::limits::STOP_TIMEOUT;
use multidb_actors::ports::CloneError;
use multidb_store::error_chain;

use crate::catalog::DiskCatalog;
use crate::runtime::{PostgresHost, Purpose, server_processes};

/// The delay before a directory is looked at again; it doubles each time.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// Removes the staging directories that are there now, before the first import begins. Directories that have to stay
/// are removed in the background, once that is possible.
///
/// # Errors
///
/// The snapshots cannot be listed.
pub(super) async fn remove_staging(
    host: Arc<dyn PostgresHost>,
    catalog: Arc<DiskCatalog>,
) -> Result<(), CloneError> {
    let mut staging = catalog.staging()?;
    if staging.is_empty() {
        return Ok(());
    }
    remove_stopped(&*host, &catalog, &mut staging).await;
    if staging.is_empty() {
        return Ok(());
    }
    for path in &staging {
        tracing::warn!(
            path = %path.display(),
            "cannot tell whether the server of an interrupted import runs, its staging directory stays until that is known"
        );
    }
    actix_rt::spawn(async move {
        let mut delay = RETRY_DELAY;
        while !staging.is_empty() {
            tokio::time::sleep(delay).await;
            delay = (2 * delay).min(RETRY_DELAY_MAX);
            remove_stopped(&*host, &catalog, &mut staging).await;
        }
    });
    Ok(())
}

/// Removes the directories on which no server runs any more, and takes them out of the list.
async fn remove_stopped(
    host: &dyn PostgresHost,
    catalog: &Arc<DiskCatalog>,
    staging: &mut Vec<PathBuf>,
) {
    let servers = match host.running_servers().await {
        Ok(servers) => servers,
        Err(error) => {
            tracing::debug!(error = error_chain(&error), "the runtime did not answer");
            return;
        }
    };
    let mut undecided: Vec<PathBuf> = servers
        .undecided
        .into_iter()
        .map(|server| server.data_dir)
        .collect();
    for (purpose, found) in servers.found {
        let Some(data_dir) = servers.import_data.get(&found.uid) else {
            continue;
        };
        let is_leftover = staging.iter().any(|path| data_dir.starts_with(path));
        if purpose != Purpose::Import || !is_leftover {
            continue;
        }
        tracing::info!(uid = %found.uid, "stopping the server of an interrupted import");
        if let Err(error) = host.stop_server(found.uid, STOP_TIMEOUT).await {
            tracing::error!(uid = %found.uid, error = error_chain(&error), "the server of an interrupted import was not stopped, retrying");
            undecided.push(data_dir.clone());
        }
    }
    let mut left = Vec::new();
    for path in staging.drain(..) {
        if undecided.iter().any(|data_dir| data_dir.starts_with(&path)) || is_served(&path) {
            left.push(path);
            continue;
        }
        let catalog = catalog.clone();
        let removed = tokio::task::spawn_blocking(move || catalog.remove_staging(&path)).await;
        if let Err(error) = removed {
            tracing::error!(%error, "the removal of a staging directory failed");
        }
    }
    *staging = left;
}

/// Whether a server of any runtime has a data directory here.
fn is_served(staging: &Path) -> bool {
    server_processes::any(&staging.join("data"))
}
