//! The instances that did not start, or that refuse logins.

use super::{Finding, Level};
use crate::control::model::InstanceView;

pub(super) fn finding(instance: &InstanceView) -> Option<Finding> {
    let fault = instance
        .failure
        .as_ref()
        .or(instance.login_fault.as_ref())?;
    let subject = format!("instance {}", instance.name);
    Some(Finding {
        hint: instance.hint.clone(),
        ..Finding::new(Level::Warn, &subject, fault.clone())
    })
}
