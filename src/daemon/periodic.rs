//! What the daemon does by itself from time to time.

use std::time::Duration;

use multidb_actors::critical::CriticalParts;
use tokio::task::JoinHandle;

use crate::control::Control;

/// A snapshot may have been freed by the end of a pin or of an instance.
const KEEP_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The tasks. Each is a part without which the daemon would only seem to work.
#[must_use]
pub(super) struct PeriodicTasks(Vec<JoinHandle<()>>);

impl PeriodicTasks {
    /// Starts them. The instances are known by now.
    pub(super) fn start(control: &Control, critical: &CriticalParts) -> Self {
        let control = || control.clone();
        Self(vec![
            begin(critical, "the schedules of refreshes", {
                let control = control();
                async move { control.run_schedules().await }
            }),
            begin(critical, "the publishing of instances", {
                let control = control();
                async move { control.run_publishing().await }
            }),
            begin(critical, "the deletion of snapshots beyond keep", {
                let control = control();
                async move { keep_daily(&control).await }
            }),
            begin(critical, "the room on the disk", {
                let control = control();
                async move { control.relieve_pressure().await }
            }),
            begin(critical, "the clones that are kept ready", {
                let control = control();
                async move { control.run_prewarming().await }
            }),
            begin(critical, "the limits of growth", {
                let control = control();
                async move { control.limit_growth().await }
            }),
            // Nothing depends on it, so that a defect in it ends nothing.
            actix_rt::spawn({
                let control = control();
                async move { control.run_notifications().await }
            }),
            // Once.
            actix_rt::spawn({
                let control = control();
                async move { control.warn_of_missing_extensions().await }
            }),
        ])
    }

    /// Ends them where they are, in a shutdown that has begun.
    pub(super) fn stop(self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn begin(
    critical: &CriticalParts,
    part: &'static str,
    task: impl Future<Output = ()> + 'static,
) -> JoinHandle<()> {
    actix_rt::spawn(critical.watch(part, task))
}

/// Deletes the snapshots beyond keep at start and each day.
async fn keep_daily(control: &Control) {
    let mut days = tokio::time::interval(KEEP_INTERVAL);
    loop {
        days.tick().await;
        control.keep_in_background().await;
    }
}
