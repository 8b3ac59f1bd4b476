//! Creates the root directory, and checks that Postgres' user can enter it.

use std::path::PathBuf;

use anyhow::Context as _;
use multidb_actors::ports::RuntimeError;
use multidb_store::Layout;
use nix::unistd::{Uid, User};

use super::with_hint;
use crate::config::RuntimeKind;
use crate::fsutil::{access, directory};

/// Other users pass through the root to their own directories, but cannot list it.
const MODE: u32 = 0o711;

/// Creates the root if it is missing; an existing one keeps its mode.
///
/// # Errors
///
/// It cannot be created, or Postgres' user cannot enter it.
pub(super) fn create(layout: &Layout, kind: RuntimeKind, owner: (u32, u32)) -> anyhow::Result<()> {
    let root = layout.root();
    if kind == RuntimeKind::Process {
        // First, so that an unusable root is not left behind. The directories under the root get their
        // modes later, and are checked after that.
        check_directories(&[root.to_owned()], owner).map_err(|error| with_hint(&error))?;
    }
    directory::create_missing(root, MODE)
        .with_context(|| format!("cannot create {}", root.display()))
}

/// Checks that Postgres' user can enter each directory that the servers need, and its parents. Missing
/// ones get the right mode when they are created. Containers get their directories by bind mounts, which
/// do not depend on the parents.
///
/// # Errors
///
/// The user cannot enter one, which the message names.
pub fn check_access(
    layout: &Layout,
    kind: RuntimeKind,
    owner: (u32, u32),
) -> Result<(), RuntimeError> {
    match kind {
        RuntimeKind::Docker => Ok(()),
        RuntimeKind::Process => check_directories(
            &[
                layout.root().to_owned(),
                layout.snapshots(),
                layout.instances(),
                layout.state(),
                layout.run(),
            ],
            owner,
        ),
    }
}

/// As [`check_access`], for these directories.
///
/// # Errors
///
/// The user cannot enter one, which the message names.
pub fn check_directories(directories: &[PathBuf], owner: (u32, u32)) -> Result<(), RuntimeError> {
    let directory = match access::first_unreachable(directories, owner) {
        Ok(None) => return Ok(()),
        Ok(Some(directory)) => directory.display().to_string(),
        Err(error) => {
            return Err(RuntimeError {
                message: format!(
                    "cannot check which directories {} can enter: {error}",
                    user_name(owner)
                ),
                hint: None,
            });
        }
    };
    Err(RuntimeError {
        message: format!(
            "{}, the user that runs Postgres, cannot enter {directory}",
            user_name(owner)
        ),
        hint: Some(format!(
            "Run \"chmod a+x {directory}\", or choose a directory that this user can enter."
        )),
    })
}

fn user_name((uid, _): (u32, u32)) -> String {
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    found.map_or_else(|| format!("uid {uid}"), |user| user.name)
}
