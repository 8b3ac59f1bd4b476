//! The results of the looks at growing instances so far.

use std::collections::{BTreeMap, HashMap};

use multidb_actors::instance::{InstanceStatus, OverLimit};
use multidb_store::{InstanceName, InstanceUid, Layout};
use tokio::time::Instant;

use super::losses::Losses;
use crate::clone::GrowingTree;
use crate::fsutil::beneath::TreeError;
use crate::growth::{Disk, Measurement};

/// The results of the looks before.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) losses: Losses,
    pub(super) window: Option<Window>,
    pub(super) runs: HashMap<InstanceUid, Run>,
    pub(super) held: BTreeMap<InstanceName, Held>,
    /// When an instance was last stopped for the reserve.
    pub(super) stopped_at: Option<Instant>,
    /// Whether the log has it that something else fills the disk.
    pub(super) told_of_others: bool,
}

/// The time in which growth counts.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) began: Instant,
    pub(super) free_bytes: u64,
}

/// An instance that runs.
#[derive(Default)]
pub(super) struct Run {
    pub(super) tree: Trees,
    pub(super) last: Option<Measured>,
    /// The bytes at the beginning of the window, or when it was first measured in it.
    pub(super) at_window: Option<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct Measured {
    pub(super) bytes: u64,
    pub(super) at: Instant,
    pub(super) free_bytes: u64,
}

/// An instance that was stopped.
pub(super) struct Held {
    pub(super) uid: InstanceUid,
    pub(super) over: OverLimit,
    pub(super) tree: Trees,
    pub(super) looked_at: Instant,
}

/// The data of an instance, and the state that its resets go back to.
#[derive(Default)]
pub(super) struct Trees {
    pub(super) data: GrowingTree,
    pub(super) base: GrowingTree,
}

impl Trees {
    pub(super) fn measure(&mut self, layout: &Layout, uid: InstanceUid) -> Result<u64, TreeError> {
        let data = self.data.measure(&layout.instance_data(uid))?;
        Ok(data + self.base.measure(&layout.instance_base(uid))?)
    }
}

impl Watch {
    /// Instances were stopped for the reserve; `rest` is the disk as the others leave it. Losses before that do not
    /// count for them.
    pub(super) fn note_stop(&mut self, rest: Disk) {
        self.stopped_at = Some(Instant::now());
        self.losses.replace(rest.rate);
        self.begin_window(rest.free_bytes);
    }

    /// Whether the instance was stopped, and may run for a moment yet.
    pub(super) fn is_held(&self, status: &InstanceStatus) -> bool {
        let held = self.held.get(&status.record.name);
        held.is_some_and(|held| held.uid == status.record.uid)
    }

    /// Begins a new window, in which nothing has grown yet.
    pub(super) fn begin_window(&mut self, free_bytes: u64) {
        let began = Instant::now();
        self.window = Some(Window { began, free_bytes });
        for run in self.runs.values_mut() {
            run.at_window = run.last.map(|last| last.bytes);
        }
    }
}

impl Run {
    pub(super) fn measurement(&self) -> Option<Measurement> {
        self.last.map(|last| Measurement {
            bytes: last.bytes,
            age: last.at.elapsed(),
            free_bytes: last.free_bytes,
        })
    }

    pub(super) fn note(&mut self, bytes: u64, free_bytes: u64) {
        let at = Instant::now();
        self.last = Some(Measured {
            bytes,
            at,
            free_bytes,
        });
        self.at_window.get_or_insert(bytes);
    }

    pub(super) fn grown(&self) -> u64 {
        let now = self.last.map_or(0, |last| last.bytes);
        self.at_window
            .map_or(0, |before| now.saturating_sub(before))
    }
}
