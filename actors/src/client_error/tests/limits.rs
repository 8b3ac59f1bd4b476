//! Instances that are over a limit, or get no slot.

use std::time::Duration;

use crate::instance::{InstanceError, OverLimit};

/// Each limit that an instance can be over.
pub(super) fn over() -> [OverLimit; 2] {
    [
        OverLimit::MaxInstanceBytes {
            exclusive_bytes: 21 << 30,
            limit_bytes: 20 << 30,
        },
        OverLimit::DiskReserve {
            grown_bytes: 3 << 30,
            free_bytes: 6 << 30,
            reserve_bytes: 5 << 30,
            needed_bytes: (6 << 30) + (5 << 27),
        },
    ]
}

pub(super) fn refusals() -> Vec<InstanceError> {
    let over = over().map(InstanceError::OverLimit);
    let no_slot = [
        InstanceError::NoSlot {
            max: 50,
            waited: Duration::from_millis(1500),
        },
        InstanceError::NoMemory {
            used_percent: 83,
            mark_percent: 80,
            waited: Duration::from_secs(30),
        },
    ];
    no_slot.into_iter().chain(over).collect()
}
