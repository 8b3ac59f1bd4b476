//! Authorization: one rule over caller, action and resource.
//!
//! | resource | a user may view | a user may change |
//! | --- | --- | --- |
//! | daemon | yes | no |
//! | machine | no | no |
//! | project | if allowed to use it | no |
//! | snapshot | of an allowed project | no |
//! | job | of an allowed project | no |
//! | instance | if created by the user, in an allowed project | likewise |
//! | quarantine | no | no |
//! | instances, which are created | | yes |
//! | connection | if opened by the user | likewise |
//!
//! The administrator, and users with `admin`, may do everything. Instances, snapshots, jobs and
//! connections that a user may not view are reported as missing.
//!
//! A token's scope takes rights away: `read` and `use` the rights of `admin`, and `read` also all changes.

use std::fmt;

use multidb_actors::auth::{Identity, Scope, User};
use multidb_actors::sessions::{ConnectionId, Session};
use multidb_store::{
    InstanceName, InstanceRecord, JobId, JobRecord, ProjectName, SnapshotId, SnapshotRecord,
};

use super::{Control, ControlError};

/// The author of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process that may write to the admin socket, which file permissions guard.
    Administrator,
    /// An authenticated multidb user.
    User(CallingUser),
}

/// An authenticated multidb user, as the author of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallingUser {
    /// The user's name.
    pub name: String,
    /// Whether the user has the rights of the administrator.
    pub admin: bool,
    /// Whether the user may change nothing.
    pub read_only: bool,
    /// The projects that the user may use; all without a list.
    pub projects: Option<Vec<ProjectName>>,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It reads.
    View,
    /// It starts, stops, creates, changes or removes something.
    Change,
}

/// The object of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The daemon itself: its status, its users.
    Daemon,
    /// The machine: the doctor's findings.
    Machine,
    /// A project: its decisions, its imports.
    Project(&'a ProjectName),
    /// A snapshot.
    Snapshot {
        /// Its id.
        id: &'a SnapshotId,
        /// Its project.
        project: &'a ProjectName,
    },
    /// A job.
    Job {
        /// Its number.
        id: JobId,
        /// The project that it works for.
        project: &'a ProjectName,
    },
    /// An instance.
    Instance {
        /// Its name.
        name: &'a InstanceName,
        /// Its project.
        project: &'a ProjectName,
        /// The user that created it.
        created_by: &'a str,
    },
    /// The caller's instances, before there is one.
    Instances,
    /// The clones that no name can have, and the instances that have failed.
    Quarantine,
    /// A client's session.
    Connection {
        /// Its number.
        id: ConnectionId,
        /// The user that opened it.
        user: &'a str,
    },
}

/// The answer of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// The request is carried out.
    Granted,
    /// The caller may know of the resource, but not do this.
    Denied,
    /// The caller may not know of the resource.
    Hidden,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator => f.write_str("administrator"),
            Self::User(user) if user.read_only => {
                write!(f, "user \"{}\" with a token to read", user.name)
            }
            Self::User(user) => write!(f, "user \"{}\"", user.name),
        }
    }
}

impl<'a> From<&'a InstanceRecord> for Resource<'a> {
    fn from(record: &'a InstanceRecord) -> Self {
        Self::Instance {
            name: &record.name,
            project: &record.project,
            created_by: &record.created_by,
        }
    }
}

impl<'a> From<&'a SnapshotRecord> for Resource<'a> {
    fn from(record: &'a SnapshotRecord) -> Self {
        Self::Snapshot {
            id: &record.id,
            project: &record.project,
        }
    }
}

impl<'a> From<&'a JobRecord> for Resource<'a> {
    fn from(record: &'a JobRecord) -> Self {
        Self::Job {
            id: record.id,
            project: &record.project,
        }
    }
}

impl<'a> From<&'a Session> for Resource<'a> {
    fn from(session: &'a Session) -> Self {
        Self::Connection {
            id: session.id,
            user: &session.user,
        }
    }
}

impl CallingUser {
    fn may_use(&self, project: &ProjectName) -> bool {
        let projects = self.projects.as_ref();
        projects.is_none_or(|projects| projects.contains(project))
    }
}

