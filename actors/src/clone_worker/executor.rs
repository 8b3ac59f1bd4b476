//! The threads of the CloneWorker, and the trait by which a simulation replaces them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::critical::CriticalParts;
use crate::metrics::{Metrics, label};

/// Deletions at once. The file system's log limits them more than processors do.
const DELETIONS_MAX: usize = 2;
/// Manifests written at once. Each waits for the disk most of the time.
const MANIFESTS_MAX: usize = 2;
/// Running instances cloned at once. Each waits for a checkpoint of its server, which is a stranger's.
const RUNNING_CLONES_MAX: usize = 4;
/// How nice the threads are to which clients leave work. Sessions and servers of the machine go first.
const BACKGROUND_NICE: i32 = 10;
/// How nice the threads are that clone: new instances yield to sessions, and deletions yield to new instances.
const CLONES_NICE: i32 = 5;

/// Work that blocks.
pub(super) type Work = Box<dyn FnOnce() + Send>;

label! {
    /// A kind of work. No kind waits for another.
    Lane as "kind" {
        /// Records, which take a moment and mostly have a waiter. One at a time, in order.
        Records = "records",
        /// Manifests.
        Manifests = "manifests",
        /// Clones.
        Clones = "clones",
        /// Clones of running instances, which wait for their servers.
        RunningClones = "running_clones",
        /// Deletions, which take long and are waited for by administrators only.
        Deletions = "deletions",
        /// Measurements, which have no waiter.
        Measurements = "measurements",
    }
}

/// Runs the blocking steps of the CloneWorker.
pub trait Executor: Send + Sync + 'static {
    /// Runs the work, later and elsewhere. Work of one lane begins in the order of the calls; in
    /// [`Lane::Records`] each also ends before the next begins.
    fn run(&self, lane: Lane, work: Box<dyn FnOnce() + Send>);
}

/// Threads for each lane.
pub struct WorkerThreads {
    records: Sender<Work>,
    manifests: Sender<Work>,
    clones: Sender<Work>,
    running_clones: Sender<Work>,
    deletions: Sender<Work>,
    measurements: Sender<Work>,
    metrics: Arc<Metrics>,
}

impl WorkerThreads {
    /// Starts the threads. They end when this is dropped, and none of them may end before.
    ///
    /// # Panics
    ///
    /// The system has no threads left. Nothing has been acknowledged yet.
    pub fn start(critical: &CriticalParts, metrics: Arc<Metrics>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            records: start(critical, "records", 1, 0),
            manifests: start(critical, "manifests", MANIFESTS_MAX, 0),
            // A clone of a cached directory is bound by processors.
            clones: start(critical, "clones", processors, CLONES_NICE),
            running_clones: start(critical, "running-clones", RUNNING_CLONES_MAX, CLONES_NICE),
            deletions: start(critical, "deletions", DELETIONS_MAX, BACKGROUND_NICE),
            measurements: start(critical, "measurements", 1, BACKGROUND_NICE),
            metrics,
        }
    }
}

impl Executor for WorkerThreads {
    fn run(&self, lane: Lane, work: Work) {
        let waiting = self.metrics.waiting_work.enter(lane);
        let work: Work = Box::new(move || {
            drop(waiting);
            work();
        });
        let queue = match lane {
            Lane::Records => &self.records,
            Lane::Manifests => &self.manifests,
            Lane::Clones => &self.clones,
            Lane::RunningClones => &self.running_clones,
            Lane::Deletions => &self.deletions,
            Lane::Measurements => &self.measurements,
        };
        // Work that is dropped answers that the threads have ended.
        if queue.send(work).is_err() {
            tracing::error!(?lane, "the threads of the clone worker have ended");
        }
    }
}

/// Starts threads that share one queue.
fn start(critical: &CriticalParts, name: &'static str, count: usize, nice: i32) -> Sender<Work> {
    let (queue, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..count {
        let (receiver, guard) = (receiver.clone(), critical.guard(name));
        let thread = std::thread::Builder::new().name(name.to_owned());
        let started = thread.spawn(move || {
            let _guard = guard;
            set_nice(nice);
            while let Some(work) = next(&receiver) {
                // The caller has been answered by the drop of its reply, or by the work itself.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("work of the clone worker panicked, report this defect");
                }
            }
        });
        started.expect("the system has threads");
    }
    queue
}

/// Waits for work; `None` at the end. The lock is held by the one idle thread that waits for the queue.
fn next(receiver: &Mutex<Receiver<Work>>) -> Option<Work> {
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    receiver.recv().ok()
}

/// Lowers the priority of this thread.
fn set_nice(nice: i32) {
    if nice == 0 {
        return;
    }
    // SAFETY: setpriority has no memory arguments. On Linux a `who` of 0 is the calling thread alone.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if set != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, nice, "a thread keeps its priority");
    }
}
