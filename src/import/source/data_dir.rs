//! A data directory as the source of a snapshot: its checks and its copy.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::LoadedSource;
use crate::fsutil::beneath::Directory;
use crate::import::cluster::{Cluster, find_superuser};
use crate::import::context::Context;
use crate::import::control::Control;
use crate::import::error::{ImportError, refused, tree_error};
use crate::import::progress::Step;
use crate::import::tree::{TreeSize, data_size};
use crate::import::trim::drop_alter_system;
use crate::runtime::server_processes;

const STOP_HINT: &str = "Start Postgres on it once and stop it cleanly (pg_ctl stop -m fast), \
                           then import again.";

/// The most that is read of a `PG_VERSION`, and of a `postmaster.pid`.
const VERSION_BYTES_MAX: u64 = 64;
const PID_FILE_BYTES_MAX: u64 = 4096;

/// A data directory that can be imported.
#[derive(Debug)]
pub(in crate::import) struct DataDir {
    path: PathBuf,
    postgres_major: u16,
    control: Control,
    size: TreeSize,
}

impl DataDir {
    /// Checks a data directory as far as possible without a server on it.
    pub(super) async fn open(context: &Context, path: PathBuf) -> Result<Self, ImportError> {
        let checked = path.clone();
        let (postgres_major, size) = context
            .run_blocking(move || Ok((check_files(&checked)?, data_size(&checked)?)))
            .await?;
        let control = read_control(context, postgres_major, &path).await?;
        Ok(Self {
            path,
            postgres_major,
            control,
            size,
        })
    }

    /// Copies it, and starts a server on the copy.
    pub(super) async fn load(self, context: &Context) -> Result<LoadedSource, ImportError> {
        context.progress.begin(Step::Copy).await;
        let copied = context.copy_data_dir(self.path.clone());
        let (bytes, total) = (&context.copy.bytes_done, Some(self.size.bytes));
        context.progress.with_bytes(bytes, total, copied).await?;
        self.check_unchanged(context).await?;
        drop_alter_system(context).await?;
        let server = context.start_server(self.postgres_major).await?;
        let superuser = find_superuser(&server, &context.request.settings.role, &self.path).await?;
        Ok(LoadedSource {
            cluster: Cluster {
                server,
                superuser,
                postgres_major: self.postgres_major,
            },
            taken_at: self.control.checkpoint_at.unwrap_or_else(Timestamp::now),
        })
    }

    /// Refuses a source on which a server was started during the copy: the copy would mix states.
    async fn check_unchanged(&self, context: &Context) -> Result<(), ImportError> {
        check_not_running(&self.path)?;
        let control = read_control(context, self.postgres_major, &self.path).await?;
        if control == self.control {
            return Ok(());
        }
        Err(refused(
            &self.path,
            "Postgres was started on it during the import",
            "Import it again while it is stopped.",
        ))
    }
}

/// Checks the files of a data directory, and returns its Postgres major. Blocks.
fn check_files(path: &Path) -> Result<u16, ImportError> {
    let failed = |error| tree_error(path, path, error);
    let directory = Directory::open(path).map_err(failed)?;
    let postgres_major = read_version(&directory)?;
    check_not_running(path)?;
    for name in ["standby.signal", "recovery.signal", "backup_label"] {
        if directory.find(name).map_err(failed)?.is_some() {
            return Err(refused(
                path,
                format!("it is a standby or an unfinished backup: it has {name}"),
                "Let it finish its recovery and promote it (pg_ctl promote), stop it cleanly, then \
                 import again.",
            ));
        }
    }
    let prepared = directory.directory("pg_twophase");
    if prepared.is_ok_and(|directory| directory.names().is_ok_and(|mut n| n.next().is_some())) {
        return Err(refused(
            path,
            "it has prepared transactions",
            "Start Postgres on it, end each transaction in pg_prepared_xacts by COMMIT PREPARED or \
             ROLLBACK PREPARED, stop it cleanly, then import again.",
        ));
    }
    Ok(postgres_major)
}

fn read_version(directory: &Directory) -> Result<u16, ImportError> {
    let path = directory.path();
    let version = directory.read("PG_VERSION", VERSION_BYTES_MAX);
    let Some(version) = version.map_err(|error| tree_error(path, path, error))? else {
        return Err(refused(
            path,
            "it is not a Postgres data directory: it has no PG_VERSION",
            "Give the directory that contains PG_VERSION and base/.",
        ));
    };
    let version = String::from_utf8_lossy(&version);
    version.trim().parse().map_err(|_| {
        refused(
            path,
            format!("its version \"{}\" is not supported", version.trim()),
            "Upgrade it, or import a dump instead.",
        )
    })
}

/// Refuses a data directory with a running server. Called again after the copy, since a server
/// that was started meanwhile has changed files.
fn check_not_running(path: &Path) -> Result<(), ImportError> {
    let text = Directory::open(path)
        .and_then(|directory| directory.read("postmaster.pid", PID_FILE_BYTES_MAX))
        .map_err(|error| tree_error(path, path, error))?;
    let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default()).into_owned();
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    // The number is that of another process if the server has a pid namespace of its own.
    if pid.is_some_and(is_postgres) || server_processes::any(path) {
        return Err(refused(
            path,
            "Postgres is running on it",
            "Stop it cleanly (pg_ctl stop -m fast), then import again.",
        ));
    }
    Ok(())
}

/// A stale `postmaster.pid` may have the pid of an unrelated process.
fn is_postgres(pid: rustix::process::Pid) -> bool {
    // Trusted path: only the kernel writes it.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid()));
    match name {
        Ok(name) => name.starts_with("postgres") || name.starts_with("postmaster"),
        Err(_) => rustix::process::test_kill_process(pid).is_ok(),
    }
}

/// Reads the control file of a data directory, and refuses one that was not shut down cleanly.
async fn read_control(
    context: &Context,
    postgres_major: u16,
    path: &Path,
) -> Result<Control, ImportError> {
    let control = Control::read(context, postgres_major, path).await?;
    if control.is_shut_down() {
        return Ok(control);
    }
    Err(refused(
        path,
        format!(
            "it was not shut down cleanly: its state is \"{}\"",
            control.state
        ),
        STOP_HINT,
    ))
}
