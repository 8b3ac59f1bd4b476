//! The order in which room is made on a disk that is above its mark: pure.
//!
//! 1. The trash is emptied.
//! 2. The snapshots share their blocks. That is waited for, unless the disk has less free space than the reserve.
//! 3. Snapshots beyond `keep` are deleted.
//! 4. Instances that are marked as expired are deleted, the least recently used one first.
//! 5. Other instances are, in the same order.
//!
//! One step is taken at a time, and the disk measured after it, so no more goes than is needed. An instance goes only by
//! [`may_make_room`], not while it is in use, and not if too few bytes are its own to be worth it. Neither snapshots nor
//! instances go where even all of them together would not be enough: then something else fills the disk.
//!
//! Where either depends on an instance that was not measured yet, it is measured first.

use std::sync::Arc;

use multidb_actors::limits::Limits;
use multidb_actors::observed_clock::Moment;
use multidb_actors::supervisor::retention::may_make_room;
use multidb_store::{InstanceName, InstanceRecord, InstanceUid};

/// An instance with fewer bytes of its own is left alone.
pub const GAIN_BYTES_MIN: u64 = 1 << 20;

/// So many instances are measured before it is decided again.
const MEASURED_AT_ONCE: usize = 16;

/// The facts on which the next step depends.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    /// The bytes that are used above the mark.
    pub bytes_above: u64,
    /// Whether the disk has less free space than the reserve.
    pub is_below_reserve: bool,
    /// Whether the trash has trees that nothing deletes.
    pub has_trash: bool,
    /// The de-duplication of snapshots.
    pub dedup: Dedup,
    /// The most bytes that all snapshots and measured instances can take together.
    pub bytes_taken_max: u64,
    /// The number of snapshots beyond keep.
    pub unkept: usize,
    /// The instances.
    pub instances: Vec<Candidate>,
}

/// How far the de-duplication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dedup {
    /// Nothing is to be done, or it may not be.
    #[default]
    Done,
    /// It may be started.
    Pending,
    /// It is under way.
    Running,
}

/// An instance.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its record.
    pub record: Arc<InstanceRecord>,
    /// Whether it has sessions or waiting clients, or something is done to it.
    pub is_busy: bool,
    /// The bytes that are its own; `None` until it was measured.
    pub exclusive_bytes: Option<u64>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The disk is below its mark.
    Rest,
    /// The trash is emptied.
    EmptyTrash,
    /// The snapshots come to share their blocks.
    Deduplicate,
    /// They are at it.
    AwaitDedup,
    /// The snapshots beyond keep are deleted.
    DeleteSnapshots,
    /// These instances are measured: something depends on them.
    Measure(Vec<Unmeasured>),
    /// An instance is deleted.
    DeleteInstance(Choice),
    /// There is nothing that may go.
    NothingLeft,
    /// Something else fills the disk.
    FilledByOthers,
}

/// An instance that is to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmeasured {
    /// Its name.
    pub name: InstanceName,
    /// Its clone.
    pub uid: InstanceUid,
}

/// An instance that is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub name: InstanceName,
    /// Its clone.
    pub uid: InstanceUid,
    /// The bytes that are its own.
    pub exclusive_bytes: u64,
    /// Whether it is marked as expired.
    pub is_marked: bool,
}

/// The next step.
pub fn next(facts: &Situation, limits: &Limits, now: Moment) -> Step {
    if facts.bytes_above == 0 {
        return Step::Rest;
    }
    if facts.has_trash {
        return Step::EmptyTrash;
    }
    match facts.dedup {
        Dedup::Pending => return Step::Deduplicate,
        Dedup::Running if !facts.is_below_reserve => return Step::AwaitDedup,
        Dedup::Running | Dedup::Done => {}
    }
    if facts.bytes_taken_max < facts.bytes_above {
        return measure(facts.instances.iter()).unwrap_or(Step::FilledByOthers);
    }
    if facts.unkept > 0 {
        return Step::DeleteSnapshots;
    }
    let choices = facts.instances.iter();
    let choices = choices.filter(|candidate| may_go(candidate, limits, now));
    let mut choices: Vec<_> = choices.collect();
    // Marked ones first.
    choices.sort_by_key(|candidate| {
        let record = &candidate.record;
        (record.marked.is_none(), record.last_used_observed)
    });
    let Some(first) = choices.first() else {
        return Step::NothingLeft;
    };
    match first.exclusive_bytes {
        Some(exclusive_bytes) => Step::DeleteInstance(Choice {
            name: first.record.name.clone(),
            uid: first.record.uid,
            exclusive_bytes,
            is_marked: first.record.marked.is_some(),
        }),
        None => measure(choices.into_iter()).unwrap_or(Step::NothingLeft),
    }
}

/// Measures the first ones of these that were not measured; `None` if all were.
fn measure<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Option<Step> {
    let unmeasured = candidates.filter(|candidate| candidate.exclusive_bytes.is_none());
    let unmeasured = unmeasured.map(|candidate| Unmeasured {
        name: candidate.record.name.clone(),
        uid: candidate.record.uid,
    });
    let unmeasured: Vec<_> = unmeasured.take(MEASURED_AT_ONCE).collect();
    (!unmeasured.is_empty()).then_some(Step::Measure(unmeasured))
}

/// Whether this instance may be deleted, and would make room as far as it was measured.
fn may_go(candidate: &Candidate, limits: &Limits, now: Moment) -> bool {
    let bytes = candidate.exclusive_bytes;
    !candidate.is_busy
        && bytes.is_none_or(|bytes| bytes >= GAIN_BYTES_MIN)
        && may_make_room(&candidate.record, limits, now)
}

#[cfg(test)]
mod tests;
