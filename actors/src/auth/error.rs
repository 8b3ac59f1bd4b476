//! Why a client is not authenticated, and why an authenticated client is denied something.

use std::time::Duration;

use multidb_store::ProjectName;
use serde::Serialize;

use super::scram::ScramError;

/// Why a client is not authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum AuthenticationError {
    /// The password is wrong, or the user does not exist: the client must not learn which.
    #[error("password authentication failed for user \"{user}\"")]
    WrongPassword {
        /// The user.
        user: String,
        /// Whether the client named none, so that it is `auth.default_user`.
        is_default: bool,
    },
    /// The client denied a channel binding that the server offered, which an attacker may have removed.
    #[error("SCRAM channel binding was not negotiated as it was offered")]
    ChannelBindingDowngraded,
    /// The client broke the rules of SCRAM.
    #[error("malformed SCRAM message: {fault}")]
    MalformedScram {
        /// The broken rule.
        fault: &'static str,
    },
    /// Too many logins from the client's address failed.
    #[error("too many failed logins from this address")]
    TooManyFailures {
        /// The time until the next attempt is allowed.
        wait: Duration,
    },
    /// The user name names another user than the client's certificate.
    #[error("client certificate is for user \"{certificate}\", not \"{user}\"")]
    CertificateMismatch {
        /// The certificate's common name.
        certificate: String,
        /// The user that the client named.
        user: String,
    },
    /// The client's certificate is valid, but names no user.
    #[error("client certificate is for \"{certificate}\", which is not a user")]
    UnknownCertificate {
        /// The certificate's common name.
        certificate: String,
    },
}

impl AuthenticationError {
    /// The failure of a SCRAM exchange with this user, or with the default one because the client named none.
    pub fn of_scram(user: &str, is_default: bool, error: ScramError) -> Self {
        match error {
            ScramError::Denied => Self::WrongPassword {
                user: user.to_owned(),
                is_default,
            },
            ScramError::Downgraded => Self::ChannelBindingDowngraded,
            ScramError::Malformed(fault) => Self::MalformedScram { fault },
        }
    }

    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongPassword { .. } => "wrong_password",
            Self::ChannelBindingDowngraded => "channel_binding_downgraded",
            Self::MalformedScram { .. } => "malformed_scram",
            Self::TooManyFailures { .. } => "too_many_failures",
            Self::CertificateMismatch { .. } => "certificate_mismatch",
            Self::UnknownCertificate { .. } => "unknown_certificate",
        }
    }
}

/// Why an authenticated client is denied something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum DenyReason {
    /// The user may not use the project.
    #[error("user \"{user}\" may not use project \"{project}\"")]
    ProjectNotAllowed {
        /// The user.
        user: String,
        /// The project.
        project: ProjectName,
        /// The user's projects.
        allowed: Vec<ProjectName>,
    },
    /// The user may not log in as the role.
    #[error("user \"{user}\" may not log in as role \"{role}\"")]
    RoleNotAllowed {
        /// The user.
        user: String,
        /// The Postgres role.
        role: String,
        /// The user's roles.
        allowed: Vec<String>,
    },
    /// The user has `max_instances` instances already.
    #[error("user \"{user}\" has reached its instance limit")]
    TooManyInstances {
        /// The user.
        user: String,
        /// The user's `max_instances`.
        max: usize,
    },
    /// The user created `creations_per_minute` instances within the last minute.
    #[error("user \"{user}\" has reached its creation rate limit")]
    TooManyCreations {
        /// The user.
        user: String,
        /// The user's `creations_per_minute`.
        max: usize,
    },
}

impl DenyReason {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ProjectNotAllowed { .. } => "project_not_allowed",
            Self::RoleNotAllowed { .. } => "role_not_allowed",
            Self::TooManyInstances { .. } => "too_many_instances",
            Self::TooManyCreations { .. } => "too_many_creations",
        }
    }
}
