//! Opens the root directory: recognizes or creates it, checks that Postgres' user can enter it, and locks it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use multidb_actors::ports::RuntimeError;
use multidb_store::root::{self, RootError};
use multidb_store::{Layout, RootId, RootLock, error_chain};
use nix::unistd::{Uid, User};

use super::with_hint;
use crate::config::RuntimeKind;
use crate::fsutil::{access, beneath, directory};

/// Other users pass through the root to their own directories, but cannot list it.
const MODE: u32 = 0o711;

/// A process that was just killed can have left the lock with a child for some milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The root that this process has made, until it is ready: a start that fails must not leave it behind.
#[derive(Debug, Default)]
pub(super) struct NewRoot(Option<PathBuf>);

impl NewRoot {
    /// From here it may have data.
    pub(super) fn keep(&mut self) {
        self.0 = None;
    }

    /// Deletes it, if it has not been kept. Its lock is held, so it is no other daemon's.
    pub(super) fn remove(self) {
        let Some(path) = self.0 else {
            return;
        };
        if let Err(error) = beneath::remove(&path) {
            tracing::warn!(root = %path.display(), error = error_chain(&error), "the root of this start, which failed, was not removed");
        }
    }
}

/// Creates the root if it is missing, takes its lock for as long as this process lives, and returns its identity.
/// An existing root keeps its mode. Nothing is changed in a directory that is not multidb's.
///
/// # Errors
///
/// The directory belongs to something else, it cannot be created, Postgres' user cannot enter it, or another
/// daemon serves it.
pub(super) fn open(
    layout: &Layout,
    kind: RuntimeKind,
    owner: (u32, u32),
    new: &mut NewRoot,
) -> anyhow::Result<RootId> {
    root::inspect(layout).map_err(|error| advised(&error))?;
    let directory = layout.root();
    if kind == RuntimeKind::Process {
        // First, so that an unusable root is not left behind. The directories under the root get their
        // modes later, and are checked after that.
        check_directories(&[directory.to_owned()], owner).map_err(|error| with_hint(&error))?;
    }
    let was_missing = !directory.exists();
    directory::create_missing(directory, MODE)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let lock = RootLock::acquire(layout, LOCK_TIMEOUT).map_err(|error| advised(&error))?;
    lock.hold_for_life();
    // Another daemon may have made it at the same time: its marker is there by the time that the lock is free.
    if was_missing && !layout.marker().exists() {
        new.0 = Some(directory.to_owned());
    }
    root::identify(layout).map_err(|error| advised(&error))
}

fn advised(error: &RootError) -> anyhow::Error {
    let message = error_chain(error);
    match error.hint() {
        Some(hint) => anyhow!("{message}\nhint: {hint}"),
        None => anyhow!(message),
    }
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
                for_clients: false,
                message: format!(
                    "cannot check which directories {} can enter: {error}",
                    user_name(owner)
                ),
                hint: None,
            });
        }
    };
    Err(RuntimeError {
        for_clients: false,
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
