//! The versions that programs print, in bounded time and size: any program with such a name in PATH is run.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::Instant;

use crate::process_group::ProcessGroup;

const TIMEOUT: Duration = Duration::from_secs(10);
const VERSION_BYTES_MAX: usize = 4096;
const LISTING_BYTES_MAX: usize = 64 << 10;

/// The output of the program with `--version`, or its beginning.
///
/// # Errors
///
/// It cannot be run, or does not end its output in time.
pub fn version_of(program: &Path) -> io::Result<String> {
    version_within(program, TIMEOUT)
}

/// The shared libraries that the dynamic loader finds for the program, a line for each, as `ldd` prints them
/// (ld.so(8), `LD_TRACE_LOADED_OBJECTS`).
///
/// # Errors
///
/// It cannot be run, or does not end its output in time.
pub(super) fn listing_of(program: &Path) -> io::Result<String> {
    let mut command = Command::new(program);
    // A loader that does not know the variable runs the program, which ends by this.
    command.arg("--version").env("LD_TRACE_LOADED_OBJECTS", "1");
    output_within(command, TIMEOUT, LISTING_BYTES_MAX)
}

fn version_within(program: &Path, timeout: Duration) -> io::Result<String> {
    let mut command = Command::new(program);
    command.arg("--version");
    output_within(command, timeout, VERSION_BYTES_MAX)
}

fn output_within(mut command: Command, timeout: Duration, bytes_max: usize) -> io::Result<String> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut group = ProcessGroup(child);
    let read = read(&mut group.0, Instant::now() + timeout, bytes_max)?;
    Ok(String::from_utf8_lossy(&read).trim().to_owned())
}

fn read(child: &mut Child, deadline: Instant, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(kept);
    };
    while kept.len() < bytes_max {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut piece = [0; 512];
        match stdout.read(&mut piece)? {
            0 => break,
            length => kept.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
    kept.truncate(bytes_max);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The result of a shell script as the program.
    fn script(text: &str, timeout: Duration) -> io::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        // Written by another process: a child that another test forks meanwhile would keep it open.
        let written = Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
            .arg(&program)
            .arg(format!("#!/bin/sh\n{text}\n"))
            .status();
        assert!(written.unwrap().success());
        assert_eq!(
            fs::metadata(&program).unwrap().permissions().mode() & 0o777,
            0o755
        );
        version_within(&program, timeout)
    }

    #[test]
    fn program_that_prints_without_end_or_not_at_all_is_ended() {
        let timeout = Duration::from_secs(30);
        let said = script("echo \"$0 15.3\" | sed 's,.*/,,'", timeout);
        assert_eq!(said.unwrap(), "program 15.3");
        let said = script("while :; do echo 1234567; done", timeout);
        assert_eq!(said.unwrap().len(), VERSION_BYTES_MAX - 1);
        let began = Instant::now();
        let error = script("sleep 1000 & sleep 1000", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < timeout);
        let missing = version_of(Path::new("/nonexistent/program")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
