//! The measured sizes of clones. A measurement walks all files, so it runs behind all other work, and its askers get
//! the last result after a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multidb_store::InstanceUid;
use tokio::sync::watch;

use super::{Executor, Lane};
use crate::ports::Cloner;

/// The longest time to wait for a new measurement: enough for a directory of 1,684 files on an idle machine, which
/// takes 20 ms.
const MEASURE_TIMEOUT: Duration = Duration::from_millis(50);

/// The sizes of the clones that were asked for.
#[derive(Clone, Default)]
pub(super) struct Measurements(Arc<Mutex<HashMap<InstanceUid, Measurement>>>);

#[derive(Default)]
struct Measurement {
    /// The last result.
    bytes: Option<u64>,
    /// The measurement in progress; its sender is dropped at the end.
    running: Option<watch::Receiver<()>>,
}

impl Measurements {
    /// Begins a measurement, unless one is in progress. The future ends with its result, or after
    /// [`MEASURE_TIMEOUT`] with that of the last one.
    pub(super) fn measure(
        &self,
        uid: InstanceUid,
        cloner: Arc<dyn Cloner>,
        executor: &dyn Executor,
    ) -> impl Future<Output = Option<u64>> + use<> {
        let mut running = self.running(uid, cloner, executor);
        let measurements = self.clone();
        async move {
            // The sender sends nothing: it is dropped.
            let ended = running.changed();
            let _elapsed = tokio::time::timeout(MEASURE_TIMEOUT, ended).await;
            measurements.lock().get(&uid).and_then(|last| last.bytes)
        }
    }

    fn running(
        &self,
        uid: InstanceUid,
        cloner: Arc<dyn Cloner>,
        executor: &dyn Executor,
    ) -> watch::Receiver<()> {
        let mut all = self.lock();
        let measurement = all.entry(uid).or_default();
        if let Some(running) = &measurement.running
            && running.has_changed().is_ok()
        {
            return running.clone();
        }
        let (ended, running) = watch::channel(());
        measurement.running = Some(running.clone());
        drop(all);
        let measurements = self.clone();
        let work = move || {
            match cloner.exclusive_bytes(uid) {
                Ok(bytes) => measurements.note(uid, bytes),
                // Files come and go under a running Postgres.
                Err(error) => tracing::debug!(%uid, %error, "an instance was not measured"),
            }
            drop(ended);
        };
        executor.run(Lane::Measurements, Box::new(work));
        running
    }

    /// Forgets a clone that is deleted.
    pub(super) fn forget(&self, uid: InstanceUid) {
        self.lock().remove(&uid);
    }

    /// Keeps a result, unless the clone was deleted meanwhile.
    fn note(&self, uid: InstanceUid, bytes: u64) {
        if let Some(measurement) = self.lock().get_mut(&uid) {
            measurement.bytes = Some(bytes);
        }
    }

    /// A panic while the lock is held leaves the map consistent, since each change is one call.
    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceUid, Measurement>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
