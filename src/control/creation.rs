//! The creation of an instance without a client's connection.

use std::time::Duration;

use multidb_actors::auth::Identity;
use multidb_actors::instance::Attach;
use multidb_actors::request::{ConnectRequest, Source};
use multidb_actors::supervisor::{Acquire, AcquireError};
use multidb_store::{Class, InstanceName, ProjectName};

use super::access::{Action, Caller, Resource, authorize};
use super::model::InstanceView;
use super::{Control, ControlError};

/// The source of a new instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreationSource {
    /// The snapshot that is chosen by this.
    Snapshot(Source),
    /// Another instance as it is now.
    Instance(InstanceName),
}

/// An instance to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreationOrder {
    /// Its name.
    pub name: InstanceName,
    /// Its project; needed only if several are configured.
    pub project: Option<ProjectName>,
    /// The source of its data.
    pub source: CreationSource,
    /// The time without use after which it expires.
    pub ttl: Option<Duration>,
    /// How safely its data is kept.
    pub class: Option<Class>,
}

impl Control {
    /// Creates an instance and starts it, as a client's first connection does.
    pub async fn create_instance(
        &self,
        caller: &Caller,
        order: CreationOrder,
    ) -> Result<InstanceView, ControlError> {
        authorize(
            caller,
            Action::Change,
            Resource::Instances,
            "create instances",
        )?;
        let identity = self.identity(caller)?;
        let name = order.name.clone();
        if order.ttl.is_some_and(|ttl| ttl.is_zero()) {
            let message = "ttl_seconds must be at least 1".to_owned();
            return Err(ControlError::InvalidArgument(message));
        }
        let (source, from, project) = match order.source {
            CreationSource::Snapshot(source) => {
                let project = self.project(order.project.as_ref())?;
                (Some(source), None, Some(project))
            }
            CreationSource::Instance(parent) => (None, Some(parent), order.project),
        };
        let request = ConnectRequest {
            instance: order.name,
            source,
            from,
            project,
            role: None,
            user: None,
            idle: Default::default(),
            ttl: order.ttl,
            class: order.class,
        };
        tracing::info!(instance = %name, %caller, "command to create an instance");
        let acquire = Acquire { request, identity };
        let acquired = self.deps.supervisor.send(acquire).await?;
        let acquired = match acquired {
            Ok(acquired) if acquired.created.is_some() => acquired,
            Ok(_) | Err(AcquireError::InstanceOfOtherProject { .. }) => {
                return Err(ControlError::InstanceExists(name));
            }
            Err(AcquireError::Choose(error)) => return Err(error.into()),
            Err(error) => return Err(ControlError::Acquire(error)),
        };
        // The lease ends here, so that the instance stops when it stays unused.
        drop(acquired.addr.send(Attach::default()).await??);
        self.show_instance(caller, &name).await
    }

    /// The identity whose rights and limits apply to the caller's creations. The administrator has no limits, and
    /// creates for the default user.
    pub(super) fn identity(&self, caller: &Caller) -> Result<Identity, ControlError> {
        let auth = &self.deps.config.auth;
        match caller {
            Caller::Administrator => Ok(Identity::trusted(auth.default_user.clone())),
            Caller::User(user) if user.admin => Ok(Identity::trusted(user.name.clone())),
            Caller::User(user) => {
                let users = self.deps.users.as_ref();
                let rights =
                    users.and_then(|users| users.subscribe().borrow().get(&user.name).cloned());
                match (users, rights) {
                    (Some(_), None) => Err(ControlError::Denied {
                        caller: caller.to_string(),
                        attempt: "create instances",
                    }),
                    (_, user_rights) => Ok(Identity {
                        name: user.name.clone(),
                        user: user_rights,
                    }),
                }
            }
        }
    }
}
