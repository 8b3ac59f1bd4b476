//! File-system idioms that several parts share.
//!
//! | module | owns |
//! | --- | --- |
//! | [`access`] | whether another user can reach a directory, and work with that user's rights |
//! | [`atomic_file`] | replacing small files in one step, durably |
//! | [`beneath`] | all work in trees that another user can write |
//! | [`btrfs`] | subvolumes |
//! | [`dedupe_range`] | equal ranges of two files that share their blocks |
//! | [`directory`] | creating directories, and renaming complete ones into place |
//! | [`fiemap`] | the extents of a file |
//! | [`socket`] | Unix sockets, in place of the sockets of a dead daemon |
//! | [`writeback`] | the begin of writing a file's new data |

use std::io;

pub mod access;
pub mod beneath;
pub mod btrfs;
pub mod dedupe_range;
pub mod fiemap;
pub mod socket;
pub mod writeback;

/// They are in the store crate, which needs them too.
pub use multidb_store::{atomic_file, directory};

/// What was done, where a missing file needs nothing done.
///
/// # Errors
///
/// Those of `done`, other than that there is no such file.
pub fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
