//! The periodic tasks of the daemon.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use multidb_actors::critical::CriticalParts;
use tokio::task::JoinHandle;

use crate::control::Control;
use crate::memory;

/// A snapshot may have been freed by the end of a pin or of an instance.
const KEEP_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Memory freed after a start or a long answer is not held for longer.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(60);

type Task = LocalBoxFuture<'static, ()>;

/// The tasks. Each is a part without which the daemon would only seem to work.
#[must_use]
pub(super) struct PeriodicTasks(Vec<JoinHandle<()>>);

impl PeriodicTasks {
    /// Starts them. The instances are known by now.
    pub(super) fn start(control: &Control, critical: &CriticalParts) -> Self {
        let critical = |part, task: Task| actix_rt::spawn(critical.watch(part, task));
        Self(vec![
            critical(
                "the schedules of refreshes",
                task(control, async |control| control.run_schedules().await),
            ),
            critical(
                "the publishing of instances",
                task(control, async |control| control.run_publishing().await),
            ),
            critical(
                "the deletion of snapshots beyond keep",
                task(control, async |control| keep_daily(&control).await),
            ),
            critical(
                "the room on the disk",
                task(control, async |control| control.relieve_pressure().await),
            ),
            critical(
                "the clones that are kept ready",
                task(control, async |control| control.run_prewarming().await),
            ),
            critical(
                "the limits of growth",
                task(control, async |control| control.limit_growth().await),
            ),
            // Nothing depends on it, so that a defect in it ends nothing.
            actix_rt::spawn(task(control, async |control| {
                control.run_notifications().await;
            })),
            actix_rt::spawn(give_memory_back()),
            // Once.
            actix_rt::spawn(task(control, async |control| {
                control.warn_of_missing_extensions().await;
            })),
        ])
    }

    /// Ends them where they are, in a shutdown that has begun.
    pub(super) fn stop(self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// A task that has the control for itself.
fn task(control: &Control, run: impl AsyncFnOnce(Control) + 'static) -> Task {
    let control = control.clone();
    Box::pin(async move { run(control).await })
}

async fn give_memory_back() {
    let mut minutes = tokio::time::interval(GIVE_BACK_INTERVAL);
    loop {
        minutes.tick().await;
        // It holds the allocator's locks for milliseconds where there is much.
        let _panicked = tokio::task::spawn_blocking(memory::give_back).await;
    }
}

/// Deletes the snapshots beyond keep at start and each day.
async fn keep_daily(control: &Control) {
    let mut days = tokio::time::interval(KEEP_INTERVAL);
    loop {
        days.tick().await;
        control.keep_in_background().await;
    }
}
