//! Whether the targets of notifications take them.

use super::{Finding, Level};
use crate::control::model::NotifyView;

pub(crate) fn finding(target: &NotifyView) -> Finding {
    let found = |level, message| Finding::new(level, "notifications", message);
    let name = &target.target;
    let hint = "Repair the target, and try it by \"multidb notify test\".";
    if let Some(error) = &target.last_error {
        let queued = target.queued;
        let message = format!("{name} did not take the last one, {queued} wait: {error}");
        return found(Level::Warn, message).hint(hint);
    }
    match target.dropped + target.failed {
        0 => found(Level::Ok, format!("{name} took {}", target.sent)),
        lost => {
            let message = format!("{name} took {}, and {lost} were lost before", target.sent);
            found(Level::Warn, message).hint("The daemon's log names them.")
        }
    }
}
