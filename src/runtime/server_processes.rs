//! The processes of servers, found by their working directory: it is the data directory, in any pid namespace, and
//! regardless of a superuser's changes to the files in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use multidb_store::RuntimeKind;

use super::postmaster::{DirectoryId, Postmaster};

/// A process of a server: a postmaster or a backend.
pub(super) struct ServerProcess {
    pub(super) pid: i32,
    parent: i32,
    pub(super) postgres: Postmaster,
}

/// All processes of servers that have this data directory. Reads `/proc`, which takes a few milliseconds.
pub(super) fn of(data_dir: &Path) -> Vec<ServerProcess> {
    // Trusted path: the kernel's.
    let (Ok(entries), Ok(directory)) = (fs::read_dir("/proc"), DirectoryId::of(data_dir)) else {
        return Vec::new();
    };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    let process = |pid| {
        let postgres = Postmaster::of_pid(pid, directory)?;
        Some(ServerProcess {
            pid,
            parent: parent(pid)?,
            postgres,
        })
    };
    entries
        .flatten()
        .filter_map(pid)
        .filter_map(process)
        .collect()
}

/// Whether any process of a server has this data directory.
pub fn any(data_dir: &Path) -> bool {
    !of(data_dir).is_empty()
}

/// The kind of the server whose process has this data directory, if any has it.
pub(super) fn kind(data_dir: &Path) -> Option<RuntimeKind> {
    let process = of(data_dir).into_iter().next()?;
    Some(if process.is_in_our_namespace() {
        RuntimeKind::Process
    } else {
        RuntimeKind::Docker
    })
}

/// The postmaster among the processes of a server: the parent of others, which an orphan never is.
pub(super) fn postmaster(processes: &[ServerProcess]) -> Option<&ServerProcess> {
    let parents: BTreeSet<i32> = processes.iter().map(|process| process.parent).collect();
    processes
        .iter()
        .find(|process| parents.contains(&process.pid))
}

impl ServerProcess {
    /// Whether it is in the daemon's pid namespace. Otherwise it belongs to a sandbox or a container, in which
    /// `postmaster.pid` has another number for it.
    pub(super) fn is_in_our_namespace(&self) -> bool {
        // Trusted path: the kernel's.
        let namespace = |pid: &str| fs::read_link(Path::new("/proc").join(pid).join("ns/pid"));
        match (namespace(&self.pid.to_string()), namespace("self")) {
            (Ok(its), Ok(ours)) => its == ours,
            _ => false,
        }
    }
}

/// The parent of a process, by the fourth field of its `stat`. The second is its name in parentheses, and may contain
/// anything.
fn parent(pid: i32) -> Option<i32> {
    const PARENT: usize = 1;
    // Trusted path: the kernel's.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(PARENT)?.parse().ok()
}
