//! The errors of clones.

use super::disk;
use crate::ports::{CloneError, Taken};

/// One of each.
pub(super) fn clones() -> Vec<CloneError> {
    let no_space = |free_bytes, missing_bytes, taken| CloneError::NoSpace {
        free_bytes,
        reserve_bytes: 5 << 30,
        missing_bytes,
        taken,
    };
    let taken = Taken {
        instances_bytes: 3 << 30,
        snapshots_bytes: 700 << 20,
    };
    vec![
        no_space(4_966_055_936, 402_653_184, Some(taken)),
        no_space(8_482_560_410, 0, None),
        CloneError::ParentFailed {
            message: "WAL level not sufficient for making an online backup".into(),
        },
        CloneError::SnapshotDamaged {
            snapshot: "monday".into(),
            message: "/secret is missing".into(),
        },
        CloneError::SnapshotGone {
            snapshot: "monday".into(),
        },
        CloneError::Failed {
            message: "cannot write /secret".into(),
        },
        CloneError::Disk(disk("Read-only file system")),
        CloneError::Disk(disk("Input/output error")),
    ]
}
