//! All jobs of the daemon: the queue, the running ones and the history.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multidb_store::store::StoredJobs;
use multidb_store::{
    JobId, JobKind, JobRecord, JobState, ProjectName, SnapshotId, Store, StoreError,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::EndedJobs;

use super::run::{Cancel, Run};
use super::{JobContext, JobError, WorkError, history};

/// The jobs that run at once; a further one is queued. An import keeps a disk and two processors
/// busy.
pub(super) const RUNNING_MAX: usize = 4;
/// The jobs that wait for others to end; a further one is refused.
pub(super) const QUEUED_MAX: usize = 100;
/// The ended jobs that are kept; older ones are forgotten.
pub(super) const HISTORY_MAX: usize = 100;
/// The time that all jobs together have to clean up when the daemon stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The jobs of the daemon. Clones share them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// A job to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The kind of work; no two refreshes of a project run at once.
    pub kind: JobKind,
    /// The project that it works for.
    pub project: ProjectName,
    /// The snapshot that it makes; no two jobs make the same one at once.
    pub snapshot: Option<SnapshotId>,
}

/// Everything that the registry shares with its running jobs.
pub(super) struct Shared {
    pub(super) store: Store,
    /// Counts the jobs that have ended.
    pub(super) ended: Arc<EndedJobs>,
    /// Runs the jobs, apart from the threads of the callers.
    runtime: Handle,
    jobs: Mutex<Jobs>,
    permits: Permits,
    tasks: TaskTracker,
    /// Fires when the daemon stops; each job's token is a child of it.
    stopping: CancellationToken,
}

/// A permit for each job that runs; waiters get them in the order in which they came.
struct Permits {
    work: Arc<Semaphore>,
    /// Of work that yields to everything else, and may be paused for days.
    background: Arc<Semaphore>,
}

/// Guarded by one lock, which is never held across an await.
struct Jobs {
    next: JobId,
    all: BTreeMap<JobId, Job>,
}

struct Job {
    status: watch::Sender<JobRecord>,
    cancel: Cancel,
}

impl Registry {
    /// Takes the stored history; jobs will run on this runtime. Blocks while it writes.
    ///
    /// A job that had not ended has failed, since its work ended with the last daemon, unless its snapshot is
    /// one of these.
    pub fn open(
        store: Store,
        stored: Result<StoredJobs, StoreError>,
        runtime: Handle,
        snapshots: &HashSet<SnapshotId>,
        ended: Arc<EndedJobs>,
    ) -> Self {
        let stopping = CancellationToken::new();
        let records = history::load(&store, stored, snapshots);
        let next = records.iter().map(|record| record.id).max();
        let mut jobs = Jobs {
            next: next.map_or(JobId::FIRST, JobId::next),
            all: BTreeMap::new(),
        };
        for record in records {
            let job = Job::new(record.clone(), &stopping);
            jobs.all.insert(record.id, job);
        }
        let forgotten = jobs.forget_oldest();
        let shared = Shared {
            store,
            ended,
            runtime,
            jobs: Mutex::new(jobs),
            permits: Permits {
                work: Arc::new(Semaphore::new(RUNNING_MAX)),
                background: Arc::new(Semaphore::new(1)),
            },
            tasks: TaskTracker::new(),
            stopping,
        };
        shared.remove(&forgotten);
        let shared = Arc::new(shared);
        Self { shared }
    }

    /// Starts a job, and returns when it is recorded. It is queued while [`RUNNING_MAX`] others run.
    ///
    /// The job goes on where the future is dropped.
    ///
    /// # Errors
    ///
    /// Another job makes the same snapshot, the queue is full, the daemon stops, or the record
    /// cannot be written.
    pub async fn start<F>(
        &self,
        new: NewJob,
        work: impl FnOnce(JobContext) -> F + Send + 'static,
    ) -> Result<JobRecord, JobError>
    where
        F: Future<Output = Result<(), WorkError>> + Send + 'static,
    {
        let (recorded, answer) = oneshot::channel();
        {
            let mut jobs = self.shared.lock();
            if self.shared.stopping.is_cancelled() {
                return Err(JobError::Stopping);
            }
            jobs.admit(&new)?;
            let run = jobs.add(new, &self.shared);
            // Under the lock, so that a stop waits for it or refuses it.
            let tasks = &self.shared.tasks;
            tasks.spawn_on(run.run(work, recorded), &self.shared.runtime);
        }
        answer.await.unwrap_or(Err(JobError::Stopping))
    }

    /// All jobs, by their numbers: the history, the running ones and the queue.
    pub fn list(&self) -> Vec<JobRecord> {
        let jobs = self.shared.lock();
        jobs.all.values().map(Job::record).collect()
    }

    /// One job.
    ///
    /// # Errors
    ///
    /// It does not exist.
    pub fn get(&self, id: JobId) -> Result<JobRecord, JobError> {
        self.shared.lock().find(id).map(Job::record)
    }

    /// The number of jobs that run.
    pub fn running(&self) -> usize {
        let jobs = self.shared.lock();
        jobs.count(|state| state == JobState::Running)
    }

    /// The number of jobs that wait for others to end.
    pub fn queued(&self) -> usize {
        let jobs = self.shared.lock();
        jobs.count(|state| state == JobState::Queued)
    }

    /// The job's status, now and whenever it changes. The last one is that of its end.
    ///
    /// # Errors
    ///
    /// The job does not exist.
    pub fn subscribe(&self, id: JobId) -> Result<watch::Receiver<JobRecord>, JobError> {
        let jobs = self.shared.lock();
        jobs.find(id).map(|job| job.status.subscribe())
    }

