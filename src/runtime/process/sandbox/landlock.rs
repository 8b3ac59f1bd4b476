//! The Landlock rules.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::fsutil::unless_missing;
use crate::runtime::ProgramNetwork;

/// The newest version of the interface whose rights are asked for; older kernels give the rights that they have.
const NEWEST: ABI = ABI::V9;

/// Programs, libraries and their data: everything there is for all users.
const PROGRAMS: [&str; 10] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt/homebrew",
    "/nix/store",
    "/gnu/store",
];

/// The files that Postgres and the C library read besides: users, time zone, names of hosts, dictionaries, processors.
pub(super) const READABLE: [&str; 17] = [
    "/etc/group",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system",
    // Debian's dictionaries for text search are links to files there.
    "/var/cache/postgresql",
];

const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Rules for a process that may write in some directories, and read others and Postgres' programs, with their libraries. None if the
/// kernel has no Landlock.
pub(super) fn ruleset(
    programs: &[PathBuf],
    writable: &[PathBuf],
    readable: &[PathBuf],
    network: ProgramNetwork,
) -> io::Result<Option<OwnedFd>> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = read | AccessFs::Execute;
    let own = own_rights(NEWEST);
    let mut rules = Rules::new(network).map_err(io::Error::other)?;
    let everywhere = PROGRAMS.iter().map(Path::new);
    for path in everywhere.chain(programs.iter().map(PathBuf::as_path)) {
        rules.allow_existing(path, execute)?;
    }
    for path in READABLE {
        rules.allow_existing(Path::new(path), read)?;
    }
    for path in DEVICES {
        rules.allow_existing(Path::new(path), AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    for path in readable {
        rules.allow(path, read)?;
    }
    for path in writable {
        rules.allow(path, own)?;
    }
    Ok(rules.0.into())
}

/// The rights in a process's own directories. A program that it wrote itself is not executed, and devices it does
/// not need.
fn own_rights(abi: ABI) -> BitFlags<AccessFs> {
    AccessFs::from_all(abi)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

/// The same, as this kernel takes them in a system call.
pub(super) fn own_rights_of(version: u32) -> u64 {
    own_rights(ABI::from(version.cast_signed()).min(NEWEST)).bits()
}

struct Rules(RulesetCreated);

impl Rules {
    fn new(network: ProgramNetwork) -> Result<Self, RulesetError> {
        // No rule follows for the handled rights of TCP, so none of them is allowed.
        let tcp = match network {
            ProgramNetwork::None => AccessNet::BindTcp | AccessNet::ConnectTcp,
            ProgramNetwork::Host => AccessNet::BindTcp.into(),
        };
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(tcp)?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
        ruleset.create().map(Self)
    }

    fn allow_existing(&mut self, path: &Path, access: BitFlags<AccessFs>) -> io::Result<()> {
        unless_missing(self.allow(path, access))
    }

    fn allow(&mut self, path: &Path, access: BitFlags<AccessFs>) -> io::Result<()> {
        let is_directory = fs::metadata(path)?.is_dir();
        let access = if is_directory {
            access
        } else {
            access & AccessFs::from_file(NEWEST)
        };
        let opened = PathFd::new(path).map_err(io::Error::other)?;
        let rule = PathBeneath::new(opened, access);
        (&mut self.0).add_rule(rule).map_err(io::Error::other)?;
        Ok(())
    }
}
