//! Snapshots that are being removed: a snapshot in use stays, and no instance is made from one that goes.
//!
//! The SnapshotIndex chooses, and its answer is under way while the Supervisor removes. So each choice has a
//! number, and a choice that was begun before the index had confirmed a removal does not count where it chose the
//! removed snapshot: it is made again.

use std::collections::HashMap;

use multidb_store::{InstanceName, SnapshotId};
use serde::Serialize;

/// Why a snapshot was not removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RemoveSnapshotError {
    /// There is none of this id.
    #[error("snapshot \"{snapshot}\" does not exist")]
    NoSuchSnapshot {
        /// The requested snapshot.
        snapshot: SnapshotId,
    },
    /// Instances were made from it.
    #[error("snapshot \"{snapshot}\" is in use")]
    SnapshotInUse {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The first of the instances, by name.
        instances: Vec<InstanceName>,
        /// The number of all of them.
        instances_total: usize,
    },
    /// The SnapshotIndex did not answer.
    #[error("the snapshot index did not answer")]
    IndexUnavailable,
}

/// The point in the order of removals at which a choice began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChoiceNumber(u64);

/// The removals that a choice in progress may not know of.
#[derive(Debug, Default)]
pub(super) struct Removals {
    confirmed: u64,
    removed: HashMap<SnapshotId, Removal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// The index may still choose the snapshot.
    Asked,
    /// Choices from this number on do not have the snapshot, unless it was imported again.
    ConfirmedAt(ChoiceNumber),
}

impl Removals {
    /// The number for a choice that begins now.
    pub(super) fn next_choice(&self) -> ChoiceNumber {
        ChoiceNumber(self.confirmed)
    }

    /// Notes that the index is asked to remove a snapshot.
    pub(super) fn begin(&mut self, id: SnapshotId) {
        self.removed.insert(id, Removal::Asked);
    }

    /// Notes that the index has removed it.
    pub(super) fn confirm(&mut self, id: SnapshotId) {
        self.confirmed += 1;
        let at = Removal::ConfirmedAt(ChoiceNumber(self.confirmed));
        self.removed.insert(id, at);
    }

    /// Whether a choice that began under this number may have chosen the snapshot before its removal.
    pub(super) fn outdates(&self, choice: ChoiceNumber, chosen: &SnapshotId) -> bool {
        match self.removed.get(chosen) {
            None => false,
            Some(Removal::Asked) => true,
            Some(Removal::ConfirmedAt(at)) => choice < *at,
        }
    }

    /// Forgets the confirmed removals. To be called when no choice is in progress.
    pub(super) fn forget_confirmed(&mut self) {
        self.removed.retain(|_, removal| *removal == Removal::Asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> SnapshotId {
        id.parse().unwrap()
    }

    #[test]
    fn choice_begun_before_a_removal_is_outdated_for_that_snapshot_only() {
        let mut removals = Removals::default();
        let before = removals.next_choice();
        removals.begin(id("a"));
        let during = removals.next_choice();
        assert!(removals.outdates(before, &id("a")) && removals.outdates(during, &id("a")));
        assert!(!removals.outdates(before, &id("b")));
        removals.confirm(id("a"));
        assert!(removals.outdates(before, &id("a")) && removals.outdates(during, &id("a")));
        // It was imported again.
        assert!(!removals.outdates(removals.next_choice(), &id("a")));
    }

    #[test]
    fn only_confirmed_removals_are_forgotten() {
        let mut removals = Removals::default();
        let choice = removals.next_choice();
        removals.begin(id("a"));
        removals.begin(id("b"));
        removals.confirm(id("b"));
        removals.forget_confirmed();
        assert!(removals.outdates(choice, &id("a")) && !removals.outdates(choice, &id("b")));
    }
}
