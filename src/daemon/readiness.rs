//! Tells that the daemon is ready: in the log, and to systemd.

use multidb_actors::ports::Cloner as _;
use multidb_store::error_chain;
use sd_notify::NotifyState;

use super::Services;
use crate::config::Config;

pub(super) fn ready(config: &Config, services: &Services) {
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    tracing::info!(
        listen = listen.join(" "),
        root = %config.root.display(),
        id = %services.root,
        runtime = %services.host.kind(),
        clone_method = services.cloner.method(),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    notify(&[NotifyState::Ready]);
}

/// Notifies systemd, if it started the daemon.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(error = error_chain(&error), "cannot notify systemd");
    }
}
