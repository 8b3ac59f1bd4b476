//! The users that may log in.

use super::{Finding, Level};
use crate::config::{AuthMethod, Config};
use crate::users;

const SUBJECT: &str = "users";

/// Checks that the users can be read, and that a login without `user:` has one.
pub(super) fn examine(config: &Config) -> Option<Finding> {
    let auth = &config.auth;
    if auth.method == AuthMethod::Trust {
        return None;
    }
    let users = match users::load(auth) {
        Ok(users) => users,
        Err(faults) => {
            return Some(
                Finding::new(Level::Fail, SUBJECT, faults.to_string())
                    .hint("Correct the file; the daemon keeps the users that it has until then."),
            );
        }
    };
    let default = &auth.default_user;
    Some(if users.is_empty() {
        Finding::new(
            Level::Warn,
            SUBJECT,
            "there are none, so no client can log in",
        )
        .hint("Add one with \"multidb user add NAME --role ROLE\".")
    } else if users.contains_key(default) {
        Finding::new(Level::Ok, SUBJECT, format!("{} may log in", users.len()))
    } else {
        let message = format!(
            "the default user \"{default}\" does not exist, so a login without user:NAME is refused"
        );
        Finding::new(Level::Warn, SUBJECT, message).hint(format!(
            "Set auth.default_user to an existing user, or add it with \"multidb user add {default} --role ROLE\"."
        ))
    })
}
