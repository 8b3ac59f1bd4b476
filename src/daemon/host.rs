//! Chooses and builds the runtime.

use std::sync::Arc;

use multidb_store::Layout;

use super::{convert, root, with_hint};
use crate::config::{Config, RuntimeKind};
use crate::runtime::PostgresHost;
use crate::runtime::docker::{DockerHost, DockerSettings, Limits, default_socket, probe_engine};
use crate::runtime::process::ProcessHost;

/// The configured kind; without one, `docker` if an engine answers, else `process`.
pub async fn kind(config: &Config) -> RuntimeKind {
    if let Some(kind) = config.runtime.kind {
        return kind;
    }
    match probe_engine(&default_socket()).await {
        Ok(_) => RuntimeKind::Docker,
        Err(error) => {
            tracing::info!(%error, "no docker engine answers, postgres runs as local processes");
            RuntimeKind::Process
        }
    }
}

/// Builds the runtime.
///
/// # Errors
///
/// The engine does not answer.
pub async fn build(
    config: &Config,
    layout: &Layout,
    kind: RuntimeKind,
    owner: (u32, u32),
) -> anyhow::Result<Arc<dyn PostgresHost>> {
    let settings = config.postgres_settings.clone();
    match kind {
        RuntimeKind::Process => {
            let host = ProcessHost::new(layout.clone(), owner, settings);
            for gap in host.confinement().gaps() {
                tracing::warn!("the sandbox of servers is incomplete: {gap}");
            }
            // The other majors may be enough, so this does not prevent the start.
            if let Err(error) = root::check_directories(&host.binaries().directories(), owner) {
                tracing::warn!(
                    error = error.message,
                    hint = error.hint,
                    "cannot run programs of postgres"
                );
            }
            Ok(Arc::new(host))
        }
        RuntimeKind::Docker => {
            let host = DockerHost::connect(DockerSettings {
                socket: default_socket(),
                image: config.runtime.image.clone(),
                network: convert::network(&config.runtime.network),
                limits: Limits {
                    memory_bytes: config.runtime.memory_bytes,
                    cpus: config.runtime.cpus,
                },
                data_owner: owner,
                layout: layout.clone(),
                postgres_settings: settings,
            });
            Ok(Arc::new(host.await.map_err(|error| with_hint(&error))?))
        }
    }
}
