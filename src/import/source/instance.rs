//! An instance as the source: its files, copied while its sessions go on, then recovered and stopped cleanly.
//!
//! The next steps are the import of a data directory, which knows an instance's by the settings that it carries.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use multidb_actors::instance::Lease;
use multidb_actors::ports::{CloneError, SuperuserAccess};
use multidb_store::{FromInstance, InstanceName, Prepared, error_chain};

use super::base_backup::{BaseBackup, make_directory, recover};
use super::data_dir::{DataDir, check_unchanged, read_control};
use super::running::check_not_running;
use crate::fsutil::beneath::{Directory, TreeError};
use crate::import::context::Context;
use crate::import::error::{ImportError, tree_error};
use crate::import::progress::Step;
use crate::probe;
use crate::runtime::carried;
use crate::sql::{AnswerLimits, SqlError};

/// Recovery needs room for as many prepared transactions as the server of the data could have.
const PREPARED_MAX: &str = "select pg_catalog.current_setting('max_prepared_transactions')";
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
const PARENT_HINT: &str = "A copy of a running server needs wal_level = replica, Postgres' default, and the server must \
                           run until the copy is made.";

/// An instance to make a snapshot from.
#[derive(Clone)]
pub struct SourceInstance {
    /// Its name.
    pub(in crate::import) name: PathBuf,
    /// The preparations that ran on its data, before it was an instance.
    prepared_by: Vec<Prepared>,
    state: InstanceState,
}

#[derive(Clone)]
enum InstanceState {
    /// It is copied while it runs.
    Running(AttachInstance),
    Stopped(StoppedInstance),
}

/// The data of an instance that does not run.
#[derive(Debug, Clone)]
pub struct StoppedInstance {
    /// Its data directory.
    pub data: PathBuf,
    /// The major version of Postgres that it needs.
    pub postgres_major: u16,
    /// The origin of its data.
    pub from: FromInstance,
    /// When the data of its snapshot was taken.
    pub taken_at: Timestamp,
}

/// Starts the instance if it does not run.
pub type AttachInstance =
    Arc<dyn Fn() -> BoxFuture<'static, Result<AttachedInstance, InstanceFault>> + Send + Sync>;

/// An instance that runs for as long as this is held.
#[derive(Debug)]
pub struct AttachedInstance {
    /// Keeps it running.
    pub lease: Lease,
    /// The origin of its data.
    pub from: FromInstance,
}

/// Why an instance does not run.
#[derive(Debug)]
pub struct InstanceFault {
    /// A stable word.
    pub code: &'static str,
    /// In one line.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
}

/// The properties that a snapshot takes over from the instance that it is made from.
#[derive(Debug, Clone)]
pub(in crate::import) struct Descent {
    pub(in crate::import) from: FromInstance,
    pub(in crate::import) prepared_by: Vec<Prepared>,
}

impl SourceInstance {
    /// This instance, on whose data these preparations ran.
    pub fn new(name: &InstanceName, prepared_by: Vec<Prepared>, attach: AttachInstance) -> Self {
        Self {
            name: PathBuf::from(format!("instance {name}")),
            prepared_by,
            state: InstanceState::Running(attach),
        }
    }

    /// The data of a stopped instance, on which these preparations ran. It is refused if its server was started
    /// meanwhile.
    pub fn stopped(stopped: StoppedInstance, prepared_by: Vec<Prepared>) -> Self {
        Self {
            name: PathBuf::from(format!("instance {}", stopped.from.instance)),
            prepared_by,
            state: InstanceState::Stopped(stopped),
        }
    }

    fn fault(&self, code: &'static str, message: String, hint: Option<String>) -> ImportError {
        ImportError::Source {
            from: self.name.display().to_string(),
            code,
            message,
            hint: hint.unwrap_or_else(|| "Import it again.".to_owned()),
        }
    }
}

impl fmt::Debug for SourceInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceInstance")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The source as the snapshot's record has it.
pub(in crate::import) fn describe(from: &FromInstance) -> String {
    let FromInstance {
        instance, snapshot, ..
    } = from;
    let derived = if from.derived { "derived from " } else { "" };
    let commit = from
        .commit
        .iter()
        .map(|commit| format!(" for commit {commit}"));
    let commit: String = commit.collect();
    format!("{derived}instance {instance}, from snapshot {snapshot}{commit}")
}

