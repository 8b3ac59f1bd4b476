//! Keeps clones of the newest snapshot of each project ready, by the rule of [`prewarm`].

use std::collections::BTreeMap;
use std::time::Duration;

use multidb_actors::ports::Freshness;
use multidb_actors::request::{SnapshotSelector, Source};
use multidb_actors::snapshot_index::Choose;
use multidb_store::{ProjectName, error_chain};

use super::model::PrewarmedView;
use super::{Control, ControlError};
use crate::costs::{Priority, on_thread};
use crate::prewarm::{self, Plan, Wanted};

/// How often the newest snapshots and the disk are looked at. A clone that is taken is replaced at once.
const INTERVAL: Duration = Duration::from_secs(5);

impl Control {
    /// Keeps clones ready, until it is dropped.
    pub async fn run_prewarming(&self) {
        let projects = self.prewarming_projects();
        if projects.is_empty() {
            return std::future::pending().await;
        }
        let mut logged = None;
        loop {
            let goes_on = match self.prewarm_once(&projects).await {
                Ok(goes_on) => {
                    logged = None;
                    goes_on
                }
                Err(error) => {
                    let error = error_chain(&error);
                    if logged.as_ref() != Some(&error) {
                        tracing::warn!(
                            error,
                            "no clone is kept ready for now, new instances are cloned when they are asked for"
                        );
                        logged = Some(error);
                    }
                    false
                }
            };
            if !goes_on {
                tokio::select! {
                    () = self.deps.cloner.prewarmed_taken() => {}
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            }
        }
    }

    /// The projects with clones that are kept ready, and their number.
    fn prewarming_projects(&self) -> Vec<(ProjectName, usize)> {
        let projects = self.deps.config.projects.iter();
        let projects = projects.map(|(name, project)| (name.clone(), project.prewarm));
        projects.filter(|(_, count)| *count > 0).collect()
    }

    /// Deletes the clones that are not wanted, makes one clone, and returns whether to look at once for
    /// the next one.
    async fn prewarm_once(&self, projects: &[(ProjectName, usize)]) -> Result<bool, ControlError> {
        let deps = &self.deps;
        let mut wanted = Vec::new();
        for (project, count) in projects {
            let choose = Choose {
                project: project.clone(),
                source: Source::Snapshot(SnapshotSelector::Latest),
                freshness: Freshness::Local,
            };
            // A project may have no snapshot yet.
            if let Ok(newest) = deps.index.send(choose).await? {
                wanted.push(Wanted {
                    snapshot: newest.snapshot,
                    count: *count,
                });
            }
        }
        let usage = deps.cloner.disk_usage()?;
        let mark = deps.config.disk_high_water;
        let has_room = usage.free_bytes >= deps.config.disk_reserve_bytes
            && mark.is_none_or(|mark| usage.bytes_above(mark) == 0);
        let Plan { discarded, made } = prewarm::plan(&wanted, &deps.cloner.prewarmed(), has_room);
        if discarded.is_empty() && made.is_none() {
            return Ok(false);
        }
        let cloner = deps.cloner.clone();
        let done = on_thread(Priority::Lowest, move || {
            for clone in &discarded {
                cloner.discard_prewarmed(clone)?;
            }
            made.map_or(Ok(()), |snapshot| cloner.prewarm(&snapshot))
        });
        done.await.ok_or(ControlError::ActorEnded)??;
        Ok(true)
    }

    /// The clones that are kept ready, of each project that has any.
    pub(super) fn prewarmed_status(&self) -> BTreeMap<String, PrewarmedView> {
        let ready = self.deps.cloner.prewarmed();
        let view = |(project, wanted): (ProjectName, usize)| {
            let own = ready.iter().filter(|clone| clone.project == project);
            let shown = PrewarmedView {
                wanted,
                ready: own.clone().count(),
                snapshot: own.clone().next().map(|clone| clone.snapshot.clone()),
                exclusive_bytes: own.map(|clone| clone.exclusive_bytes).sum(),
            };
            (project.to_string(), shown)
        };
        let projects = self.prewarming_projects().into_iter();
        projects.map(view).collect()
    }
}
