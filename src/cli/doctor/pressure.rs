//! Whether the disk is above `limits.disk_high_water`, and what was done about it.

use crate::cli::Invocation;
use crate::cli::status::room;
use crate::control::model::{PressureView, StatusView};

use super::{Finding, Level};

/// Asks the daemon, where one answers.
pub(super) async fn examine(invocation: &Invocation) -> Option<Finding> {
    let client = invocation.client().ok()?;
    let client = client.with_timeout(super::DAEMON_TIMEOUT);
    let status: StatusView = client.get("/v1/status").await.ok()?;
    let (mark, pressure) = (status.disk_high_water, status.disk_pressure.as_ref());
    Some(finding(status.disk_used_percent, mark, pressure))
}

pub(in crate::cli) fn finding(
    used_percent: u8,
    mark: Option<u8>,
    pressure: Option<&PressureView>,
) -> Finding {
    let found = |level, message| Finding::new(level, "disk pressure", message);
    let Some(mark) = mark else {
        let message = format!("{used_percent}% used, no room is made by itself");
        return found(Level::Ok, message);
    };
    let message = format!("{used_percent}% used, room is made above {mark}%");
    match pressure {
        Some(pressure) if pressure.bytes_above > 0 => {
            let message = format!("{message}: {}", room(pressure));
            found(Level::Warn, message).hint(
                "\"multidb instance ls\" and \"multidb snapshot ls\" show what each takes: remove what nobody needs, enlarge the disk, or set limits.disk_high_water.",
            )
        }
        Some(pressure) if !pressure.steps.is_empty() => {
            found(Level::Ok, format!("{message}; last {}", room(pressure)))
        }
        Some(_) | None => found(Level::Ok, message),
    }
}
