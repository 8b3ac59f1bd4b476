//! File-system idioms that several parts share.
//!
//! | module | owns |
//! | --- | --- |
//! | [`access`] | whether another user can reach a directory |
//! | [`atomic_file`] | small files that are replaced in one step, durably |
//! | [`directory`] | directories that are made with their parents |
//! | [`socket`] | Unix sockets that replace those of a dead daemon |

pub mod access;
pub mod directory;
pub mod socket;

/// The store is the lowest crate that needs it, for its manifests.
pub use multidb_store::atomic_file;