impl BaseBackup {
    /// Copies an instance.
    pub(super) async fn of_instance(
        context: &Context,
        instance: &SourceInstance,
    ) -> Result<Self, ImportError> {
        let (directory, data) = make_directory(context).await?;
        let (from, taken_at) = match &instance.state {
            InstanceState::Running(attach) => {
                let from = copy_running(context, instance, attach, &data).await?;
                (from, Timestamp::now())
            }
            InstanceState::Stopped(stopped) => {
                copy_stopped(context, stopped, &data).await?;
                (stopped.from.clone(), stopped.taken_at)
            }
        };
        Ok(Self {
            data_dir: DataDir::open(context, data).await?,
            taken_at,
            directory,
            descent: Some(Descent {
                from,
                prepared_by: instance.prepared_by.clone(),
            }),
        })
    }
}

/// Copies an instance that is started if it does not run, and recovers the copy.
async fn copy_running(
    context: &Context,
    instance: &SourceInstance,
    attach: &AttachInstance,
    data: &Path,
) -> Result<FromInstance, ImportError> {
    let AttachedInstance { lease, from } = attach()
        .await
        .map_err(|fault| instance.fault(fault.code, fault.message, fault.hint))?;
    let failed = |message| {
        let hint = Some(PARENT_HINT.to_owned());
        instance.fault("parent_failed", message, hint)
    };
    let prepared = prepared_max(&lease.server).await;
    let prepared = prepared.map_err(|error| failed(error_chain(&error)))?;
    let postgres_major = lease.server.postgres_major;
    context.progress.begin(Step::Backup).await;
    let (cloner, to) = (context.importer.cloner.clone(), data.to_owned());
    // The lease goes with the work, which goes on where its import is cancelled.
    let copy = move || {
        cloner.copy_running(lease.uid, &lease.server, &to)?;
        let marked = mark_as_instance(&to);
        marked.map_err(|error| tree_error(&to, &to, error))
    };
    match context.run_blocking(copy).await {
        Err(ImportError::Clone(CloneError::ParentFailed { message })) => {
            return Err(failed(message));
        }
        copied => copied?,
    };
    context.progress.begin(Step::Recover).await;
    recover(context, data, postgres_major, prepared).await?;
    Ok(from)
}

/// Copies the data of a stopped instance, and refuses it if a server was started on it meanwhile.
async fn copy_stopped(
    context: &Context,
    stopped: &StoppedInstance,
    data: &Path,
) -> Result<(), ImportError> {
    let (path, major) = (&stopped.data, stopped.postgres_major);
    check_not_running(path)?;
    let before = read_control(context, major, path).await?;
    let (cloner, from, to) = (
        context.importer.cloner.clone(),
        path.clone(),
        data.to_owned(),
    );
    let copy = move || {
        cloner.clone_tree(&from, &to)?;
        let marked = mark_as_instance(&to);
        marked.map_err(|error| tree_error(&to, &to, error))
    };
    context.run_blocking(copy).await?;
    check_not_running(path)?;
    check_unchanged(context, major, path, &before).await
}

/// Its server never read the `postgresql.conf` that came with its data, only the settings that the data carries.
fn mark_as_instance(data: &Path) -> Result<(), TreeError> {
    let directory = Directory::open(data)?;
    match directory.find(carried::FILE)? {
        Some(_) => Ok(()),
        None => directory.write_new(OsStr::new(carried::FILE), 0o600, b""),
    }
}

async fn prepared_max(server: &SuperuserAccess) -> Result<u32, SqlError> {
    let limits = AnswerLimits {
        time: Some(QUESTION_TIMEOUT),
        rows: 1,
        bytes: 1 << 10,
    };
    let mut session = probe::connect(server, Some(QUESTION_TIMEOUT)).await?;
    let rows = session.query(PREPARED_MAX, limits).await?;
    session.close().await;
    let answer = rows.first().map(|row| row.text(0)).transpose()?;
    let prepared = answer.and_then(|answer| answer.parse().ok());
    prepared.ok_or_else(|| SqlError::Unexpected("a setting without a number".to_owned()))
}
