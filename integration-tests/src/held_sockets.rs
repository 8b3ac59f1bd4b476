//! Listening sockets of a daemon that are held while no daemon runs, as systemd does for its units of sockets.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::Daemon;

/// The backlog that systemd gives its sockets: the most that the kernel permits.
const BACKLOG: i32 = 4096;

/// Above the descriptors that a daemon gets them as.
const DESCRIPTOR_MIN: i32 = 10;

/// The sockets of a daemon's `listen`, and others.
pub struct HeldSockets(Vec<OwnedFd>);

impl HeldSockets {
    /// Listens in place of a daemon that does not run.
    pub fn of(daemon: &Daemon) -> Self {
        let unix = UnixListener::bind(daemon.unix_listener()).expect("the path is free");
        Self(vec![held(unix.into())]).and(daemon.port())
    }

    /// Listens on this port also.
    #[must_use]
    pub fn and(mut self, port: u16) -> Self {
        let tcp = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        self.0.push(held(tcp.into()));
        self
    }

    /// A command that runs this program with the sockets, as sd_listen_fds(3) has it.
    pub(crate) fn hand_over_to(&self, program: &Path) -> Command {
        let numbered = (3..).zip(&self.0);
        let redirections: String = numbered
            .map(|(number, socket)| format!(" {number}<&{}", socket.as_raw_fd()))
            .collect();
        let count = self.0.len();
        let script = format!(
            "exec{redirections}; export LISTEN_PID=$$ LISTEN_FDS={count}; exec \"$0\" \"$@\""
        );
        let mut command = Command::new("bash");
        command.args(["-c", &script]);
        command.arg(program);
        command
    }
}

/// The socket with a long backlog, as a descriptor that programs inherit.
fn held(socket: OwnedFd) -> OwnedFd {
    rustix::net::listen(&socket, BACKLOG).expect("a listening socket can get another backlog");
    let held = fcntl_dupfd_cloexec(&socket, DESCRIPTOR_MIN).expect("a descriptor is free");
    fcntl_setfd(&held, FdFlags::empty()).expect("a descriptor can be inherited");
    held
}
