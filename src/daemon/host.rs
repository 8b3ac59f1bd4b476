//! Chooses and builds the runtime.
//!
//! The kind of a root is decided once and kept in the root, so that an engine that is slow at one start does not make
//! containers into processes. The configuration may name another kind: that one runs new instances, and the instances
//! of the earlier kind are unavailable.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use multidb_actors::ports::FoundServers;
use multidb_store::atomic_file;
use multidb_store::{DiskFault, InstanceRecord, Layout, RootId};

use super::{convert, root};
use crate::config::{Config, RuntimeKind};
use crate::runtime::PostgresHost;
use crate::runtime::docker::{DockerHost, DockerSettings, Limits, default_socket, probe_engine};
use crate::runtime::process::{self, ProcessHost};

/// The kinds of runtimes of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    /// The kind that the daemon uses, and that runs new instances.
    pub used: RuntimeKind,
    /// The root's own, which also runs the instances whose records do not tell.
    pub of_root: RuntimeKind,
}

/// The kinds of runtimes of the configured root. Writes nothing.
///
/// # Errors
///
/// The root's kind is kept there and cannot be read.
pub async fn kinds(config: &Config) -> anyhow::Result<Kinds> {
    let layout = Layout::new(&config.root);
    let configured = config.runtime.kind;
    let of_root = match (read_kind(&layout)?, configured) {
        (Some(kind), _) | (None, Some(kind)) => kind,
        // An earlier version used containers here.
        (None, None) if layout.state().join("docker").exists() => RuntimeKind::Docker,
        (None, None) => detect().await,
    };
    Ok(Kinds {
        used: configured.unwrap_or(of_root),
        of_root,
    })
}

/// `docker` if an engine answers, else `process`.
async fn detect() -> RuntimeKind {
    match probe_engine(&default_socket()).await {
        Ok(_) => RuntimeKind::Docker,
        Err(error) => {
            tracing::info!(%error, "no docker engine answers, postgres runs as local processes");
            RuntimeKind::Process
        }
    }
}

/// The kind that runs an instance whose record, of the first version, does not name it: the kind of the server that
/// runs now, else the root's.
pub(super) fn kind_of(
    record: &InstanceRecord,
    found: &FoundServers,
    layout: &Layout,
    kinds: Kinds,
) -> RuntimeKind {
    let is_found = found.running.iter().any(|server| server.uid == record.uid);
    if is_found || found.undecided.contains(&record.uid) {
        return kinds.used;
    }
    if layout.server_file(record.uid).exists() {
        return RuntimeKind::Process;
    }
    let served = process::server_on(&layout.instance_data(record.uid));
    served.unwrap_or(kinds.of_root)
}

/// Keeps the root's kind in it, unless one is kept already.
pub(super) fn keep_kind(layout: &Layout, kind: RuntimeKind) -> anyhow::Result<()> {
    if read_kind(layout)?.is_some() {
        return Ok(());
    }
    let path = path(layout);
    let text = format!("{kind}\n");
    match atomic_file::replace(&path, text.as_bytes(), 0o644, |_| Ok(())) {
        Err(error) if DiskFault::of(&error).is_some() => {
            tracing::warn!(path = %path.display(), %error, "the root's runtime is not kept before the next start");
            Ok(())
        }
        written => written.with_context(|| format!("cannot write {}", path.display())),
    }
}

fn read_kind(layout: &Layout) -> anyhow::Result<Option<RuntimeKind>> {
    let path = path(layout);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let known = [RuntimeKind::Docker, RuntimeKind::Process];
    let kind = known.into_iter().find(|kind| kind.name() == text.trim());
    let unknown = || {
        format!(
            "{} names no runtime: write \"docker\" or \"process\" into it",
            path.display()
        )
    };
    kind.with_context(unknown).map(Some)
}

fn path(layout: &Layout) -> PathBuf {
    layout.state().join("runtime")
}

/// Builds the runtime. An engine need not answer yet.
///
/// # Errors
///
/// Its files cannot be written.
pub(super) async fn build(
    config: &Config,
    layout: &Layout,
    id: RootId,
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
            let host = DockerHost::new(DockerSettings {
                socket: default_socket(),
                image: config.runtime.image.clone(),
                network: convert::network(&config.runtime.network),
                limits: Limits {
                    memory_bytes: config.runtime.memory_bytes,
                    cpus: config.runtime.cpus,
                },
                data_owner: owner,
                layout: layout.clone(),
                root: id,
                postgres_settings: settings,
            });
            Ok(Arc::new(
                host.await.map_err(|error| super::with_hint(&error))?,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_of_a_root_is_kept_and_does_not_change() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        fs::create_dir(layout.state()).unwrap();
        assert_eq!(read_kind(&layout).unwrap(), None);
        keep_kind(&layout, RuntimeKind::Process).unwrap();
        keep_kind(&layout, RuntimeKind::Docker).unwrap();
        assert_eq!(read_kind(&layout).unwrap(), Some(RuntimeKind::Process));
        fs::write(path(&layout), "podman").unwrap();
        assert!(read_kind(&layout).is_err());
    }
}
