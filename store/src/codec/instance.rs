//! The frozen forms of an instance's record.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceName, InstanceUid, ProjectName, SnapshotId};
use crate::records::{Class, InstanceRecord, Mark, ObservedTime, Phase, Pin, RuntimeKind};

/// The first form. Frozen: never change it, add another one.
#[derive(Serialize, Deserialize)]
pub(super) struct InstanceRecordV1 {
    name: InstanceName,
    uid: InstanceUid,
    epoch: u64,
    phase: PhaseV1,
    project: ProjectName,
    snapshot: SnapshotId,
    gitref: Option<String>,
    commit: Option<String>,
    created_by: String,
    postgres_major: u16,
    superuser: String,
    created_at: Timestamp,
    last_used_at: Timestamp,
    pin: PinV1,
}

/// The second form: epochs and sequence numbers, observed time, the mark of an expiry, and the runtime. Frozen.
#[derive(Serialize, Deserialize)]
pub(super) struct InstanceRecordV2 {
    name: InstanceName,
    uid: InstanceUid,
    epoch: u64,
    sequence: u64,
    phase: PhaseV1,
    project: ProjectName,
    snapshot: SnapshotId,
    gitref: Option<String>,
    commit: Option<String>,
    created_by: String,
    postgres_major: u16,
    superuser: String,
    created_at: Timestamp,
    last_used_at: Timestamp,
    last_used_observed: u64,
    marked: Option<MarkV2>,
    pin: PinV1,
    runtime: Option<RuntimeKindV2>,
}

/// The third form: the time to live in milliseconds, the class and the parent. Frozen.
#[derive(Serialize, Deserialize)]
pub(super) struct InstanceRecordV3 {
    second: InstanceRecordV2,
    ttl_ms: Option<u64>,
    class: ClassV3,
    parent: Option<InstanceName>,
}

#[derive(Serialize, Deserialize)]
enum ClassV3 {
    Durable,
    Scratch,
}

#[derive(Serialize, Deserialize)]
enum PhaseV1 {
    Cloning,
    Ready,
    Deleting,
}

#[derive(Serialize, Deserialize)]
enum PinV1 {
    None,
    Forever,
    Until(Timestamp),
}

#[derive(Serialize, Deserialize)]
struct MarkV2 {
    at: Timestamp,
    observed: u64,
}

#[derive(Serialize, Deserialize)]
enum RuntimeKindV2 {
    Docker,
    Process,
}

impl From<InstanceRecordV1> for InstanceRecord {
    fn from(record: InstanceRecordV1) -> Self {
        Self {
            name: record.name,
            uid: record.uid,
            epoch: record.epoch,
            sequence: 0,
            phase: record.phase.into(),
            project: record.project,
            snapshot: record.snapshot,
            gitref: record.gitref,
            commit: record.commit,
            created_by: record.created_by,
            postgres_major: record.postgres_major,
            superuser: record.superuser,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            last_used_observed: ObservedTime::default(),
            marked: None,
            pin: record.pin.into(),
            runtime: None,
            ttl: None,
            class: Class::Durable,
            parent: None,
        }
    }
}

impl From<InstanceRecord> for InstanceRecordV3 {
    fn from(record: InstanceRecord) -> Self {
        Self {
            ttl_ms: record
                .ttl
                .map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            class: match record.class {
                Class::Durable => ClassV3::Durable,
                Class::Scratch => ClassV3::Scratch,
            },
            parent: record.parent.clone(),
            second: record.into(),
        }
    }
}

impl From<InstanceRecordV3> for InstanceRecord {
    fn from(record: InstanceRecordV3) -> Self {
        Self {
            ttl: record.ttl_ms.map(Duration::from_millis),
            class: match record.class {
                ClassV3::Durable => Class::Durable,
                ClassV3::Scratch => Class::Scratch,
            },
            parent: record.parent,
            ..record.second.into()
        }
    }
}

impl From<InstanceRecord> for InstanceRecordV2 {
    fn from(record: InstanceRecord) -> Self {
        Self {
            name: record.name,
            uid: record.uid,
            epoch: record.epoch,
            sequence: record.sequence,
            phase: record.phase.into(),
            project: record.project,
            snapshot: record.snapshot,
            gitref: record.gitref,
            commit: record.commit,
            created_by: record.created_by,
            postgres_major: record.postgres_major,
            superuser: record.superuser,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            last_used_observed: record.last_used_observed.as_millis(),
            marked: record.marked.map(|mark| MarkV2 {
                at: mark.at,
                observed: mark.observed.as_millis(),
            }),
            pin: record.pin.into(),
            runtime: record.runtime.map(|kind| match kind {
                RuntimeKind::Docker => RuntimeKindV2::Docker,
                RuntimeKind::Process => RuntimeKindV2::Process,
            }),
        }
    }
}

impl From<InstanceRecordV2> for InstanceRecord {
    fn from(record: InstanceRecordV2) -> Self {
        Self {
            name: record.name,
            uid: record.uid,
            epoch: record.epoch,
            sequence: record.sequence,
            phase: record.phase.into(),
            project: record.project,
            snapshot: record.snapshot,
            gitref: record.gitref,
            commit: record.commit,
            created_by: record.created_by,
            postgres_major: record.postgres_major,
            superuser: record.superuser,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            last_used_observed: ObservedTime::from_millis(record.last_used_observed),
            marked: record.marked.map(|mark| Mark {
                at: mark.at,
                observed: ObservedTime::from_millis(mark.observed),
            }),
            pin: record.pin.into(),
            runtime: record.runtime.map(|kind| match kind {
                RuntimeKindV2::Docker => RuntimeKind::Docker,
                RuntimeKindV2::Process => RuntimeKind::Process,
            }),
            ttl: None,
            class: Class::Durable,
            parent: None,
        }
    }
}

impl From<Phase> for PhaseV1 {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Cloning => Self::Cloning,
            Phase::Ready => Self::Ready,
            Phase::Deleting => Self::Deleting,
        }
    }
}

impl From<PhaseV1> for Phase {
    fn from(phase: PhaseV1) -> Self {
        match phase {
            PhaseV1::Cloning => Self::Cloning,
            PhaseV1::Ready => Self::Ready,
            PhaseV1::Deleting => Self::Deleting,
        }
    }
}

impl From<Pin> for PinV1 {
    fn from(pin: Pin) -> Self {
        match pin {
            Pin::None => Self::None,
            Pin::Forever => Self::Forever,
            Pin::Until(until) => Self::Until(until),
        }
    }
}

impl From<PinV1> for Pin {
    fn from(pin: PinV1) -> Self {
        match pin {
            PinV1::None => Self::None,
            PinV1::Forever => Self::Forever,
            PinV1::Until(until) => Self::Until(until),
        }
    }
}
