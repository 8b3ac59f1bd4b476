//! The mechanisms of this kernel, and the rights of the daemon to use them.

use std::io;
use std::path::Path;

use libc::c_int;
use nix::unistd::Uid;

use super::Sandbox;
use crate::runtime::ProgramNetwork;
use crate::runtime::process::spawn::{Lifetime, Spawn};

/// The mechanisms that confine the servers of the process runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// The version of Landlock's interface; 0 without Landlock.
    landlock: u32,
    namespaces: Namespaces,
}

/// The namespaces that each process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime::process) enum Namespaces {
    /// None: the system refuses.
    None,
    /// Of mounts, process ids and System V's shared memory, by the rights of root.
    OfRoot,
    /// The same, by the rights of a user namespace.
    OfUser,
}

impl Namespaces {
    pub(in crate::runtime::process) fn clone_flags(self) -> c_int {
        const FLAGS: c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        match self {
            Self::None => 0,
            Self::OfRoot => FLAGS,
            Self::OfUser => FLAGS | libc::CLONE_NEWUSER,
        }
    }
}

impl Confinement {
    /// Finds out by trying. Blocks for a few milliseconds.
    pub fn probe() -> Self {
        let wanted = if Uid::effective().is_root() {
            Namespaces::OfRoot
        } else {
            Namespaces::OfUser
        };
        let mut found = Self {
            landlock: landlock_version(),
            namespaces: wanted,
        };
        if let Err(error) = found.try_namespaces() {
            tracing::debug!(%error, "no namespaces");
            found.namespaces = Namespaces::None;
        }
        found
    }

    /// Runs a program that does nothing.
    fn try_namespaces(&self) -> io::Result<()> {
        let nowhere = Path::new("/");
        let sandbox = Sandbox::new(self, nowhere, &[], &[], &[], ProgramNetwork::None)?;
        let sink = || std::fs::File::options().write(true).open("/dev/null");
        let spawned = Spawn {
            program: Path::new("/bin/true"),
            args: &[],
            env: &[],
            stdout: sink()?.into(),
            stderr: sink()?.into(),
            owner: (
                Uid::effective().as_raw(),
                nix::unistd::Gid::effective().as_raw(),
            ),
            sandbox: &sandbox,
            lifetime: Lifetime::OfThread,
        };
        spawned.spawn()?.release().map(drop)
    }

    pub(super) fn landlock(&self) -> u32 {
        self.landlock
    }

    pub(super) fn namespaces(&self) -> Namespaces {
        self.namespaces
    }

    /// Whether a server has shared memory, process ids and mounts of its own.
    pub(in crate::runtime::process) fn has_namespaces(&self) -> bool {
        self.namespaces != Namespaces::None
    }

    /// The attacks by a superuser of an instance, or by a dump, that a missing mechanism permits.
    pub fn gaps(&self) -> Vec<&'static str> {
        /// TCP came with the fourth version, signals and abstract sockets with the sixth.
        const TCP: u32 = 4;
        const SCOPES: u32 = 6;
        let mut gaps = Vec::new();
        if self.landlock == 0 {
            gaps.push(
                "without Landlock a superuser of an instance reads and writes all files of Postgres' user",
            );
        }
        if self.landlock < TCP {
            gaps.push("a superuser of an instance connects to the network by TCP");
        }
        if self.landlock < SCOPES {
            gaps.push("a superuser of an instance reaches abstract sockets");
        }
        if self.namespaces == Namespaces::None {
            gaps.push(
                "without namespaces a superuser of an instance connects to the sockets of other servers, and processes that a dump starts outlive its import",
            );
        }
        gaps
    }
}

fn landlock_version() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no attributes and returns a number.
    let version = unsafe {
        let none = std::ptr::null::<libc::c_void>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_those_of_the_missing_mechanisms() {
        let gaps = |landlock, namespaces| {
            let confinement = Confinement {
                landlock,
                namespaces,
            };
            confinement.gaps().len()
        };
        assert_eq!(gaps(7, Namespaces::OfRoot), 0);
        assert_eq!(gaps(6, Namespaces::OfUser), 0);
        assert_eq!(gaps(4, Namespaces::OfRoot), 1);
        assert_eq!(gaps(1, Namespaces::OfRoot), 2);
        assert_eq!(gaps(0, Namespaces::None), 4);
    }
}
