//! De-duplication: older snapshots of a project share the blocks that they have in common with its newest one.
//!
//! Two snapshots a day apart have most of their bytes in common, at the same offset of a relation's file. Each older one
//! gets the blocks of the newest one where that is so, in units of 4 KiB. The newest one is never written to: its
//! extents stay long, and clones of it fast.
//!
//! | module | owns |
//! | --- | --- |
//! | `pair` | the comparison of two files |
//! | `budget` | the runs of equal blocks that are worth their extents |
//! | `pass` | all files of one older snapshot |
//! | `record` | how far a snapshot is, beside its manifest |
//! | `pace` | bandwidth, pause and cancellation |

mod budget;
mod pace;
mod pair;
mod pass;
mod record;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use multidb_actors::ports::CloneError;
use multidb_store::{Layout, ProjectName, SnapshotRecord, atomic_file};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use self::pass::Pass;
pub use self::pass::Snapshots;
pub use self::record::DedupRecord;
use crate::clone::failed;
use crate::fsutil::beneath::TreeError;
use crate::fsutil::unless_missing;

const NICE: i32 = 19;

/// Why a de-duplication ended early. Blocks shared until then stay shared.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// It was cancelled, or the daemon stops.
    #[error("the de-duplication was cancelled")]
    Cancelled,
    /// Its thread panicked.
    #[error("the de-duplication ended by a defect")]
    Died,
    /// The file system cannot share blocks.
    #[error("the file system of the snapshots cannot share blocks between files")]
    Unsupported,
    /// A file of a snapshot cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The file system failed.
    #[error("cannot {action} a file of a snapshot")]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl DedupError {
    fn io(action: &'static str) -> impl Fn(Errno) -> Self {
        move |error| Self::Io {
            action,
            source: error.into(),
        }
    }

    /// Whether a snapshot was removed meanwhile.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Tree(error) if error.is_missing())
    }
}

/// Shares the blocks of snapshots under one root.
#[derive(Debug)]
pub struct Deduplicator {
    layout: Layout,
    bandwidth: u64,
    paused: watch::Sender<bool>,
}

impl Deduplicator {
    /// Reads at most so many bytes a second from the disk. It is paused if an earlier daemon was told so.
    pub fn open(layout: Layout, bandwidth: u64) -> Self {
        let paused = pause_file(&layout).exists();
        Self {
            layout,
            bandwidth: bandwidth.max(1),
            paused: watch::channel(paused).0,
        }
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Pauses it until [`resume`](Self::resume), also after a restart of the daemon.
    ///
    /// # Errors
    ///
    /// That cannot be recorded.
    pub fn pause(&self) -> Result<(), CloneError> {
        let file = pause_file(&self.layout);
        atomic_file::replace(&file, b"", 0o600, |_| Ok(()))
            .map_err(|error| failed("write", &file, &error))?;
        self.paused.send_replace(true);
        Ok(())
    }

    /// Goes on.
    ///
    /// # Errors
    ///
    /// That cannot be recorded.
    pub fn resume(&self) -> Result<(), CloneError> {
        let file = pause_file(&self.layout);
        unless_missing(std::fs::remove_file(&file))
            .map_err(|error| failed("delete", &file, &error))?;
        self.paused.send_replace(false);
        Ok(())
    }

    /// The record of a snapshot's de-duplication; none before the first one.
    pub fn record(&self, snapshot: &SnapshotRecord) -> Option<DedupRecord> {
        DedupRecord::read(&self.layout, &snapshot.id)
    }

    /// Lets the older of two snapshots have the blocks of the newer one. A snapshot that is removed meanwhile is no
    /// error.
    ///
    /// # Errors
    ///
    /// It was cancelled, or the file system failed.
    pub async fn share(
        self: &Arc<Self>,
        snapshots: Snapshots,
        cancelled: &CancellationToken,
        report: impl Fn(u64, u64) + Send + 'static,
    ) -> Result<(), DedupError> {
        let mut pace = Pace {
            runtime: Handle::current(),
            bandwidth: self.bandwidth,
            paused: self.paused.subscribe(),
            cancelled: cancelled.clone(),
            due: Instant::now(),
        };
        let (sender, ended) = oneshot::channel();
        let layout = self.layout.clone();
        let thread = std::thread::Builder::new().name("dedup".to_owned());
        let started = thread.spawn(move || {
            yield_to_others();
            let pass = Pass {
                layout: &layout,
                snapshots,
                pace: &mut pace,
                report: &report,
            };
            let _job_gone = sender.send(pass.run());
        });
        started.map_err(|source| DedupError::Io {
            action: "start a thread for",
            source,
        })?;
        match ended.await {
            Ok(Err(error)) if error.is_missing() => Ok(()),
            Ok(result) => result,
            Err(_) => Err(DedupError::Died),
        }
    }

    /// The snapshots of a project that have not the blocks of the newest one of their major yet, newest first.
    pub fn pending(
        &self,
        project: &ProjectName,
        snapshots: &[Arc<SnapshotRecord>],
    ) -> Vec<Snapshots> {
        let mut own: Vec<_> = snapshots
            .iter()
            .filter(|one| one.project == *project)
            .collect();
        own.sort_by(|one, other| {
            other
                .taken_at
                .cmp(&one.taken_at)
                .then_with(|| other.id.cmp(&one.id))
        });
        let mut pending = Vec::new();
        for (number, older) in own.iter().enumerate() {
            let mut newer = own.iter().take(number);
            let Some(newest) = newer.find(|one| one.postgres_major == older.postgres_major) else {
                continue;
            };
            let record = self.record(older);
            let snapshots = Snapshots {
                older: older.id.clone(),
                newer: newest.id.clone(),
                newer_imported_at: newest.imported_at,
            };
            let is_done = record
                .is_some_and(|record| record.is_of(&snapshots) && record.finished_at.is_some());
            if !is_done {
                pending.push(snapshots);
            }
        }
        pending
    }
}

fn pause_file(layout: &Layout) -> PathBuf {
    layout.state().join("dedup-paused")
}

/// Gives the calling thread the lowest priority for processor and disk.
pub(crate) fn yield_to_others() {
    // ioprio_set(2): IOPRIO_WHO_PROCESS, the calling thread, IOPRIO_CLASS_IDLE.
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: neither call has memory arguments, and 0 is the calling thread.
    let set = unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE)
    };
    if set != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "a de-duplication keeps the priority of its reads");
    }
}