    /// Waits until the job has ended, and returns its last status.
    ///
    /// # Errors
    ///
    /// The job does not exist.
    pub async fn wait(&self, id: JobId) -> Result<JobRecord, JobError> {
        let status = self.subscribe(id)?;
        Ok(ended(status).await)
    }

    /// Cancels a job, and returns when nothing is left of it.
    ///
    /// # Errors
    ///
    /// The job does not exist or has ended. A job that ends by itself meanwhile has ended, too.
    pub async fn cancel(&self, id: JobId) -> Result<JobRecord, JobError> {
        let status = {
            let jobs = self.shared.lock();
            let job = jobs.find(id)?;
            let state = job.status.borrow().state;
            if state.is_ended() {
                return Err(JobError::Ended { id, state });
            }
            tracing::info!(job = %id, "job is cancelled");
            job.cancel.request();
            job.status.subscribe()
        };
        let last = ended(status).await;
        match last.state {
            JobState::Cancelled => Ok(last),
            state => Err(JobError::Ended { id, state }),
        }
    }

    /// Ends all jobs, records them as failed and refuses new ones. Returns when they have cleaned
    /// up, or after a minute; the next start then cleans up.
    pub async fn stop(&self) {
        {
            let _no_start_is_half_done = self.shared.lock();
            self.shared.stopping.cancel();
            self.shared.tasks.close();
        }
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.shared.tasks.wait());
        if ended.await.is_err() {
            tracing::error!("a job was not cleaned up in time, the next start cleans up after it");
        }
    }
}

#[cfg(test)]
impl Registry {
    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }
}

async fn ended(mut status: watch::Receiver<JobRecord>) -> JobRecord {
    // An error means that the job has left the history meanwhile, which it does after its end.
    let _ = status.wait_for(|record| record.state.is_ended()).await;
    status.borrow().clone()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everyone of the end of a job, whose record is written, and returns the jobs that have left
    /// the history for it.
    pub(super) fn publish_end(&self, record: JobRecord) -> Vec<JobId> {
        let mut jobs = self.lock();
        if let Some(job) = jobs.all.get(&record.id) {
            job.status.send_replace(record);
        }
        jobs.forget_oldest()
    }

    /// The permits for jobs of this kind.
    pub(super) fn permits(&self, kind: JobKind) -> Arc<Semaphore> {
        match kind {
            JobKind::Import | JobKind::Refresh => self.permits.work.clone(),
            JobKind::Dedup => self.permits.background.clone(),
        }
    }

    /// Drops a job that was never recorded.
    pub(super) fn drop_unrecorded(&self, id: JobId) {
        self.lock().all.remove(&id);
    }

    /// Removes jobs from the database. A record that cannot be removed here is removed at the next start.
    pub(super) fn remove(&self, forgotten: &[JobId]) {
        if forgotten.is_empty() {
            return;
        }
        if let Err(error) = self.store.remove_jobs(forgotten) {
            tracing::warn!(
                error = multidb_store::error_chain(&error),
                "old jobs cannot be removed from the history"
            );
        }
    }
}

impl Jobs {
    fn find(&self, id: JobId) -> Result<&Job, JobError> {
        self.all.get(&id).ok_or(JobError::NotFound { id })
    }

    fn count(&self, is_counted: impl Fn(JobState) -> bool) -> usize {
        let states = self.all.values().map(|job| job.status.borrow().state);
        states.filter(|state| is_counted(*state)).count()
    }

    fn admit(&self, new: &NewJob) -> Result<(), JobError> {
        let queued = self.count(|state| state == JobState::Queued);
        if queued >= QUEUED_MAX {
            return Err(JobError::QueueFull { limit: QUEUED_MAX });
        }
        for (id, job) in &self.all {
            let other = job.status.borrow();
            if other.state.is_ended() {
                continue;
            }
            let is_refresh = new.kind == JobKind::Refresh && other.kind == JobKind::Refresh;
            if is_refresh && other.project == new.project {
                let (id, project) = (*id, new.project.clone());
                return Err(JobError::ProjectBusy { id, project });
            }
            if let Some(snapshot) = &new.snapshot
                && other.snapshot.as_ref() == Some(snapshot)
            {
                let (id, snapshot) = (*id, snapshot.clone());
                return Err(JobError::SnapshotBusy { id, snapshot });
            }
        }
        Ok(())
    }

    fn add(&mut self, new: NewJob, shared: &Arc<Shared>) -> Run {
        let id = self.next;
        self.next = id.next();
        let record = JobRecord::queued(id, new.kind, new.project, new.snapshot);
        let job = Job::new(record, &shared.stopping);
        let run = Run {
            shared: shared.clone(),
            status: job.status.clone(),
            cancel: job.cancel.clone(),
        };
        self.all.insert(id, job);
        run
    }

    /// Forgets ended jobs beyond the limit, in the order of their ends. The newest number stays, since the next daemon
    /// counts on from it.
    fn forget_oldest(&mut self) -> Vec<JobId> {
        let newest = self.all.last_key_value().map(|(id, _)| *id);
        let mut ended: Vec<_> = self
            .all
            .iter()
            .filter_map(|(id, job)| {
                let record = job.status.borrow();
                let is_ended = record.state.is_ended();
                is_ended.then_some((record.ended_at, *id))
            })
            .collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(HISTORY_MAX);
        let oldest = ended.into_iter().map(|(_, id)| id);
        let forgotten: Vec<JobId> = oldest
            .filter(|id| Some(*id) != newest)
            .take(surplus)
            .collect();
        for id in &forgotten {
            self.all.remove(id);
        }
        forgotten
    }
}

impl Job {
    fn new(record: JobRecord, stopping: &CancellationToken) -> Self {
        Self {
            status: watch::Sender::new(record),
            cancel: Cancel::new(stopping),
        }
    }

    fn record(&self) -> JobRecord {
        self.status.borrow().clone()
    }
}
