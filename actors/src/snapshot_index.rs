//! SnapshotIndex: the snapshots, and the choice of one for a new instance.
//!
//! A snapshot is compatible with a revision if the revision defines every migration applied in it.
//! Decisions are cached by the object id of the listing, so that a thousand commits with the same
//! listing cost one comparison.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use jiff::Timestamp;
use multidb_store::{ProjectName, SnapshotId, SnapshotRecord};
use tokio::time::Instant;

use crate::ports::{Freshness, Revision, RevisionError, RevisionSource, Unconfirmed};
use crate::request::{SnapshotSelector, Source};

pub mod cause;
pub mod decision;
mod error;
#[cfg(test)]
mod tests;

pub use self::error::ChooseError;

use self::decision::{Decision, Ignored};

/// The most cached decisions. One has a few kilobytes if migrations are missing.
const DECISIONS_MAX: usize = 1024;
/// The most cached revisions.
const RESOLVED_MAX: usize = 1024;
/// How long a cached revision is used for a notice. A new instance always resolves again.
const RESOLVED_LIFETIME: Duration = Duration::from_secs(1);

/// The actor that owns the index of snapshots.
pub struct SnapshotIndex {
    snapshots: BTreeMap<SnapshotId, Arc<SnapshotRecord>>,
    decisions: HashMap<(ProjectName, String), Arc<Decision>>,
    /// Revisions by project and name, as they were last resolved.
    resolved: HashMap<(ProjectName, String), (Instant, Revision)>,
    /// Grows with each change of the snapshots: a decision of an older generation is not cached.
    generation: u64,
    source: Arc<dyn RevisionSource>,
    ignored: HashMap<ProjectName, Arc<Ignored>>,
}

impl SnapshotIndex {
    /// An index of these snapshots. `ignored` has the migrations of each project that are not compared.
    pub fn new(
        snapshots: Vec<SnapshotRecord>,
        source: Arc<dyn RevisionSource>,
        ignored: HashMap<ProjectName, Ignored>,
    ) -> Self {
        let ignored = ignored.into_iter();
        let snapshots = snapshots
            .into_iter()
            .map(|snapshot| (snapshot.id.clone(), Arc::new(snapshot)))
            .collect();
        Self {
            snapshots,
            decisions: HashMap::new(),
            resolved: HashMap::new(),
            generation: 0,
            source,
            ignored: ignored
                .map(|(project, ignored)| (project, Arc::new(ignored)))
                .collect(),
        }
    }

    /// The project's snapshots, newest first; of two taken at the same time, the later import first.
    fn of_project(&self, project: &ProjectName) -> Vec<Arc<SnapshotRecord>> {
        let mut of_project: Vec<_> = self
            .snapshots
            .values()
            .filter(|snapshot| snapshot.project == *project)
            .cloned()
            .collect();
        of_project.sort_by_key(|snapshot| {
            std::cmp::Reverse((snapshot.taken_at, snapshot.imported_at, snapshot.id.clone()))
        });
        of_project
    }

    /// The project's snapshots of data as its source had it, newest first: no derived ones unless there are no others.
    fn fresh_ones(&self, project: &ProjectName) -> Vec<Arc<SnapshotRecord>> {
        let mut of_project = self.of_project(project);
        if of_project.iter().any(|snapshot| !snapshot.is_derived()) {
            of_project.retain(|snapshot| !snapshot.is_derived());
        }
        of_project
    }

    fn changed(&mut self) {
        self.generation += 1;
        self.decisions.clear();
    }

    fn by_selector(
        &self,
        project: &ProjectName,
        selector: &SnapshotSelector,
    ) -> Result<Choice, ChooseError> {
        let found = match selector {
            SnapshotSelector::Latest => self.fresh_ones(project).into_iter().next(),
            SnapshotSelector::Id(id) => match self.snapshots.get(id) {
                Some(snapshot) if snapshot.project == *project => Some(snapshot.clone()),
                _ => {
                    return Err(ChooseError::NoSuchSnapshot {
                        project: project.clone(),
                        snapshot: id.clone(),
                    });
                }
            },
        };
        let snapshot = found.ok_or_else(|| ChooseError::NoSnapshots {
            project: project.clone(),
        })?;
        Ok(Choice::without_revision(snapshot))
    }

