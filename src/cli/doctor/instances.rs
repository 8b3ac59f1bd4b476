//! The instances that did not start, or that let nobody in.

use crate::cli::Invocation;
use crate::cli::instance;
use crate::control::model::InstanceView;

use super::{Finding, Level};

/// Lists them, where a daemon answers.
pub(super) async fn examine(invocation: &Invocation) -> Vec<Finding> {
    let Ok(client) = invocation.client() else {
        return Vec::new();
    };
    let instances = instance::all(&client.with_timeout(super::DAEMON_TIMEOUT)).await;
    let instances = instances.unwrap_or_default();
    instances.iter().filter_map(finding).collect()
}

fn finding(instance: &InstanceView) -> Option<Finding> {
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
