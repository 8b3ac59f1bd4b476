//! The limit of open files (RLIMIT_NOFILE), which is raised at the start.

use multidb_actors::connection::AdmissionControl;
use multidb_actors::limits::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files besides the connections: records, logs, git, the engine, the admin socket.
const OTHER_FILES: u64 = 200;

/// Raises the soft limit to the hard limit, and logs a warning if that is too low for the configured
/// limits of connections.
pub(super) fn raise_limit(limits: &Limits) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
    let needed = needed(limits);
    // `None` is unlimited.
    if let Some(allowed) = getrlimit(Resource::Nofile).current
        && allowed < needed
    {
        tracing::warn!(
            allowed,
            needed,
            "the limit of open files is too low for limits.max_connections and limits.max_unauthenticated, set LimitNOFILE"
        );
    }
}

/// A session has two sockets, to its client and to its backend.
fn needed(limits: &Limits) -> u64 {
    let sockets = limits.max_connections + AdmissionControl::connections_max(limits);
    sockets as u64 + OTHER_FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_needs_two_files_and_the_limit_is_raised() {
        let limits = crate::config::Config::default().limits;
        assert_eq!(needed(&limits), 3 * 1000 + 300);
        raise_limit(&limits);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
