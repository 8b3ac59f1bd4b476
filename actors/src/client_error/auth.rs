//! Errors of authentication, which do not reveal which users exist; and of an authenticated user's rights.

use std::time::Duration;

use super::ClientError;
use crate::auth::{AuthenticationError, DenyReason};
use crate::text;
use crate::wire::sqlstate;

impl From<&AuthenticationError> for ClientError {
    fn from(error: &AuthenticationError) -> Self {
        let message = error.to_string();
        match error {
            AuthenticationError::WrongPassword { is_default, .. } => {
                let error = Self::new(sqlstate::INVALID_PASSWORD, message);
                match is_default {
                    true => error.hint(
                        "That is the default user, since the user name has no user:NAME. Add it to log in as \
                         another user.",
                    ),
                    false => error,
                }
            }
            AuthenticationError::ChannelBindingDowngraded => {
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
            }
            AuthenticationError::MalformedScram { .. } => {
                Self::new(sqlstate::PROTOCOL_VIOLATION, message)
            }
            AuthenticationError::TooManyFailures { wait } => {
                // Rounded up to whole seconds.
                let wait = Duration::from_secs(wait.as_secs() + 1);
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
                    .hint(format!("Try again in {}.", text::duration(wait)))
            }
            AuthenticationError::CertificateMismatch { certificate, .. } => {
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message).hint(format!(
                    "Leave user: out of the user name, or write \"user:{certificate}\"."
                ))
            }
            AuthenticationError::UnknownCertificate { .. } => {
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
            }
        }
    }
}

impl From<&DenyReason> for ClientError {
    fn from(reason: &DenyReason) -> Self {
        let message = reason.to_string();
        match reason {
            DenyReason::ProjectNotAllowed { allowed, .. } => {
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
                    .detail(format!("Allowed projects: {}.", text::list(allowed)))
            }
            DenyReason::RoleNotAllowed { allowed, .. } => {
                Self::new(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, message)
                    .detail(format!("Allowed roles: {}.", text::list(allowed)))
                    .hint("Add \"role:NAME\" with one of them to the user name.")
            }
            DenyReason::TooManyInstances { max, .. } => Self::new(
                sqlstate::CONFIGURATION_LIMIT_EXCEEDED,
                message,
            )
            .detail(format!("The user's max_instances is {max}."))
            .hint("Use an existing instance, or remove one with \"multidb instance rm NAME\"."),
            DenyReason::TooManyCreations { max, .. } => {
                Self::new(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, message)
                    .detail(format!("The user's creations_per_minute is {max}."))
                    .hint("Try again in a minute.")
            }
        }
    }
}
