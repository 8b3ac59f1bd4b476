//! The users that may log in.

use super::access::{Action, Caller, Resource, authorize};
use super::model::UsersView;
use super::{Control, ControlError};

impl Control {
    /// Reads the file of users again, at once.
    pub async fn reload_users(&self, caller: &Caller) -> Result<UsersView, ControlError> {
        authorize(caller, Action::Change, Resource::Daemon, "reload users")?;
        let Some(live) = self.deps.users.clone() else {
            return Ok(UsersView { users: 0 });
        };
        let reload = tokio::task::spawn_blocking(move || live.reload());
        let users = reload.await.map_err(|error| {
            tracing::error!(%error, "the reload of the users ended by a defect");
            ControlError::ActorEnded
        })??;
        Ok(UsersView { users })
    }
}
