//! Whether a data directory can be imported, and what it is.

use std::fs;
use std::io;
use std::path::Path;

use super::control::Control;
use super::error::{ImportError, refused};
use super::files::{TreeSize, data_size, make_dir, set_owner};
use crate::runtime::PostgresHost;

const STOP_ADVICE: &str = "Start Postgres on it once and stop it cleanly (pg_ctl stop -m fast), \
                           then import again.";

/// A data directory that can be imported.
#[derive(Debug)]
pub(super) struct DataDir {
    pub(super) postgres_major: u16,
    pub(super) control: Control,
    pub(super) size: TreeSize,
}

/// Looks at everything that can be known without starting Postgres. Blocks.
pub(super) fn check_files(path: &Path) -> Result<(u16, TreeSize), ImportError> {
    let version = match fs::read_to_string(path.join("PG_VERSION")) {
        Ok(version) => version,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refused(
                path,
                "it is no data directory of Postgres: it has no PG_VERSION",
                "Give the directory that PG_VERSION and base/ are in.",
            ));
        }
        Err(source) => return Err(ImportError::io("read", &path.join("PG_VERSION"), source)),
    };
    let postgres_major = version.trim().parse().map_err(|_| {
        refused(
            path,
            format!("its version \"{}\" is not supported", version.trim()),
            "Upgrade it, or import a dump instead.",
        )
    })?;
    check_not_running(path)?;
    for name in ["standby.signal", "recovery.signal", "backup_label"] {
        if path.join(name).exists() {
            return Err(refused(
                path,
                format!("it is a standby or an unfinished backup: it has {name}"),
                "Let it finish its recovery and promote it (pg_ctl promote), stop it cleanly, then \
                 import again.",
            ));
        }
    }
    let prepared = fs::read_dir(path.join("pg_twophase")).is_ok_and(|mut e| e.next().is_some());
    if prepared {
        return Err(refused(
            path,
            "it has prepared transactions",
            "Start Postgres on it, end each of pg_prepared_xacts by COMMIT PREPARED or ROLLBACK \
             PREPARED, stop it cleanly, then import again.",
        ));
    }
    Ok((postgres_major, data_size(path)?))
}

/// Refuses a data directory whose server runs. Called again after the copy: a server that was
/// started meanwhile has changed what was copied.
pub(super) fn check_not_running(path: &Path) -> Result<(), ImportError> {
    let Ok(text) = fs::read_to_string(path.join("postmaster.pid")) else {
        return Ok(());
    };
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    if pid.is_some_and(is_postgres) {
        return Err(refused(
            path,
            "Postgres is running on it",
            "Stop it cleanly (pg_ctl stop -m fast), then import again.",
        ));
    }
    Ok(())
}

/// A stale file may name a process of quite another kind.
fn is_postgres(pid: rustix::process::Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid()));
    match name {
        Ok(name) => name.starts_with("postgres") || name.starts_with("postmaster"),
        Err(_) => rustix::process::test_kill_process(pid).is_ok(),
    }
}

/// Asks `pg_controldata` about a data directory that Postgres' user need not be able to enter: it
/// reads one file, which is copied to `scratch`.
pub(super) async fn read_control(
    host: &dyn PostgresHost,
    postgres_major: u16,
    path: &Path,
    scratch: &Path,
) -> Result<Control, ImportError> {
    let owner = host.data_owner();
    make_dir(scratch, 0o700, owner)?;
    make_dir(&scratch.join("global"), 0o700, owner)?;
    let from = path.join("global/pg_control");
    let to = scratch.join("global/pg_control");
    fs::copy(&from, &to).map_err(|source| ImportError::io("read", &from, source))?;
    set_owner(&to, owner)?;
    let control = Control::read(host, postgres_major, scratch).await?;
    fs::remove_dir_all(scratch).map_err(|source| ImportError::io("remove", scratch, source))?;
    if !control.is_shut_down() {
        return Err(refused(
            path,
            format!(
                "it was not shut down cleanly: its state is \"{}\"",
                control.state
            ),
            STOP_ADVICE,
        ));
    }
    Ok(control)
}
