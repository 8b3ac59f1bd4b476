//! Advice to an administrator about an instance that has failed.

use multidb_actors::instance::{InstanceError, OverLimit};
use multidb_actors::ports::{CloneError, StartError};
use multidb_store::DiskFault;

/// The remedy for the failure of this instance; `None` where it passes by itself, or the error says it.
pub fn advice(instance: &str, failure: &InstanceError) -> Option<String> {
    let advice = match failure {
        InstanceError::GivenUp => format!(
            "\"multidb instance recover {instance}\" makes it usable again, with its data and its \
             sessions. Report the defect, which the log of multidb has."
        ),
        InstanceError::DataUnusable { .. } => format!(
            "Bring its data back and run \"multidb instance recover {instance}\", or run \
             \"multidb instance reset {instance}\" for a fresh clone."
        ),
        InstanceError::Delete(CloneError::NoSpace { .. }) => DiskFault::Full.hint().to_owned(),
        InstanceError::Delete(CloneError::Disk(error)) => error.fault.hint().to_owned(),
        InstanceError::Delete(_) => format!(
            "Its data is kept: \"multidb instance rm {instance}\" tries again, and \
             \"multidb instance recover {instance}\" leaves it as it is."
        ),
        InstanceError::Start(StartError::Exited { altered, .. }) if !altered.is_empty() => format!(
            "If a setting of ALTER SYSTEM is the cause, \"multidb instance start {instance} \
             --without-alter-system\" leaves them out."
        ),
        InstanceError::Start(StartError::Exited { .. }) | InstanceError::StartTimeout { .. } => {
            format!(
                "\"multidb instance logs {instance}\" has its log. The next connection starts it again."
            )
        }
        InstanceError::Start(StartError::Runtime(error)) => return error.hint.clone(),
        InstanceError::Clone(CloneError::NoSpace { .. })
        | InstanceError::Storage(CloneError::NoSpace { .. }) => DiskFault::Full.hint().to_owned(),
        InstanceError::Start(StartError::Disk(error))
        | InstanceError::Clone(CloneError::Disk(error))
        | InstanceError::Storage(CloneError::Disk(error)) => error.fault.hint().to_owned(),
        InstanceError::Clone(CloneError::ParentFailed { .. }) => {
            "A copy of a running server needs wal_level = replica, Postgres' default.".to_owned()
        }
        InstanceError::Clone(CloneError::SnapshotGone { .. }) => {
            "Choose another snapshot for a new instance.".to_owned()
        }
        InstanceError::Renew { .. } => format!(
            "The next connection tries again. \"multidb instance rm {instance}\" gives it up."
        ),
        InstanceError::Clone(CloneError::SnapshotDamaged { .. }) => {
            "Import the snapshot again, or choose another one for a new instance.".to_owned()
        }
        InstanceError::Start(StartError::Unavailable(unavailable))
        | InstanceError::Unavailable(unavailable) => unavailable.hint(),
        InstanceError::Stop(error) | InstanceError::Unknown(error) => {
            let fault = DiskFault::in_text(&error.message).map(DiskFault::hint);
            return error.hint.clone().or_else(|| fault.map(str::to_owned));
        }
        InstanceError::NoSlot { .. } => {
            "Raise limits.max_running, or end the sessions of another instance.".to_owned()
        }
        InstanceError::NoMemory { .. } => {
            "Raise limits.memory_high_water, or end the sessions of another instance.".to_owned()
        }
        InstanceError::OverLimit(over) => over_limit(instance, over),
        InstanceError::Clone(CloneError::Failed { .. })
        | InstanceError::Start(StartError::EndedUncleanly)
        | InstanceError::Storage(_)
        | InstanceError::Stopped
        | InstanceError::Deleted
        | InstanceError::Died => return None,
    };
    Some(advice)
}

/// The remedy for an instance that may not take more of the disk.
pub fn over_limit(instance: &str, over: &OverLimit) -> String {
    over.hint(&format!("\"multidb instance reset {instance}\""))
}
