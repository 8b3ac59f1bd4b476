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
        let reset = format!("\"multidb instance reset {instance}\"");
        error
            .detail(text::sentence(&over.to_string()))
            .hint(over.hint(&reset))
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
            .hint(over.hint("\"multidb instance reset\""))
    }
}
