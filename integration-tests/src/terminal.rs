//! Programs on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Runs a command to its end on a new terminal on which `answer` is typed: its exit
/// code, and the terminal's whole output.
#[track_caller]
pub fn run_on_terminal(command: &mut Command, answer: &str) -> (Option<i32>, String) {
    let (mut ours, theirs) = open();
    let end = || Stdio::from(theirs.try_clone().expect("a file handle can be cloned"));
    let mut child = command
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .env("LC_ALL", "C.UTF-8")
        .spawn()
        .unwrap_or_else(|error| panic!("{:?} cannot be run: {error}", command.get_program()));
    // The command's copies of the descriptors would keep the terminal open.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    drop(theirs);
    ours.write_all(answer.as_bytes())
        .expect("a terminal takes what is typed");
    let mut shown = Vec::new();
    // A closed terminal reads as an error (EIO).
    let _end = ours.read_to_end(&mut shown);
    let status = child.wait().expect("a child can be waited for");
    (status.code(), String::from_utf8_lossy(&shown).into_owned())
}

/// Both ends of a new terminal.
fn open() -> (File, File) {
    let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("a terminal can be made");
    grantpt(&ours).expect("a terminal can be granted");
    unlockpt(&ours).expect("a terminal can be unlocked");
    let name = ptsname(&ours, Vec::new()).expect("a terminal has a name");
    let path = PathBuf::from(name.to_str().expect("its name is plain"));
    let theirs = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a terminal can be opened");
    (ours.into(), theirs)
}
