//! An instance as the source: its files, copied while its sessions go on, then recovered and stopped cleanly.
//!
//! What follows is the import of a data directory, which knows that of an instance by the settings that it carries.

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
use super::data_dir::DataDir;
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
    attach: AttachInstance,
}

/// Starts the instance if it does not run.
pub type AttachInstance =
    Arc<dyn Fn() -> BoxFuture<'static, Result<AttachedInstance, InstanceFault>> + Send + Sync>;

/// An instance that runs for as long as this is held.
#[derive(Debug)]
pub struct AttachedInstance {
    /// Keeps it running.
    pub lease: Lease,
    /// What it is a clone of.
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

/// What a snapshot has from the instance that it is made from.
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
            attach,
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
    match &from.commit {
        Some(commit) => {
            format!("instance {instance}, from snapshot {snapshot} for commit {commit}")
        }
        None => format!("instance {instance}, from snapshot {snapshot}"),
    }
}

impl BaseBackup {
    /// Copies an instance, which is started if it does not run.
    pub(super) async fn of_instance(
        context: &Context,
        instance: &SourceInstance,
    ) -> Result<Self, ImportError> {
        let attached = (instance.attach)().await;
        let AttachedInstance { lease, from } =
            attached.map_err(|fault| instance.fault(fault.code, fault.message, fault.hint))?;
        let failed = |message| {
            let hint = Some(PARENT_HINT.to_owned());
            instance.fault("parent_failed", message, hint)
        };
        let prepared = prepared_max(&lease.server).await;
        let prepared = prepared.map_err(|error| failed(error_chain(&error)))?;
        let postgres_major = lease.server.postgres_major;
        let (directory, data) = make_directory(context).await?;
        context.progress.begin(Step::Backup).await;
        let (cloner, to) = (context.importer.cloner.clone(), data.clone());
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
        let taken_at = Timestamp::now();
        context.progress.begin(Step::Recover).await;
        recover(context, &data, postgres_major, prepared).await?;
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
