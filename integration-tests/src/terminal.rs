//! Programs on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::poll::poll;

const TIMEOUT: Duration = Duration::from_secs(60);

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

/// A program on a new terminal that a test looks at and types on.
pub struct Terminal {
    ours: File,
    theirs: File,
    child: Child,
    written: Arc<Mutex<Written>>,
}

/// The output to a terminal.
struct Written {
    bytes: Vec<u8>,
    screen: vt100::Parser,
}

impl Terminal {
    /// Runs a command on a terminal of this size.
    #[track_caller]
    pub fn run(command: &mut Command, columns: u16, rows: u16) -> Self {
        let (ours, theirs) = open();
        tcsetwinsize(&theirs, size(columns, rows)).expect("a terminal has a size");
        let end = || Stdio::from(theirs.try_clone().expect("a file handle can be cloned"));
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .spawn();
        let program = command.get_program();
        let child = child.unwrap_or_else(|error| panic!("{program:?} cannot be run: {error}"));
        let written = Arc::new(Mutex::new(Written {
            bytes: Vec::new(),
            screen: vt100::Parser::new(rows, columns, 0),
        }));
        let mut reader = ours.try_clone().expect("a file handle can be cloned");
        let kept = written.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A closed terminal reads as an error (EIO).
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.bytes.extend_from_slice(&buffer[..count]);
                kept.screen.process(&buffer[..count]);
            }
        });
        Self {
            ours,
            theirs,
            child,
            written,
        }
    }

    /// Everything that was written to it so far.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// The text on it now.
    pub fn shown(&self) -> String {
        self.lock().screen.screen().contents()
    }

    /// Whether it is as a shell expects it: it echoes typed text and hands it on by lines, and shows its first screen
    /// and the cursor.
    pub fn is_restored(&self) -> bool {
        let modes = tcgetattr(&self.theirs).expect("a terminal has modes");
        let written = self.lock();
        let screen = written.screen.screen();
        let as_expected = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        modes.local_modes.contains(as_expected)
            && !screen.alternate_screen()
            && !screen.hide_cursor()
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a text is seen on it.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.wait_until(text, |shown| shown.contains(text));
    }

    /// Waits until its text is as wanted.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_wanted: impl Fn(&str) -> bool) {
        poll(what, TIMEOUT, || {
            let shown = self.shown();
            match is_wanted(&shown) {
                true => Ok(()),
                false => Err(shown),
            }
        });
    }

    /// Waits for the program's end, after which the terminal must be as it was: its exit code.
    #[track_caller]
    pub fn wait_restored(&mut self) -> Option<i32> {
        let code = self.child.wait().expect("a child can be waited for").code();
        poll("the terminal is as it was", TIMEOUT, || {
            match self.is_restored() {
                true => Ok(()),
                false => Err(self.shown()),
            }
        });
        code
    }

    /// Gives it another size, of which the program is told.
    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.theirs, size(columns, rows)).expect("a terminal has a size");
        self.lock().screen.screen_mut().set_size(rows, columns);
        self.signal(Signal::WINCH);
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        self.ours
            .write_all(text.as_bytes())
            .expect("a terminal takes what is typed");
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has an id");
        kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
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
