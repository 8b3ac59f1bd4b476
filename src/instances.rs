//! All instances, a page at a time, so that clients do not wait behind a long list; or as a stream of the ones that
//! change.

use std::collections::BTreeMap;

use actix::prelude::*;
use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance_table::{InstanceChanges, InstanceFilter};
use multidb_actors::supervisor::{FollowInstances, ListInstances, Supervisor};
use multidb_store::InstanceName;

/// The instances of one page.
const PAGE_LENGTH: usize = 200;

/// The pages, by name. An instance that is made or renamed meanwhile may be on none of them.
pub(crate) struct Pages {
    supervisor: Addr<Supervisor>,
    /// The next page; `None` behind the last one.
    next: Option<InstanceFilter>,
}

impl Pages {
    /// The pages of the instances that match the filter.
    pub(crate) fn new(supervisor: &Addr<Supervisor>, filter: InstanceFilter) -> Self {
        Self {
            supervisor: supervisor.clone(),
            next: Some(InstanceFilter {
                limit: Some(PAGE_LENGTH),
                ..filter
            }),
        }
    }

    /// The next page; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// The Supervisor has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<InstanceStatus>>, MailboxError> {
        let Some(filter) = self.next.take() else {
            return Ok(None);
        };
        let list = ListInstances {
            filter: filter.clone(),
        };
        let listed = self.supervisor.send(list).await?;
        if listed.len() == PAGE_LENGTH {
            let after = listed.last().map(|last| last.record.name.clone());
            self.next = Some(InstanceFilter { after, ..filter });
        }
        Ok(Some(listed))
    }
}

/// Tells which instances are wanted.
pub(crate) type IsWanted = fn(&InstanceStatus) -> bool;

/// The instances that are wanted, by name, kept up to date by the stream of changes.
pub(crate) struct Followed<Wanted> {
    changes: InstanceChanges,
    wanted: Wanted,
    by_name: BTreeMap<InstanceName, InstanceStatus>,
}

impl<Wanted: Fn(&InstanceStatus) -> bool> Followed<Wanted> {
    /// Follows the instances for which `wanted` returns true.
    ///
    /// # Errors
    ///
    /// The Supervisor has ended.
    pub(crate) async fn new(
        supervisor: &Addr<Supervisor>,
        wanted: Wanted,
    ) -> Result<Self, MailboxError> {
        Ok(Self {
            changes: supervisor.send(FollowInstances).await?,
            wanted,
            by_name: BTreeMap::new(),
        })
    }

    /// Brings it up to date. Returns the failures since it was called last, of all instances. Costs nothing where
    /// nothing has changed.
    pub(crate) fn update(&mut self) -> Vec<InstanceStatus> {
        let mut failures = Vec::new();
        for (name, change) in self.changes.take() {
            failures.extend(change.failures);
            match change.status.filter(&self.wanted) {
                Some(status) => self.by_name.insert(name, status),
                None => self.by_name.remove(&name),
            };
        }
        failures
    }

    /// The wanted instances, by name, as of the last update.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &InstanceStatus> {
        self.by_name.values()
    }

    /// Takes the first of them away until it changes again.
    pub(crate) fn pop(&mut self) -> Option<InstanceStatus> {
        self.by_name.pop_first().map(|(_, status)| status)
    }

    /// Puts one back.
    pub(crate) fn put_back(&mut self, status: InstanceStatus) {
        self.by_name.insert(status.record.name.clone(), status);
    }
}
