//! Where a server or a program of the process runtime may reach.
//!
//! Two mechanisms, each of which this kernel or the daemon's rights may lack (see [`Confinement`]):
//!
//! - **Landlock** rules: files by path, no TCP, no signals and abstract sockets out of the sandbox, no
//!   look into other processes.
//! - **Namespaces** for the resources that Landlock does not cover: of mounts, so that the paths of other sockets are
//!   not there; of process ids, so that no descendant outlives the first process; of System V's shared
//!   memory. The daemon of an ordinary user also makes a user namespace, which gives it the right to.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

mod confinement;
mod landlock;
mod mounts;

pub use self::confinement::Confinement;
pub(super) use self::confinement::Namespaces;
pub(super) use self::mounts::{Mounts, TEMPORARY};
use crate::runtime::ProgramNetwork;

/// The sandbox of one process and its descendants.
pub(super) struct Sandbox {
    ruleset: Option<OwnedFd>,
    /// The rights in the directory of temporary files.
    temporary: u64,
    namespaces: Namespaces,
    hidden: PathBuf,
    visible: Vec<PathBuf>,
}

impl Sandbox {
    /// A sandbox with these directories to write, these to read, and the directories of Postgres' programs and their
    /// libraries. Of the rest below `root` nothing is there. TCP is as `network` says.
    ///
    /// # Errors
    ///
    /// A directory does not exist, or the system refuses.
    pub(super) fn new(
        confinement: &Confinement,
        root: &Path,
        programs: &[PathBuf],
        writable: &[PathBuf],
        readable: &[PathBuf],
        network: ProgramNetwork,
    ) -> io::Result<Self> {
        let mut visible: Vec<PathBuf> = landlock::READABLE.iter().map(PathBuf::from).collect();
        let others = [programs, readable, writable];
        visible.extend(others.into_iter().flatten().cloned());
        Ok(Self {
            ruleset: landlock::ruleset(programs, writable, readable, network)?,
            temporary: landlock::own_rights_of(confinement.landlock()),
            namespaces: confinement.namespaces(),
            hidden: root.to_owned(),
            visible,
        })
    }

    /// The Landlock rules; none if the kernel has no Landlock.
    pub(super) fn ruleset(&self) -> Option<&OwnedFd> {
        self.ruleset.as_ref()
    }

    /// The rights that the rules are to give in a directory for temporary files, which does not exist yet.
    pub(super) fn temporary_rights(&self) -> u64 {
        self.temporary
    }

    /// The namespaces of its own.
    pub(super) fn namespaces(&self) -> Namespaces {
        self.namespaces
    }

    /// The file system that it sees, if it has a mount namespace.
    pub(super) fn mounts(&self) -> io::Result<Option<Mounts>> {
        match self.namespaces {
            Namespaces::None => Ok(None),
            Namespaces::OfRoot | Namespaces::OfUser => {
                Mounts::new(&self.hidden, &self.visible).map(Some)
            }
        }
    }
}
