//! File-system idioms that several parts share.
//!
//! | module | owns |
//! | --- | --- |
//! | [`access`] | whether another user can reach a directory |
//! | [`atomic_file`] | replacing small files in one step, durably |
//! | [`beneath`] | all work in trees that somebody else can write |
//! | [`btrfs`] | subvolumes |
//! | [`directory`] | creating directories, and renaming complete ones into place |
//! | [`socket`] | Unix sockets, in place of those of a dead daemon |

pub mod access;
pub mod beneath;
pub mod btrfs;
pub mod socket;

/// They are in the store crate, which needs them too.
pub use multidb_store::{atomic_file, directory};
