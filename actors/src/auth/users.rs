//! Users, and what they may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use multidb_store::ProjectName;

use super::verifier::Verifier;
use crate::client_error::ClientError;

/// A user of multidb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What their password is checked against.
    pub verifier: Verifier,
    /// The Postgres roles that they may log in as.
    pub roles: Vec<String>,
    /// The projects that they may use; all, where there is no list.
    pub projects: Option<Vec<ProjectName>>,
    /// How many instances that they created may exist at one time.
    pub max_instances: Option<usize>,
    /// How many instances they may create within a minute.
    pub creations_per_minute: Option<usize>,
}

/// All users by name.
pub type Users = BTreeMap<String, Arc<User>>;

/// A client that has said, and where it was asked has proved, who it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user's name.
    pub name: String,
    /// What binds the user; nothing where all are trusted.
    pub user: Option<Arc<User>>,
}

impl Identity {
    /// Somebody who is trusted to be who they say.
    pub fn trusted(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            user: None,
        }
    }

    /// Whether the user may use this project as this role.
    pub fn admit(&self, project: &ProjectName, role: &str) -> Result<(), ClientError> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        if let Some(projects) = &user.projects
            && !projects.contains(project)
        {
            return Err(ClientError::project_not_allowed(
                &self.name, project, projects,
            ));
        }
        if !user.roles.iter().any(|allowed| allowed == role) {
            return Err(ClientError::role_not_allowed(&self.name, role, &user.roles));
        }
        Ok(())
    }

    /// Whether the user may create one more instance, having so many, and so many of the last minute.
    pub fn admit_creation(&self, existing: usize, recent: usize) -> Result<(), ClientError> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        if let Some(max) = user.max_instances
            && existing >= max
        {
            return Err(ClientError::too_many_instances(&self.name, max));
        }
        if let Some(max) = user.creations_per_minute
            && recent >= max
        {
            return Err(ClientError::too_many_creations(&self.name, max));
        }
        Ok(())
    }
}
