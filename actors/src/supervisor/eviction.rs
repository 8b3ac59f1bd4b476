//! Frees a slot for an instance that waits for one.

use super::*;
use crate::instance::SlotWanted;

impl Supervisor {
    /// Stops the least recently used instance without sessions whose residency is over, unless enough are stopping.
    pub(super) fn free_slot(&self) {
        if self.table.count_releasing() >= self.slots.wanted() {
            return;
        }
        let evictable = self.table.evictable(tokio::time::Instant::now());
        for name in evictable {
            let Some(entry) = self.actors.get(&name) else {
                continue;
            };
            match entry.addr.try_send(SlotWanted) {
                Ok(()) => return,
                // It is busy, or its actor has ended and holds a row until it is rebuilt.
                Err(error) => {
                    tracing::debug!(instance = %name, %error, "an instance did not take a request for its slot");
                }
            }
        }
    }
}
