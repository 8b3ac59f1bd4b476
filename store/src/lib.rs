//! The vocabulary of multidb and its durable records.
//!
//! This crate owns the identifiers, the record types, where each thing lives under the root
//! directory, and the ways a record reaches the disk. It knows no async runtime, no actor, no
//! Docker and no socket; its calls block.
//!
//! | module | owns |
//! | --- | --- |
//! | [`atomic_file`] | small files that are replaced in one step |
//! | [`ids`] | names and identifiers, checked when they are made |
//! | [`records`] | what is stored: instances, snapshots and jobs |
//! | [`layout`] | the paths under the root directory |
//! | [`codec`] | the envelope around each stored record, and its versions |
//! | [`manifest`] | the small files beside the data, written atomically |
//! | [`store`] | the records in sled, and their recovery |

pub mod atomic_file;
pub mod codec;
pub mod ids;
pub mod layout;
pub mod manifest;
pub mod records;
pub mod store;

pub use ids::{InstanceName, InstanceUid, InvalidName, JobId, ProjectName, SnapshotId};
pub use layout::Layout;
pub use records::{
    InstanceRecord, JobFailure, JobKind, JobRecord, JobState, Phase, Pin, SnapshotRecord,
};
pub use store::{Store, StoreError};

/// An error with all its causes, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push_str(": ");
        chain.push_str(&cause.to_string());
        source = cause.source();
    }
    chain
}
