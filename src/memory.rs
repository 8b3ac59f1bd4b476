//! How much of the machine's memory is used: the actors' port [`Memory`]. And how the daemon gives back its own.
//!
//! A machine's memory is used where it is not available (`MemAvailable` of proc_meminfo(5)), so that pages that the
//! page cache could give back count as free. Each cgroup above the daemon that has a limit may be fuller than the
//! machine. Servers of the process runtime are in the daemon's own; servers in containers are not, but in the machine.
//! `sysinfo` reads only the limit of the topmost cgroup, and `procfs` none, so the few files are read here.

use std::fs;
use std::path::{Path, PathBuf};

use multidb_actors::ports::{Memory, MemoryUsage};

/// Where cgroups of version 2 are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The memory of this machine and of the daemon's cgroups.
#[derive(Debug, Clone)]
pub struct MachineMemory {
    meminfo: PathBuf,
    /// The cgroups with a limit of their own, as far as they can have one.
    cgroups: Vec<PathBuf>,
}

impl MachineMemory {
    /// Looks for the daemon's cgroups.
    pub fn new() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            meminfo: "/proc/meminfo".into(),
            cgroups: cgroups(&own, Path::new(CGROUPS)),
        }
    }
}

impl Default for MachineMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory for MachineMemory {
    fn usage(&self) -> Option<MemoryUsage> {
        let machine = fs::read_to_string(&self.meminfo).ok();
        let machine = machine.as_deref().and_then(of_machine);
        let cgroups = self.cgroups.iter().filter_map(|cgroup| of_cgroup(cgroup));
        machine
            .into_iter()
            .chain(cgroups)
            .max_by_key(|usage| usage.percent())
    }
}

/// Gives the pages that hold nothing any more back to the system. An allocator that only shortens its heaps keeps the
/// memory that one long answer needed for as long as anything behind it lives (malloc_trim(3)).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and frees nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A value of `/proc/meminfo`, in bytes.
pub(crate) fn of_meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line?.strip_prefix(':')?.split_whitespace().next()?;
    Some(number.parse::<u64>().ok()? << 10)
}

fn of_machine(meminfo: &str) -> Option<MemoryUsage> {
    let total_bytes = of_meminfo(meminfo, "MemTotal")?;
    let available = of_meminfo(meminfo, "MemAvailable")?;
    Some(MemoryUsage {
        used_bytes: total_bytes.saturating_sub(available),
        total_bytes,
    })
}

/// The cgroup of version 2 that this text of `/proc/self/cgroup` names, and the cgroups above it.
fn cgroups(own: &str, mount: &Path) -> Vec<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.map(|path| mount.join(path));
    let above = path.iter().flat_map(|path| path.ancestors());
    above
        .take_while(|path| path.starts_with(mount))
        .map(Path::to_owned)
        .collect()
}

/// The usage of a cgroup that has a limit, without the pages that its page cache could give back
/// (Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files").
fn of_cgroup(cgroup: &Path) -> Option<MemoryUsage> {
    let read = |name| fs::read_to_string(cgroup.join(name)).ok();
    let total_bytes = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat")?;
    let reclaimable = ["active_file", "inactive_file", "slab_reclaimable"].map(|name| {
        let lines = stat.lines().filter_map(|line| line.split_once(' '));
        let mut named = lines.filter(|(key, _)| *key == name);
        named
            .next()
            .and_then(|(_, value)| value.parse::<u64>().ok())
    });
    let reclaimable: u64 = reclaimable.into_iter().flatten().sum();
    Some(MemoryUsage {
        used_bytes: current.saturating_sub(reclaimable),
        total_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with 1000 KiB, of which 400 are available.
    fn machine(directory: &Path) -> MachineMemory {
        let meminfo = directory.join("meminfo");
        let text = "MemTotal:           1000 kB\nMemFree:    5 kB\nMemAvailable:    400 kB\n";
        fs::write(&meminfo, text).unwrap();
        MachineMemory {
            meminfo,
            cgroups: cgroups("1:cpu:/x\n0::/a/b\n", directory),
        }
    }

    fn limit(cgroup: &Path, max: &str, current: u64, cache: u64) {
        fs::create_dir_all(cgroup).unwrap();
        let stat = format!("anon 1\nactive_file {cache}\ninactive_file 1\nslab_reclaimable 1\n");
        let current = format!("{current}\n");
        for (name, text) in [
            ("memory.max", max),
            ("memory.current", &current),
            ("memory.stat", &stat),
        ] {
            fs::write(cgroup.join(name), text).unwrap();
        }
    }

    #[test]
    fn fullest_of_the_machine_and_the_cgroups_counts() {
        let directory = tempfile::tempdir().unwrap();
        let memory = machine(directory.path());
        let percent = || memory.usage().unwrap().percent();
        assert_eq!(percent(), 60);
        let [above, own] = ["a", "a/b"].map(|name| directory.path().join(name));
        limit(&own, "max\n", 1000, 0);
        assert_eq!(percent(), 60);
        limit(&above, "1000\n", 902, 200);
        assert_eq!(percent(), 70);
        limit(&own, "100\n", 92, 0);
        assert_eq!(percent(), 90);
        limit(&own, "100\n", 92, 85);
        assert_eq!(percent(), 70);
    }

    #[test]
    fn memory_of_this_machine_is_known() {
        let usage = MachineMemory::new().usage().unwrap();
        assert!((1..=100).contains(&usage.percent()), "{usage:?}");
        assert!(cgroups("4:memory:/x\n", Path::new(CGROUPS)).is_empty());
    }
}
