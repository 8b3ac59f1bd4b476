//! Why a client gets no instance.

use std::time::Duration;

use multidb_store::{InstanceName, ProjectName};
use serde::Serialize;

use crate::auth::DenyReason;
use crate::instance::InstanceError;
use crate::ports::Unavailable;
use crate::project::ProjectError;
use crate::snapshot_index::ChooseError;
use crate::text;

/// Why a client gets no instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum AcquireError {
    /// The daemon is shutting down.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// The instance does not exist, and the request has no source to create it from.
    #[error("instance \"{instance}\" does not exist")]
    NoSuchInstance {
        /// The requested instance.
        instance: InstanceName,
    },
    /// The instance's actor panicked again and again, and is not rebuilt by itself any more.
    #[error("instance \"{instance}\" has failed by a defect of multidb")]
    GivenUp {
        /// The instance.
        instance: InstanceName,
    },
    /// The instance belongs to another project than requested.
    #[error("instance \"{instance}\" belongs to project \"{project}\", not \"{requested}\"")]
    InstanceOfOtherProject {
        /// The instance.
        instance: InstanceName,
        /// Its project.
        project: ProjectName,
        /// The requested project.
        requested: ProjectName,
    },
    /// The time to live of a new instance is longer than the retention time.
    #[error("a ttl of {} is longer than the retention time", text::duration(*ttl))]
    TtlTooLong {
        /// The requested time to live.
        #[serde(skip)]
        ttl: Duration,
        /// The retention time.
        #[serde(skip)]
        retention: Duration,
    },
    /// The instance to clone does not exist.
    #[error("instance \"{parent}\", of which \"{instance}\" is to be a clone, does not exist")]
    NoSuchParent {
        /// The requested instance.
        #[serde(skip)]
        instance: InstanceName,
        /// The instance to clone.
        parent: InstanceName,
    },
    /// The instance to clone does not run.
    #[error("instance \"{parent}\", of which \"{instance}\" is to be a clone, cannot be started")]
    #[serde(rename = "parent_failed")]
    Parent {
        /// The requested instance.
        #[serde(skip)]
        instance: InstanceName,
        /// The instance to clone.
        parent: InstanceName,
        /// Why.
        #[source]
        #[serde(skip)]
        error: Box<InstanceError>,
    },
    /// The Supervisor dropped the request unanswered: a defect.
    #[error("the supervisor did not answer")]
    Unanswered,
    /// No project was found to create it in.
    #[error(transparent)]
    #[serde(untagged)]
    Project(#[from] ProjectError),
    /// The user's rights or limits forbid it.
    #[error(transparent)]
    #[serde(untagged)]
    Denied(#[from] DenyReason),
    /// No snapshot was found to create it from.
    #[error(transparent)]
    #[serde(untagged)]
    Choose(#[from] ChooseError),
    /// The runtime of new instances is away.
    #[error("instance \"{instance}\" cannot be created")]
    #[serde(untagged)]
    Unavailable {
        /// The requested instance.
        #[serde(skip)]
        instance: InstanceName,
        /// The runtime's fault.
        #[source]
        #[serde(flatten)]
        unavailable: Unavailable,
    },
}

impl AcquireError {
    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting_down",
            Self::NoSuchInstance { .. } => "no_such_instance",
            Self::GivenUp { .. } => "given_up",
            Self::InstanceOfOtherProject { .. } => "instance_of_other_project",
            Self::Project(error) => error.code(),
            Self::Unavailable { unavailable, .. } => unavailable.code(),
            Self::TtlTooLong { .. } => "ttl_too_long",
            Self::NoSuchParent { .. } => "no_such_parent",
            Self::Parent { .. } => "parent_failed",
            Self::Unanswered => "unanswered",
            Self::Denied(reason) => reason.code(),
            Self::Choose(error) => error.code(),
        }
    }
}
