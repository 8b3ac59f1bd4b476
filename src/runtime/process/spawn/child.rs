//! The steps of a child between the clone and the exec.
//!
//! It is a copy of one thread of the daemon, while the others' locks are in any state. So it makes
//! system calls only, on memory that was prepared before: no allocation, no lock, no panic.

use std::ffi::CString;
use std::io;
use std::ptr;

use libc::{c_char, c_int, c_long, c_uint};

use super::Lifetime;
use super::init::{self, Unneeded};
use crate::runtime::process::sandbox::{Mounts, TEMPORARY};

/// The size of a report: the step, and the error's number.
const REPORT_BYTES: usize = 8;

/// Everything that the child needs.
pub(super) struct Child {
    /// Its end of the channel: it reads the release, and reports a failure.
    pub(super) channel: c_int,
    /// Its copy of the daemon's end.
    pub(super) daemon_channel: c_int,
    /// The program and its arguments.
    pub(super) args: Pointers,
    /// The environment.
    pub(super) env: Pointers,
    /// Standard input, output and error.
    pub(super) streams: [c_int; 3],
    /// The user and the group to become.
    pub(super) identity: Option<(u32, u32)>,
    /// The Landlock rules.
    pub(super) ruleset: Option<c_int>,
    /// The file system that it sees.
    pub(super) mounts: Option<Mounts>,
    /// The rights that the rules give in the directory of temporary files, once it is mounted.
    pub(super) temporary_rights: u64,
    /// Whether it is killed with the thread that starts it.
    pub(super) lifetime: Lifetime,
    /// Whether the program gets a first process of its pid namespace beside it, and the memory that the first process
    /// gives back.
    pub(super) init: Option<Unneeded>,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: c_int,
}

/// Strings, and the array of pointers to them that execve(2) wants.
pub(super) struct Pointers {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Pointers {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr());
        let pointers = pointers.chain([ptr::null()]).collect();
        Self { strings, pointers }
    }
}

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Streams = 1,
    Mounts,
    Identity,
    Landlock,
    Fork,
    Program,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::Streams,
        Self::Mounts,
        Self::Identity,
        Self::Landlock,
        Self::Fork,
        Self::Program,
    ];

    fn action(self) -> &'static str {
        match self {
            Self::Streams => "prepare its descriptors",
            Self::Mounts => "hide the rest of the file system from it",
            Self::Identity => "become its user",
            Self::Landlock => "apply its Landlock rules",
            Self::Fork => "make its process",
            Self::Program => "execute it",
        }
    }
}

/// A failure that the child reported.
#[derive(Debug)]
pub(super) struct Failure {
    step: Step,
    errno: i32,
}

impl Failure {
    pub(super) fn parse(report: &[u8]) -> Option<Self> {
        let report: [u8; REPORT_BYTES] = report.try_into().ok()?;
        let [a, b, c, d, e, f, g, h] = report;
        let step = i32::from_ne_bytes([a, b, c, d]);
        let step = Step::ALL.into_iter().find(|known| *known as i32 == step)?;
        let errno = i32::from_ne_bytes([e, f, g, h]);
        Some(Self { step, errno })
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let cause = Self::from_raw_os_error(failure.errno);
        Self::new(
            cause.kind(),
            format!("cannot {}: {cause}", failure.step.action()),
        )
    }
}

