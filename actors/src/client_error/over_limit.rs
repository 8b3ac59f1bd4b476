//! Instances that may not take more of the disk.

use multidb_store::InstanceName;

use super::ClientError;
use crate::instance::OverLimit;
use crate::text;
use crate::wire::sqlstate;

impl ClientError {
    /// The refusal of a client of such an instance.
    pub(super) fn refused_over_limit(instance: &InstanceName, over: &OverLimit) -> Self {
        let error = Self::new(
            sqlstate::DISK_FULL,
            format!("instance \"{instance}\" is stopped, since it may not take more disk space"),
        );
        error.detail(text::sentence(&over.to_string())).hint(hint(
            over,
            &format!("\"multidb instance reset {instance}\""),
        ))
    }

    /// The end of a session of such an instance.
    pub(super) fn terminated_over_limit(over: &OverLimit) -> Self {
        let error = Self::new(
            sqlstate::ADMIN_SHUTDOWN,
            "terminating connection because the instance may not take more disk space",
        );
        let detail = text::sentence(&over.to_string());
        error
            .detail(format!(
                "{detail} It is stopped, and all that was committed is kept."
            ))
            .hint(hint(over, "\"multidb instance reset\""))
    }
}

fn hint(over: &OverLimit, reset: &str) -> String {
    match over {
        OverLimit::MaxInstanceBytes { .. } => format!(
            "To keep its data, raise limits.max_instance_bytes and restart multidb. {reset} gives it a fresh clone."
        ),
        OverLimit::DiskReserve { needed_bytes, .. } => format!(
            "It can be started once {} are free on the disk: remove instances or snapshots that are no longer needed. {reset} gives it a fresh clone.",
            text::bytes(*needed_bytes)
        ),
    }
}
