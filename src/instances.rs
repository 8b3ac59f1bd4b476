//! All instances, a page at a time, so that clients do not wait behind a long list.

use actix::prelude::*;
use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance_table::InstanceFilter;
use multidb_actors::supervisor::{ListInstances, Supervisor};

/// The instances of one page.
const PAGE_LENGTH: usize = 200;

/// The pages, by name. An instance that is made or renamed meanwhile may be on none of them.
pub(crate) struct Pages {
    supervisor: Addr<Supervisor>,
    /// The next page; `None` behind the last one.
    next: Option<InstanceFilter>,
}

impl Pages {
    /// Those of all instances that the filter lets through.
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
