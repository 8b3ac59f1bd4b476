//! The first process of a pid namespace, beside the program.
//!
//! Orphans become its children. If the program were the first, a postmaster would take an orphan that
//! fails for a crashed backend, and end all sessions. It is a copy of the daemon that gives back the copy's memory.

use std::fs;
use std::mem;
use std::ptr;

use libc::{c_int, c_long, c_uint, c_void};

/// Mappings of the daemon's memory that the first process does not need: start and length.
pub(super) struct Unneeded(Vec<(usize, usize)>);

impl Unneeded {
    /// The anonymous memory of this process, but that of this thread, and the variables of a program or library,
    /// which follow its file.
    pub(super) fn find() -> Self {
        let here = 0_u8;
        // SAFETY: the pointer is used as a number only.
        let errno = unsafe { libc::__errno_location() }.addr();
        let needed = [(&raw const here).addr(), errno];
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut unneeded = Vec::new();
        let mut after_file = 0;
        for mapping in maps.lines().filter_map(Mapping::parse) {
            if mapping.is_file {
                after_file = mapping.end;
            } else if mapping.start != after_file && mapping.is_unneeded(needed) {
                unneeded.push((mapping.start, mapping.end - mapping.start));
            }
        }
        Self(unneeded)
    }

    /// Gives it back.
    ///
    /// # Safety
    ///
    /// Nothing uses it any more but this list, which is read before each part goes.
    unsafe fn release(&self) {
        let list = self.0.as_ptr();
        let length = self.0.len();
        let own = list.addr();
        for index in 0..length {
            // SAFETY: the list stays mapped, as the part that holds it is skipped.
            let (start, bytes) = unsafe { *list.add(index) };
            if (start..start.saturating_add(bytes)).contains(&own) {
                continue;
            }
            // SAFETY: by the caller.
            unsafe { libc::munmap(ptr::without_provenance_mut::<c_void>(start), bytes) };
        }
    }
}

/// A line of `/proc/self/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    end: usize,
    is_file: bool,
    is_memory: bool,
}

impl Mapping {
    /// Smaller ones are not worth it, and may be the dynamic linker's.
    const BYTES_MIN: usize = 128 << 10;

    /// Lines are such as `7f12-7f34 rw-p 00000000 00:00 0   [heap]`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let rights = fields.next()?;
        let is_file = fields.nth(2)? != "0";
        let name = fields.next().unwrap_or_default();
        Some(Self {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            is_file,
            is_memory: !is_file
                && rights == "rw-p"
                && (matches!(name, "" | "[heap]" | "[stack]") || name.starts_with("[anon")),
        })
    }

    fn is_unneeded(&self, needed: [usize; 2]) -> bool {
        let range = self.start..self.end;
        self.is_memory
            && range.len() >= Self::BYTES_MIN
            && !needed.iter().any(|address| range.contains(address))
    }
}

/// Waits for the program as the first process, and ends with its exit status.
///
/// # Safety
///
/// The process has one thread, and nothing but this runs in it any more.
pub(super) unsafe fn run(program: c_int, unneeded: &Unneeded) -> ! {
    // SAFETY: these take numbers, and memory of this function. Signals were blocked before the clone.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"multidb-init".as_ptr(), 0, 0, 0);
        // Among them the sockets and locks of the daemon.
        let all: c_uint = c_uint::MAX;
        if libc::syscall(libc::SYS_close_range, 0 as c_uint, all, 0 as c_uint) != 0 {
            for fd in 0..libc::sysconf(libc::_SC_OPEN_MAX) as c_int {
                libc::close(fd);
            }
        }
        unneeded.release();
        let mut signals: libc::sigset_t = mem::zeroed();
        let passed_on = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];
        for signal in passed_on.into_iter().chain([libc::SIGCHLD]) {
            libc::sigaddset(&raw mut signals, signal);
        }
        loop {
            match libc::sigwaitinfo(&raw const signals, ptr::null_mut()) {
                libc::SIGCHLD => reap(program),
                // The daemon stops a server by some of these.
                signal if signal > 0 => {
                    libc::kill(program, signal);
                }
                _ => {}
            }
        }
    }
}

/// Reaps all that have ended; ends with the program.
unsafe fn reap(program: c_int) {
    // SAFETY: the status is memory of this function.
    unsafe {
        let mut status: c_int = 0;
        loop {
            let pid = libc::waitpid(-1, &raw mut status, libc::WNOHANG);
            if pid <= 0 {
                return;
            }
            if pid != program {
                continue;
            }
            if libc::WIFEXITED(status) {
                libc::_exit(libc::WEXITSTATUS(status));
            }
            // The first process of a namespace cannot end itself by a signal. A shell exits with the same status.
            libc::_exit(128 + libc::WTERMSIG(status));
        }
    }
}

/// Makes a child, as fork(2), without the C library's work for other threads.
///
/// # Safety
///
/// The process has one thread.
pub(super) unsafe fn fork() -> c_int {
    // SAFETY: without CLONE_VM the child has a copy of the memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone, c_long::from(libc::SIGCHLD), 0, 0, 0, 0) };
    // A process id, or -1.
    pid as c_int
}

/// Blocks all signals.
///
/// # Safety
///
/// As for sigprocmask(2).
pub(super) unsafe fn block_signals() {
    // SAFETY: the set is initialized by sigfillset.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_of_others_is_not_needed() {
        let is_unneeded = |line: &str| {
            Mapping::parse(line).is_some_and(|mapping| mapping.is_unneeded([0x180_0000, 9]))
        };
        for unneeded in [
            "2000000-3000000 rw-p 00000000 00:00 0   [heap]",
            "2000000-3000000 rw-p 00000000 00:00 0",
        ] {
            assert!(is_unneeded(unneeded), "{unneeded}");
        }
        for needed in [
            "1000000-2000000 rw-p 00000000 00:00 0",
            "2000000-3000000 r-xp 00000000 00:00 0",
            "2000000-3000000 rw-p 00000000 08:01 77 /usr/bin/multidb",
            "2000000-3000000 rw-p 00000000 00:00 0 [vdso]",
            "2000000-2001000 rw-p 00000000 00:00 0",
            "nonsense",
        ] {
            assert!(!is_unneeded(needed), "{needed}");
        }
    }
}
