//! The user that Postgres runs as.

use multidb_actors::ports::RuntimeError;
use nix::unistd::{Gid, Uid, User};

/// The user and the group that Postgres runs as and that own data directories: the configured user
/// where the daemon is root, since Postgres refuses to run as root; else the daemon's own.
///
/// # Errors
///
/// There is no such user.
pub fn data_owner(user: &str) -> Result<(u32, u32), RuntimeError> {
    if !Uid::effective().is_root() {
        return Ok((Uid::effective().as_raw(), Gid::effective().as_raw()));
    }
    let found = User::from_name(user).ok().flatten();
    let found = found.filter(|found| !found.uid.is_root());
    let found = found.ok_or_else(|| RuntimeError {
        for_clients: true,
        message: format!("there is no user \"{user}\" to run Postgres as"),
        hint: Some("Set runtime.user to an existing user other than root.".to_owned()),
    })?;
    Ok((found.uid.as_raw(), found.gid.as_raw()))
}
