//! Users and their rights.

use std::collections::BTreeMap;
use std::sync::Arc;

use multidb_store::ProjectName;

use super::error::DenyReason;
use super::tokens::Token;
use super::verifier::Verifier;

/// A user of multidb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The verifier of the user's password.
    pub verifier: Verifier,
    /// The Postgres roles that the user may log in as.
    pub roles: Vec<String>,
    /// The projects that the user may use; all without a list.
    pub projects: Option<Vec<ProjectName>>,
    /// Whether the user has the rights of the administrator, in the console and over HTTP.
    pub admin: bool,
    /// The most instances created by the user that may exist at one time.
    pub max_instances: Option<usize>,
    /// The most instances that the user may create within a minute.
    pub creations_per_minute: Option<usize>,
    /// The tokens that were made for the user and not removed.
    pub tokens: Vec<Token>,
}

/// All users by name.
pub type Users = BTreeMap<String, Arc<User>>;

/// An authenticated client, or a client that is trusted without authentication.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user's name.
    pub name: String,
    /// The user's rights and limits; `None` if all clients are trusted.
    pub user: Option<Arc<User>>,
}

impl Identity {
    /// A client that is trusted without authentication.
    pub fn trusted(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            user: None,
        }
    }

    /// Checks that the user may use this project as this role.
    pub fn admit(&self, project: &ProjectName, role: &str) -> Result<(), DenyReason> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        if let Some(projects) = &user.projects
            && !projects.contains(project)
        {
            return Err(DenyReason::ProjectNotAllowed {
                user: self.name.clone(),
                project: project.clone(),
                allowed: projects.clone(),
            });
        }
        if !user.roles.iter().any(|allowed| allowed == role) {
            return Err(DenyReason::RoleNotAllowed {
                user: self.name.clone(),
                role: role.to_owned(),
                allowed: user.roles.clone(),
            });
        }
        Ok(())
    }

    /// Checks that the user may create one more instance, given the number of the user's existing
    /// instances and of those created within the last minute.
    pub fn admit_creation(&self, existing: usize, recent: usize) -> Result<(), DenyReason> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        if let Some(max) = user.max_instances
            && existing >= max
        {
            let user = self.name.clone();
            return Err(DenyReason::TooManyInstances { user, max });
        }
        if let Some(max) = user.creations_per_minute
            && recent >= max
        {
            let user = self.name.clone();
            return Err(DenyReason::TooManyCreations { user, max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scram::MockSecret;

    fn project(name: &str) -> ProjectName {
        name.parse().unwrap()
    }

    fn alice() -> Identity {
        let verifier = MockSecret::random().verifier("alice", &Users::new());
        let user = User {
            verifier,
            roles: vec!["app".to_owned()],
            projects: Some(vec![project("shop")]),
            admin: false,
            max_instances: Some(2),
            creations_per_minute: Some(3),
            tokens: Vec::new(),
        };
        Identity {
            name: "alice".to_owned(),
            user: Some(Arc::new(user)),
        }
    }

    #[test]
    fn user_is_bound_to_its_projects_and_roles() {
        let alice = alice();
        assert_eq!(alice.admit(&project("shop"), "app"), Ok(()));
        let denied = alice.admit(&project("blog"), "app").unwrap_err();
        assert_eq!(denied.code(), "project_not_allowed");
        let denied = alice.admit(&project("shop"), "postgres").unwrap_err();
        assert_eq!(denied.code(), "role_not_allowed");
        let trusted = Identity::trusted("anyone");
        assert_eq!(trusted.admit(&project("blog"), "postgres"), Ok(()));
    }

    #[test]
    fn user_is_bound_to_its_limits_of_instances() {
        let alice = alice();
        let user = || "alice".to_owned();
        assert_eq!(alice.admit_creation(1, 2), Ok(()));
        let denied = DenyReason::TooManyInstances {
            user: user(),
            max: 2,
        };
        assert_eq!(alice.admit_creation(2, 0), Err(denied));
        let denied = DenyReason::TooManyCreations {
            user: user(),
            max: 3,
        };
        assert_eq!(alice.admit_creation(0, 3), Err(denied));
        assert_eq!(Identity::trusted("anyone").admit_creation(99, 99), Ok(()));
    }
}
