//! The resources of this process, by proc(5). `prometheus-client` has no collector for it, and `procfs` is much for
//! four numbers.

use std::fs;

use crate::memory::of_meminfo;

/// What the system knows of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// The processor time that it used, in seconds.
    pub cpu_seconds: f64,
    /// The memory that it has, in bytes.
    pub resident_bytes: u64,
    /// Its open files.
    pub open_files: u64,
    /// The most that it may have open.
    pub max_files: u64,
}

impl Process {
    /// This process, now; none where proc is not mounted.
    pub fn now() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Some(Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: of_meminfo(&status, "VmRSS")?,
            open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_files: limit.current.unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_measured() {
        let process = Process::now().unwrap();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.open_files >= 3 && process.open_files < process.max_files);
        assert!(process.cpu_seconds > 0.0);
    }
}
