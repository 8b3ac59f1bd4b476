//! Whether the disk is above `limits.disk_high_water`, and the steps taken to make room.

use super::{Finding, Level};
use crate::control::model::{PressureView, StatusView};
use crate::text::size;

/// The finding about the disk, by the daemon's status.
pub(super) fn examine(status: &StatusView) -> Finding {
    let (mark, pressure) = (status.disk_high_water, status.disk_pressure.as_ref());
    finding(status.disk_used_percent, mark, pressure)
}

pub(crate) fn finding(
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

/// The steps taken to make room, and whether there are more.
pub(crate) fn room(pressure: &PressureView) -> String {
    let steps = pressure.steps.iter();
    let steps = steps.map(|step| format!("{} ({} freed)", step.what, size(step.bytes_freed)));
    let mut parts: Vec<_> = steps.collect();
    if pressure.nothing_left {
        parts.push("nothing is left that may be deleted by itself".to_owned());
    } else if parts.is_empty() {
        parts.push("room is being made".to_owned());
    }
    parts.join(", ")
}
