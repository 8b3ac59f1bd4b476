//! Runs a program of Postgres to its end.

use std::path::Path;
use std::process::Stdio;

use multidb_actors::ports::RuntimeError;
use nix::unistd::Uid;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::log_tail::Tail;
use super::{ProgramOutput, ProgramRun};

/// The most standard output that is kept.
const STDOUT_BYTES_MAX: u64 = 16 << 20;

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

/// Runs a program from this directory. When the future is dropped, it is killed together with its
/// children.
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
        // Ctrl-C at the daemon ends the whole import, not this program alone.
        .process_group(0)
        .kill_on_drop(true);
    let mut group = Group(command.spawn().map_err(failed)?);
    let stdout = group.0.stdout.take();
    let stderr = group.0.stderr.take();
    let (stdout, stderr_tail, status) =
        tokio::try_join!(beginning(stdout), tail(stderr), group.0.wait()).map_err(failed)?;
    Ok(ProgramOutput {
        success: status.success(),
        status: status.to_string(),
        stdout,
        stderr_tail,
    })
}

/// A program and its children (`initdb` runs `postgres`). Dropping it kills all of them.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // It has no id once it was waited for, so the number is still its own here.
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(%pid, %error, "a program was not killed");
        }
    }
}

/// The beginning of a stream. The rest is read and discarded.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream)
            .take(STDOUT_BYTES_MAX)
            .read_to_end(&mut kept)
            .await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// The last lines of a stream.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<String>> {
    let mut tail = Tail::default();
    if let Some(mut stream) = stream {
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece).await? {
                0 => break,
                length => tail.take(piece.get(..length).unwrap_or_default()),
            }
        }
    }
    Ok(tail.finish())
}