    fn by_time(&self, project: &ProjectName, at: Timestamp) -> Result<Choice, ChooseError> {
        let of_project = self.fresh_ones(project);
        let oldest = of_project.last().map(|snapshot| snapshot.taken_at);
        let Some(oldest) = oldest else {
            return Err(ChooseError::NoSnapshots {
                project: project.clone(),
            });
        };
        of_project
            .into_iter()
            .find(|snapshot| snapshot.taken_at <= at)
            .map(Choice::without_revision)
            .ok_or_else(|| ChooseError::NoSnapshotAsOf {
                project: project.clone(),
                time: at,
                oldest,
            })
    }

    /// Resolves a name. A local lookup may come from the cache.
    fn resolve(
        &self,
        project: &ProjectName,
        gitref: String,
        freshness: Freshness,
    ) -> ResponseActFuture<Self, Result<Revision, RevisionError>> {
        let key = (project.clone(), gitref);
        if freshness == Freshness::Local
            && let Some((at, revision)) = self.resolved.get(&key)
            && at.elapsed() < RESOLVED_LIFETIME
        {
            return Box::pin(fut::ready(Ok(revision.clone())));
        }
        let source = self.source.clone();
        let resolved = async move {
            let revision = source.resolve(&key.0, &key.1, freshness).await?;
            Ok((key, revision))
        };
        Box::pin(resolved.into_actor(self).map(|result, index, _| {
            let (key, revision): (_, Revision) = result?;
            if index.resolved.len() >= RESOLVED_MAX {
                index.resolved.clear();
            }
            let resolved = (Instant::now(), revision.clone());
            index.resolved.insert(key, resolved);
            Ok(revision)
        }))
    }

    /// The decision for a revision. Reads the listing only if the decision is not cached.
    fn decide(
        &self,
        project: ProjectName,
        gitref: String,
        freshness: Freshness,
    ) -> ResponseActFuture<Self, Result<(Revision, Arc<Decision>), ChooseError>> {
        let source = self.source.clone();
        let resolved = self.resolve(&project, gitref, freshness);
        let decided = resolved.then(move |revision, index, _| {
            let cached = revision.as_ref().ok().and_then(|revision| {
                let key = (project.clone(), revision.listing.clone());
                index.decisions.get(&key).cloned()
            });
            let snapshots = index.of_project(&project);
            let generation = index.generation;
            let ignored = index.ignored.get(&project).cloned().unwrap_or_default();
            let decision = async move {
                let revision = revision?;
                if let Some(decision) = cached {
                    return Ok((project, revision, decision));
                }
                let defined = source
                    .defined_migrations(&project, &revision.listing)
                    .await?;
                let decision = Arc::new(Decision::new(&snapshots, &defined, &ignored));
                Ok((project, revision, decision))
            };
            decision
                .into_actor(index)
                .map(move |result: Result<_, RevisionError>, index, _| {
                    let (project, revision, decision) = result?;
                    if index.generation == generation {
                        index.cache(project, &revision, &decision);
                    }
                    Ok((revision, decision))
                })
        });
        Box::pin(decided)
    }

    fn cache(&mut self, project: ProjectName, revision: &Revision, decision: &Arc<Decision>) {
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.clear();
        }
        let key = (project, revision.listing.clone());
        self.decisions.insert(key, decision.clone());
    }
}

impl Actor for SnapshotIndex {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
    }
}

/// The snapshot for a new instance.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The snapshot.
    pub snapshot: Arc<SnapshotRecord>,
    /// The commit of the revision, if it was chosen by revision.
    pub commit: Option<String>,
    /// Set where the revision may have moved, since the remote does not answer.
    pub unconfirmed: Option<Unconfirmed>,
    /// How long the remote was asked, if it was.
    pub fetch: Option<Duration>,
}

impl Choice {
    fn without_revision(snapshot: Arc<SnapshotRecord>) -> Self {
        Self {
            snapshot,
            commit: None,
            unconfirmed: None,
            fetch: None,
        }
    }
}