impl Control {
    /// An authenticated client as a caller. Where all clients are trusted, the configuration has the rights of the
    /// users that it names.
    pub fn caller(&self, identity: &Identity) -> Caller {
        let configured = self.deps.config.auth.users.get(&identity.name);
        let user: Option<&User> = identity.user.as_deref().or(configured.map(|user| &**user));
        Caller::User(CallingUser {
            name: identity.name.clone(),
            admin: user.is_some_and(|user| user.admin),
            read_only: false,
            projects: user.and_then(|user| user.projects.clone()),
        })
    }
}

impl Caller {
    /// The same with the rights of a token of this scope.
    #[must_use]
    pub fn limited_to(mut self, scope: Scope) -> Self {
        if let Self::User(user) = &mut self {
            user.admin = user.admin && scope == Scope::Admin;
            user.read_only = scope == Scope::Read;
        }
        self
    }

    /// Whether it has the rights of the administrator.
    pub fn is_admin(&self) -> bool {
        self.sees_instances_of().is_none()
    }

    /// Whether this caller sees the resource in lists.
    pub fn may_view<'a>(&self, resource: impl Into<Resource<'a>>) -> bool {
        permission(self, Action::View, resource.into()) == Permission::Granted
    }

    /// The only user whose instances this caller may see; none if it may see the instances of all users.
    pub(super) fn sees_instances_of(&self) -> Option<&str> {
        match self {
            Self::User(user) if !user.admin => Some(&user.name),
            Self::User(_) | Self::Administrator => None,
        }
    }
}

/// The rule.
pub fn permission(caller: &Caller, action: Action, resource: Resource<'_>) -> Permission {
    let of_user = permission_of_user(caller, action, resource);
    let read_only = matches!(caller, Caller::User(user) if user.read_only);
    match of_user {
        Permission::Granted if read_only && action == Action::Change => Permission::Denied,
        of_user => of_user,
    }
}

/// The rule, regardless of how the caller was authenticated.
fn permission_of_user(caller: &Caller, action: Action, resource: Resource<'_>) -> Permission {
    let user = match caller {
        Caller::User(user) if !user.admin => user,
        Caller::User(_) | Caller::Administrator => return Permission::Granted,
    };
    let viewing = action == Action::View;
    match resource {
        Resource::Instances => Permission::Granted,
        Resource::Daemon if viewing => Permission::Granted,
        Resource::Project(project) if viewing && user.may_use(project) => Permission::Granted,
        Resource::Daemon | Resource::Machine | Resource::Project(_) | Resource::Quarantine => {
            Permission::Denied
        }
        Resource::Snapshot { project, .. } | Resource::Job { project, .. }
            if !user.may_use(project) =>
        {
            Permission::Hidden
        }
        Resource::Snapshot { .. } | Resource::Job { .. } if viewing => Permission::Granted,
        Resource::Snapshot { .. } | Resource::Job { .. } => Permission::Denied,
        Resource::Instance {
            project,
            created_by,
            ..
        } if user.may_use(project) && created_by == user.name => Permission::Granted,
        Resource::Connection {
            user: opened_by, ..
        } if opened_by == user.name => Permission::Granted,
        Resource::Instance { .. } | Resource::Connection { .. } => Permission::Hidden,
    }
}

/// Applies the rule. `attempt` completes "may not …" in the error.
pub(super) fn authorize<'a>(
    caller: &Caller,
    action: Action,
    resource: impl Into<Resource<'a>>,
    attempt: &'static str,
) -> Result<(), ControlError> {
    let resource = resource.into();
    match (permission(caller, action, resource), resource) {
        (Permission::Granted, _) => Ok(()),
        (Permission::Hidden, Resource::Snapshot { id, .. }) => {
            Err(ControlError::NoSuchSnapshot(id.clone()))
        }
        (Permission::Hidden, Resource::Job { id, .. }) => Err(ControlError::NoSuchJob(id)),
        (Permission::Hidden, Resource::Instance { name, .. }) => {
            Err(ControlError::NoSuchInstance(name.clone()))
        }
        (Permission::Hidden, Resource::Connection { id, .. }) => {
            Err(ControlError::NoSuchConnection(id))
        }
        (Permission::Hidden | Permission::Denied, _) => Err(ControlError::Denied {
            caller: caller.to_string(),
            attempt,
        }),
    }
}

#[cfg(test)]
mod tests;
