//! Refreshes by schedule: a look every few seconds at the due ones, and their status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use multidb_actors::observed_clock::Moment;
use multidb_actors::snapshot_index::ListSnapshots;
use multidb_store::{JobId, JobRecord, ProjectName, SnapshotId, error_chain};
use tokio::time::MissedTickBehavior;

use super::incoming::Folders;
use crate::config::{Project, RefreshConfig};
use crate::control::access::Caller;
use crate::control::jobs::error_view;
use crate::control::model::RefreshView;
use crate::control::{Control, ControlError};
use crate::jobs::JobError;
use crate::refresh::{Due, History, Plan};

/// How often the schedules are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The plans of the projects that have a schedule.
#[derive(Debug, Default)]
pub(in crate::control) struct Schedules(Mutex<BTreeMap<ProjectName, Planned>>);

#[derive(Debug)]
struct Planned {
    plan: Plan,
    next_at: Option<Timestamp>,
    /// The last failure when the log was last written.
    logged: Option<JobId>,
}

impl Planned {
    /// Whether a refresh is due now, by the project's history.
    fn look(&mut self, project: &ProjectName, history: &History, now: Moment) -> Due {
        let due = self.plan.look(history, now);
        self.next_at = match due {
            Due::At(at) => Some(at),
            Due::Now { .. } => Some(now.wall),
            Due::Running => self.plan.next_after(now.wall),
            Due::Never => None,
        };
        let failed = history.failed.first();
        let last = failed.map(|job| job.id);
        if let Some(job) = failed
            && last != self.logged
        {
            let error = job.failure.as_ref().map(|failure| &failure.message);
            let next_at = self.next_at.map(tracing::field::display);
            tracing::warn!(
                %project, job = %job.id, error, failures = history.failed.len(), next_at,
                "a refresh failed, and is tried again; the snapshots stay as they are"
            );
        }
        self.logged = last;
        due
    }
}

impl Control {
    /// Begins refreshes when they are due, for as long as it is polled.
    pub async fn run_schedules(&self) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut folders = Folders::default();
        loop {
            looks.tick().await;
            if let Err(error) = self.look_at_folders(&mut folders).await {
                tracing::debug!(
                    error = error_chain(&error),
                    "the folders were not looked at"
                );
            }
            if let Err(error) = self.look_at_schedules().await {
                tracing::debug!(
                    error = error_chain(&error),
                    "the schedules were not looked at"
                );
            }
        }
    }

    async fn look_at_schedules(&self) -> Result<(), ControlError> {
        let projects = self.deps.config.projects.iter();
        let scheduled: Vec<_> = projects.filter_map(scheduled).collect();
        if scheduled.is_empty() {
            return Ok(());
        }
        let (jobs, snapshots) = self.refresh_records().await?;
        for (project, plan) in scheduled {
            let history = History::of(project, &jobs, &snapshots);
            let due = self.with_planned(project, plan, &history, |planned| {
                planned.look(project, &history, self.deps.clock.now())
            });
            let Due::Now { attempt } = due else { continue };
            match self.start_refresh(&Caller::Administrator, project).await {
                Ok(job) => {
                    tracing::info!(%project, job = job.id, attempt, "a scheduled refresh begins");
                }
                // The next look sees it, or there is none.
                Err(ControlError::Job(JobError::ProjectBusy { .. } | JobError::Stopping)) => {}
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::warn!(%project, attempt, error, "a scheduled refresh cannot begin, and is tried again");
                    self.with_planned(project, plan, &history, |planned| {
                        let now = self.deps.clock.now();
                        planned.plan.failed_to_begin(&history, now);
                    });
                }
            }
        }
        Ok(())
    }

    fn with_planned<T>(
        &self,
        project: &ProjectName,
        plan: impl Fn() -> Plan,
        history: &History,
        run: impl FnOnce(&mut Planned) -> T,
    ) -> T {
        let mut all = self
            .schedules
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let planned = all.entry(project.clone()).or_insert_with(|| Planned {
            plan: plan(),
            next_at: None,
            // The daemon before has logged it.
            logged: history.failed.first().map(|job| job.id),
        });
        run(planned)
    }

    async fn refresh_records(&self) -> Result<(Vec<JobRecord>, Vec<SnapshotId>), ControlError> {
        let snapshots = self.deps.index.send(ListSnapshots).await?;
        let ids = snapshots.iter().map(|snapshot| snapshot.id.clone());
        Ok((self.deps.jobs.list(), ids.collect()))
    }

    /// The refreshes of the projects that have a source.
    pub(in crate::control) async fn refresh_status(
        &self,
    ) -> Result<BTreeMap<String, RefreshView>, ControlError> {
        let (jobs, ids) = self.refresh_records().await?;
        let snapshots = self.deps.index.send(ListSnapshots).await?;
        let now = self.deps.clock.now();
        let mut status = BTreeMap::new();
        for (name, project) in &self.deps.config.projects {
            let Some(refresh) = project.refresh.as_ref().filter(|it| it.source.is_some()) else {
                continue;
            };
            let history = History::of(name, &jobs, &ids);
            let own = snapshots
                .iter()
                .filter(|snapshot| snapshot.project == *name);
            let next_at = scheduled((name, project)).and_then(|(name, plan)| {
                self.with_planned(name, plan, &history, |planned| {
                    planned.look(name, &history, now);
                    planned.next_at
                })
            });
            let failure = history.failed.first().and_then(|job| job.failure.as_ref());
            let view = RefreshView {
                last_success_at: history.success_ended,
                last_error: failure.map(error_view),
                next_at,
                failures: history.failed.len(),
                newest_taken_at: own.map(|snapshot| snapshot.taken_at).max(),
                period_seconds: period_seconds(refresh, now.wall),
            };
            status.insert(name.to_string(), view);
        }
        Ok(status)
    }
}

/// A project with a schedule, and its plan.
fn scheduled<'a>(
    (name, project): (&'a ProjectName, &'a Project),
) -> Option<(&'a ProjectName, impl Fn() -> Plan + Copy + 'a)> {
    let refresh = project.refresh.as_ref()?;
    let schedule = refresh.schedule.as_ref()?;
    let plan = || Plan::new(schedule.clone(), refresh.timezone.clone());
    Some((name, plan))
}

fn period_seconds(refresh: &RefreshConfig, now: Timestamp) -> Option<u64> {
    let period = refresh.schedule.as_ref()?.period(now, &refresh.timezone)?;
    u64::try_from(period.as_secs()).ok()
}
