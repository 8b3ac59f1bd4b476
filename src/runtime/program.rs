//! Runs a program of Postgres to its end.

use std::path::Path;
use std::process::Stdio;

use multidb_actors::ports::RuntimeError;
use nix::unistd::Uid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::{ProgramOutput, ProgramRun};

/// The most standard output that is kept.
const STDOUT_BYTES_MAX: u64 = 16 << 20;
/// The last lines of standard error that are kept.
const STDERR_LINES_MAX: usize = 20;

/// Gives a command the data owner's identity and a small, known environment.
pub(super) fn set_identity(command: &mut Command, (uid, gid): (u32, u32)) {
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    if Uid::effective().is_root() {
        // As root, the standard library drops the supplementary groups too.
        command.uid(uid).gid(gid);
    }
}

/// Runs a program from this directory. It is killed when the future is dropped.
pub(super) async fn run(
    directory: &Path,
    run: &ProgramRun,
    owner: (u32, u32),
) -> Result<ProgramOutput, RuntimeError> {
    let program = directory.join(run.program);
    let failed = |error: std::io::Error| RuntimeError {
        message: format!("cannot run {}: {error}", program.display()),
        hint: None,
    };
    let mut command = Command::new(&program);
    set_identity(&mut command, owner);
    command
        .args(&run.args)
        .envs(run.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let read_stdout = async {
        let mut kept = Vec::new();
        if let Some(mut stdout) = stdout {
            (&mut stdout)
                .take(STDOUT_BYTES_MAX)
                .read_to_end(&mut kept)
                .await?;
            tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await?;
        }
        Ok(kept)
    };
    let read_stderr = async {
        let mut tail = std::collections::VecDeque::new();
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Some(line) = lines.next_segment().await? {
                if tail.len() == STDERR_LINES_MAX {
                    tail.pop_front();
                }
                tail.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        }
        Ok(Vec::from(tail))
    };
    let (stdout, stderr_tail, status) =
        tokio::try_join!(read_stdout, read_stderr, child.wait()).map_err(failed)?;
    Ok(ProgramOutput {
        success: status.success(),
        status: status.to_string(),
        stdout,
        stderr_tail,
    })
}
