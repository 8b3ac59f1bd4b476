//! Errors of authentication, which tell nothing of what exists; and of what a user may do, who by then
//! has proved who it is.

use std::time::Duration;

use multidb_store::ProjectName;

use super::{ClientError, text};
use crate::auth::ScramError;
use crate::wire::sqlstate;

impl ClientError {
    /// The exchange of SCRAM failed. Whether the user exists is not told.
    pub fn authentication_failed(user: &str, error: ScramError) -> Self {
        match error {
            ScramError::Denied => Self::fatal(
                sqlstate::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
            ),
            ScramError::Downgraded => Self::fatal(
                sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
                error.to_string(),
            ),
            ScramError::Malformed(_) => {
                Self::fatal(sqlstate::PROTOCOL_VIOLATION, error.to_string())
            }
        }
    }

    /// Too many logins from the client's address failed.
    pub fn too_many_failures(wait: Duration) -> Self {
        let message = "too many failed logins from this address";
        Self::fatal(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message).hint(format!(
            "Try again in {}.",
            text::duration(Duration::from_secs(wait.as_secs() + 1))
        ))
    }

    /// The configuration asks for TLS, and the client did not.
    pub fn tls_required() -> Self {
        let message = "TLS is required";
        Self::fatal(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
            .hint("Connect with sslmode=require, or better with verify-full.")
    }

    /// The user name names another user than the client's certificate.
    pub fn certificate_of_another(name: &str, said: &str) -> Self {
        let message = format!("the certificate is not that of user \"{said}\"");
        Self::fatal(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
            .detail(format!("Its common name is \"{name}\"."))
            .hint("Leave user out of the user name, or name the certificate's.")
    }

    /// The client's certificate is good, but its name is no user's.
    pub fn certificate_of_nobody(name: &str) -> Self {
        let message = format!("the certificate's name \"{name}\" is not that of a user");
        Self::fatal(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
    }

    /// The user may not use the project.
    pub fn project_not_allowed(user: &str, project: &ProjectName, allowed: &[ProjectName]) -> Self {
        let message = format!("user \"{user}\" may not use project \"{project}\"");
        Self::fatal(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
            .detail(format!("The user's projects are: {}.", text::list(allowed)))
    }

    /// The user may not log in as the role.
    pub fn role_not_allowed(user: &str, role: &str, allowed: &[String]) -> Self {
        let message = format!("user \"{user}\" may not log in as role \"{role}\"");
        Self::fatal(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
            .detail(format!("The user's roles are: {}.", text::list(allowed)))
            .hint("Name one of them in the user name, as role:NAME.")
    }

    /// The user has created as many instances as it may have.
    pub fn too_many_instances(user: &str, max: usize) -> Self {
        let message = format!("user \"{user}\" has created as many instances as it may have");
        Self::fatal(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, message)
            .detail(format!("The user's max_instances is {max}."))
            .hint("Use one of them, or remove one: multidb instance rm NAME.")
    }

    /// The user has created as many instances within a minute as it may.
    pub fn too_many_creations(user: &str, max: usize) -> Self {
        let message = format!("user \"{user}\" creates instances faster than it may");
        Self::fatal(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, message)
            .detail(format!("The user's creations_per_minute is {max}."))
            .hint("Try again in a minute.")
    }
}
