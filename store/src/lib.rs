//! The identifiers of multidb and its durable records.
//!
//! This crate owns the identifiers, the record types, the layout of the root directory, and the writing
//! of records to disk. It has no async runtime, actor, Docker or socket; its calls block.
//!
//! | module | owns |
//! | --- | --- |
//! | [`atomic_file`] | small files that are replaced in one step |
//! | [`clones`] | the clones as a start finds them |
//! | [`directory`] | creating directories, and renaming complete ones into place
//! | [`disk_fault`] | the faults of a disk, which are no damage
//! | [`epochs`] | the counter of epochs |
//! | [`ids`] | names and identifiers, validated on construction |
//! | [`records`] | the stored types: instances, snapshots and jobs |
//! | [`layout`] | the paths under the root directory |
//! | [`codec`] | the encoding of a stored record, and its versions |
//! | [`manifest`] | the JSON files beside the data, written atomically |
//! | [`quarantine`] | clones that no name can have |
//! | [`recovery`] | the rule of a start: which clones are served, kept and deleted |
//! | [`root`] | the identity of a root directory, and the daemon's lock |
//! | [`store`] | the records in sled, and their recovery |

pub mod atomic_file;
pub mod clones;
pub mod codec;
pub mod directory;
pub mod disk_fault;
pub mod epochs;
pub mod ids;
pub mod layout;
pub mod manifest;
pub mod quarantine;
pub mod records;
pub mod recovery;
pub mod root;
pub mod store;

pub use disk_fault::{DiskFault, FileError};
pub use epochs::Epochs;
pub use ids::{InstanceName, InstanceUid, InvalidName, JobId, ProjectName, SnapshotId};
pub use layout::Layout;
pub use records::{
    Class, FromInstance, InstanceRecord, JobFailure, JobKind, JobRecord, JobState, Mark,
    ObservedTime, PASSED_ERRORS_MAX, PassedError, PassedErrors, Phase, Pin, Prepared, RuntimeKind,
    SnapshotPin, SnapshotRecord, TakenAtOrigin,
};
pub use root::{RootId, RootLock};
pub use store::{Store, StoreError, StoredTime};

/// An error and its causes in one line, separated by colons.
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