impl Child {
    /// Becomes the program, or reports the step that failed and ends.
    ///
    /// # Safety
    ///
    /// The process has one thread, and memory of its own.
    pub(super) unsafe fn run(&mut self) -> ! {
        let mut release = 0_u8;
        // SAFETY: the buffer has one byte; the rest takes numbers, or memory that this owns.
        unsafe {
            // The daemon's handlers must not run here.
            init::block_signals();
            // Otherwise it would not notice the end of the daemon.
            libc::close(self.daemon_channel);
            loop {
                match libc::read(self.channel, (&raw mut release).cast(), 1) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    // The daemon has gone, or does not want it any more.
                    _ => libc::_exit(1),
                }
            }
            let step = self.prepare();
            let [errno_a, errno_b, errno_c, errno_d] = (*libc::__errno_location()).to_ne_bytes();
            let [a, b, c, d] = (step as i32).to_ne_bytes();
            let report = [a, b, c, d, errno_a, errno_b, errno_c, errno_d];
            let _written = libc::write(self.channel, report.as_ptr().cast(), REPORT_BYTES);
            libc::_exit(127)
        }
    }

    /// Returns only after a failure, which `errno` tells.
    unsafe fn prepare(&mut self) -> Step {
        // SAFETY: as for `run`.
        unsafe {
            if !self.prepare_streams() {
                return Step::Streams;
            }
            if let Some(mounts) = &mut self.mounts
                && !mounts.apply()
            {
                return Step::Mounts;
            }
            if !self.become_user() || !self.tie_to_daemon() {
                return Step::Identity;
            }
            if !self.restrict() {
                return Step::Landlock;
            }
            if let Some(unneeded) = &self.init {
                match init::fork() {
                    -1 => return Step::Fork,
                    0 => {}
                    program => init::run(program, unneeded),
                }
            }
            if !self.reset_process() {
                return Step::Program;
            }
            let program = self.args.strings.as_ptr();
            if !program.is_null() {
                let (args, env) = (self.args.pointers.as_ptr(), self.env.pointers.as_ptr());
                libc::execve((*program).as_ptr(), args, env);
            }
            Step::Program
        }
    }

    unsafe fn prepare_streams(&self) -> bool {
        // SAFETY: the descriptors are open.
        unsafe {
            for (target, source) in (0..).zip(self.streams) {
                if libc::dup2(source, target) < 0 {
                    return false;
                }
            }
            // Ctrl-C at the daemon must not reach it.
            libc::setpgid(0, 0);
            libc::chdir(c"/".as_ptr()) == 0
        }
    }

    /// Undoes the settings that concern the daemon alone.
    unsafe fn reset_process(&self) -> bool {
        // SAFETY: the signal set is initialized by sigemptyset.
        unsafe {
            // Rust ignores SIGPIPE, and an ignored signal stays so.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) == 0
        }
    }

    /// By bare system calls: the functions of the C library would do it for threads that are not here.
    unsafe fn become_user(&self) -> bool {
        let Some((uid, gid)) = self.identity else {
            return true;
        };
        let no_groups = (0_usize, ptr::null::<libc::gid_t>());
        // SAFETY: these take numbers only.
        unsafe {
            libc::syscall(libc::SYS_setgroups, no_groups.0, no_groups.1) == 0
                && libc::syscall(libc::SYS_setgid, c_long::from(gid)) == 0
                && libc::syscall(libc::SYS_setuid, c_long::from(uid)) == 0
        }
    }

    /// After the change of the user, which would undo it. In a pid namespace of its own, the descendants end with it.
    unsafe fn tie_to_daemon(&self) -> bool {
        match self.lifetime {
            Lifetime::Own => true,
            // SAFETY: this takes numbers only.
            Lifetime::OfThread => unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) == 0
            },
        }
    }

    unsafe fn restrict(&self) -> bool {
        const NO_FLAGS: c_uint = 0;
        // SAFETY: these take numbers only, and the descriptor is open.
        unsafe {
            // It and its children gain nothing by setuid programs, such as sudo or su.
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                return false;
            }
            let Some(ruleset) = self.ruleset else {
                return true;
            };
            let has_temporary = self.mounts.as_ref().is_some_and(Mounts::has_temporary);
            (!has_temporary || self.allow_temporary(ruleset))
                && libc::syscall(libc::SYS_landlock_restrict_self, ruleset, NO_FLAGS) == 0
        }
    }

    unsafe fn allow_temporary(&self, ruleset: c_int) -> bool {
        const PATH_BENEATH: c_int = 1;
        const NO_FLAGS: c_uint = 0;
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        // SAFETY: the path ends in a zero byte, and the rule is as the kernel declares it.
        unsafe {
            let rule = PathBeneath {
                allowed_access: self.temporary_rights,
                parent: libc::open(TEMPORARY.as_ptr(), flags),
            };
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset,
                PATH_BENEATH,
                &raw const rule,
                NO_FLAGS,
            ) == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_of_a_child_names_the_step() {
        let mut report = (Step::Program as i32).to_ne_bytes().to_vec();
        report.extend(libc::ENOENT.to_ne_bytes());
        let error = io::Error::from(Failure::parse(&report).unwrap());
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(
            error
                .to_string()
                .starts_with("cannot execute it: No such file")
        );
        assert!(Failure::parse(b"").is_none());
        assert!(Failure::parse(&[9; REPORT_BYTES]).is_none());
    }
}
