//! Starts a program in a sandbox, as one process that outlives the daemon.
//!
//! ```text
//! daemon: clone ─▶ writes what it must know ─▶ release ──────────────▶ reads the report
//! child:  └─▶ waits for the release ─▶ mounts, identity, Landlock ─▶ exec
//! ```
//!
//! A daemon that dies before the release leaves nothing: the child then ends. Namespaces have to be
//! made by the clone itself, which the standard library cannot do.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::{Gid, Uid};
use rustix::process::Pid;

mod child;
mod init;
mod process;

use self::child::{Child, Failure, Pointers};
use self::init::Unneeded;
pub(super) use self::process::Process;
use super::identity::ProcessIdentity;
use super::sandbox::{Namespaces, Sandbox};

/// The environment of every program.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("LC_ALL", "C.UTF-8"),
];

/// A program to start.
pub(super) struct Spawn<'a> {
    /// The program.
    pub(super) program: &'a Path,
    /// Its arguments.
    pub(super) args: &'a [String],
    /// Environment variables beyond the ones that every program gets.
    pub(super) env: &'a [(String, String)],
    /// Its standard output.
    pub(super) stdout: OwnedFd,
    /// Its standard error.
    pub(super) stderr: OwnedFd,
    /// The user and the group that it runs as, if the daemon is root.
    pub(super) owner: (u32, u32),
    /// Where it may reach.
    pub(super) sandbox: &'a Sandbox,
    /// When it ends at the latest.
    pub(super) lifetime: Lifetime,
}

/// When a process ends at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// It may outlive the daemon, as servers do.
    Own,
    /// With the thread of the daemon that starts it.
    OfThread,
}

/// A process that waits for its release. Dropping it ends it.
pub(super) struct Spawned {
    process: Process,
    channel: UnixStream,
}

impl Spawn<'_> {
    /// Starts the process, which waits for its release.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(super) fn spawn(self) -> io::Result<Spawned> {
        let (channel, child_channel) = UnixStream::pair()?;
        let null = File::options().read(true).open("/dev/null")?;
        let args = std::iter::once(Ok(c_path(self.program)?))
            .chain(self.args.iter().map(|arg| c_string(arg.as_bytes())))
            .collect::<io::Result<Vec<_>>>()?;
        let known = ENVIRONMENT.iter().copied();
        let own = self.env.iter().map(|(name, value)| (&**name, &**value));
        let env = known
            .filter(|(name, _)| !self.env.iter().any(|(own, _)| own == name))
            .chain(own)
            .map(|(name, value)| c_string(format!("{name}={value}").as_bytes()))
            .collect::<io::Result<Vec<_>>>()?;
        let is_root = Uid::effective().is_root();
        let namespaces = self.sandbox.namespaces();
        let mut child = Child {
            channel: child_channel.as_raw_fd(),
            daemon_channel: channel.as_raw_fd(),
            args: Pointers::new(args),
            env: Pointers::new(env),
            streams: [
                null.as_raw_fd(),
                self.stdout.as_raw_fd(),
                self.stderr.as_raw_fd(),
            ],
            identity: is_root.then_some(self.owner),
            ruleset: self.sandbox.ruleset().map(AsRawFd::as_raw_fd),
            mounts: self.sandbox.mounts()?,
            temporary_rights: self.sandbox.temporary_rights(),
            lifetime: self.lifetime,
            init: (namespaces != Namespaces::None).then(Unneeded::find),
        };
        let process = Process::clone_with(namespaces.clone_flags(), &mut child)?;
        // The child has a copy; without this one, its end is noticed.
        drop(child_channel);
        if namespaces == Namespaces::OfUser {
            map_own_user(process.pid())?;
        }
        Ok(Spawned { process, channel })
    }
}

impl Spawned {
    /// Which process it is.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub(super) fn identity(&self) -> io::Result<ProcessIdentity> {
        ProcessIdentity::of(self.process.pid().as_raw_nonzero().get())
    }

    /// Lets it run the program, and returns once it does.
    ///
    /// # Errors
    ///
    /// A step before that failed.
    pub(super) fn release(self) -> io::Result<Process> {
        let Self {
            process,
            mut channel,
        } = self;
        channel.write_all(&[1])?;
        let mut report = Vec::new();
        channel.read_to_end(&mut report)?;
        match Failure::parse(&report) {
            Some(failure) => Err(failure.into()),
            None if report.is_empty() => Ok(process),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Maps the daemon's own user and group, alone, into the user namespace of a child.
fn map_own_user(pid: Pid) -> io::Result<()> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1")),
        ("gid_map", format!("{gid} {gid} 1")),
    ] {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        File::options()
            .write(true)
            .open(path)?
            .write_all(content.as_bytes())?;
    }
    Ok(())
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A path for a system call.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    c_string(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sandbox::Confinement;
    use super::*;
    use crate::runtime::ProgramNetwork;

    #[tokio::test]
    async fn child_that_is_never_released_ends_with_the_daemons_end_of_its_channel() {
        let sandbox = |confinement| {
            let nowhere = Path::new("/");
            Sandbox::new(confinement, nowhere, &[], &[], &[], ProgramNetwork::None).unwrap()
        };
        let confinement = Confinement::probe();
        let sandbox = sandbox(&confinement);
        let spawn = || {
            let sink = || File::options().write(true).open("/dev/null").unwrap();
            let spawn = Spawn {
                program: Path::new("/bin/true"),
                args: &[],
                env: &[],
                stdout: sink().into(),
                stderr: sink().into(),
                owner: (Uid::effective().as_raw(), Gid::effective().as_raw()),
                sandbox: &sandbox,
                lifetime: Lifetime::Own,
            };
            spawn.spawn().unwrap()
        };
        // Each later one has a copy of the daemon's end of the earlier ones.
        let waiting = [spawn(), spawn(), spawn()];
        let (processes, channels): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .map(|spawned| (spawned.process, spawned.channel))
            .unzip();
        drop(channels);
        for mut process in processes {
            let ended = tokio::time::timeout(Duration::from_secs(30), process.wait()).await;
            assert_eq!(ended.unwrap().unwrap().code(), Some(1));
        }
    }
}
