//! The daemon: the parts joined, their start and their end.

use crate::config::Config;

/// Runs the daemon until it is told to stop.
pub fn serve(config: Config) -> anyhow::Result<()> {
    tracing::info!(root = %config.root.display(), "nothing to serve yet");
    Ok(())
}