/// Chooses a snapshot of the project.
#[derive(Message)]
#[rtype(result = "Result<Choice, ChooseError>")]
pub struct Choose {
    /// The project.
    pub project: ProjectName,
    /// The requested source.
    pub source: Source,
    /// Whether the remote may be fetched from.
    pub freshness: Freshness,
}

impl Handler<Choose> for SnapshotIndex {
    type Result = ResponseActFuture<Self, Result<Choice, ChooseError>>;

    fn handle(&mut self, message: Choose, _: &mut Self::Context) -> Self::Result {
        let Choose {
            project,
            source,
            freshness,
        } = message;
        let gitref = match source {
            Source::Snapshot(selector) => {
                return Box::pin(fut::ready(self.by_selector(&project, &selector)));
            }
            Source::AsOf(at) => return Box::pin(fut::ready(self.by_time(&project, at))),
            Source::GitRef(gitref) => gitref,
        };
        let decided = self.decide(project.clone(), gitref.clone(), freshness);
        Box::pin(decided.map(move |result, _, _| {
            let (revision, decision) = result?;
            match decision.chosen() {
                Some(snapshot) => Ok(Choice {
                    snapshot,
                    commit: Some(revision.commit),
                    unconfirmed: revision.unconfirmed,
                    fetch: revision.fetch,
                }),
                None => Err(match decision.nearest_miss() {
                    Some(nearest) => ChooseError::NoCompatibleSnapshot {
                        project,
                        gitref,
                        nearest,
                    },
                    None => ChooseError::NoSnapshots { project },
                }),
            }
        }))
    }
}

/// The decision for a revision, snapshot by snapshot.
#[derive(Message)]
#[rtype(result = "Result<(Revision, Arc<Decision>), ChooseError>")]
pub struct Explain {
    /// The project.
    pub project: ProjectName,
    /// The revision.
    pub gitref: String,
}

impl Handler<Explain> for SnapshotIndex {
    type Result = ResponseActFuture<Self, Result<(Revision, Arc<Decision>), ChooseError>>;

    fn handle(&mut self, message: Explain, _: &mut Self::Context) -> Self::Result {
        self.decide(message.project, message.gitref, Freshness::Fetch)
    }
}

/// All snapshots, ordered by id.
#[derive(Message)]
#[rtype(result = "Vec<Arc<SnapshotRecord>>")]
pub struct ListSnapshots;

impl Handler<ListSnapshots> for SnapshotIndex {
    type Result = MessageResult<ListSnapshots>;

    fn handle(&mut self, _: ListSnapshots, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.snapshots.values().cloned().collect())
    }
}

/// Adds an imported snapshot.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AddSnapshot(pub SnapshotRecord);

impl Handler<AddSnapshot> for SnapshotIndex {
    type Result = ();

    fn handle(&mut self, AddSnapshot(snapshot): AddSnapshot, _: &mut Self::Context) {
        self.snapshots
            .insert(snapshot.id.clone(), Arc::new(snapshot));
        self.changed();
    }
}

/// Replaces the record of a snapshot, unless it was removed. Returns whether it was there.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct UpdateSnapshot(pub SnapshotRecord);

impl Handler<UpdateSnapshot> for SnapshotIndex {
    type Result = bool;

    fn handle(&mut self, UpdateSnapshot(snapshot): UpdateSnapshot, _: &mut Self::Context) -> bool {
        let Some(known) = self.snapshots.get_mut(&snapshot.id) else {
            return false;
        };
        *known = Arc::new(snapshot);
        self.changed();
        true
    }
}

/// Removes a snapshot before its deletion. Returns whether it existed. Sent by the Supervisor alone, which
/// knows the instances made from it.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct ForgetSnapshot(pub SnapshotId);

impl Handler<ForgetSnapshot> for SnapshotIndex {
    type Result = bool;

    fn handle(&mut self, ForgetSnapshot(id): ForgetSnapshot, _: &mut Self::Context) -> bool {
        let existed = self.snapshots.remove(&id).is_some();
        self.changed();
        existed
    }
}
