//! A program that is told of an event.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, Command};

use super::AttemptError;
use super::message::{Message, printable};
use crate::process_group::ProcessGroup;

/// The part of a program's messages that is kept: their end, which has the error.
const STDERR_BYTES_MAX: usize = 500;

/// Runs the program with the message on its standard input, until it and everything that writes to its standard error
/// have ended. Its process group is killed when this is dropped.
pub(super) async fn run(command: &[String], message: &Message) -> Result<(), AttemptError> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| AttemptError::lasting("names no program"))?;
    let child = Command::new(program)
        .args(arguments)
        .env("MULTIDB_EVENT", message.event_word())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| AttemptError::lasting(format!("cannot be run: {error}")))?;
    let mut group = ProcessGroup(child);
    let (stdin, stderr) = (group.0.stdin.take(), group.0.stderr.take());
    let ((), messages) = tokio::join!(write(stdin, message), tail(stderr));
    let status = group.0.wait().await;
    let status = status.map_err(|error| AttemptError::passing(error.to_string()))?;
    if status.success() {
        if !messages.is_empty() {
            tracing::info!(program, messages, "the program of a notification says");
        }
        return Ok(());
    }
    Err(AttemptError::passing(match messages.as_str() {
        "" => format!("failed with {status}"),
        messages => format!("failed with {status}: {messages}"),
    }))
}

/// A program need not read it.
async fn write(stdin: Option<ChildStdin>, message: &Message) {
    if let Some(mut stdin) = stdin
        && let Err(error) = stdin.write_all(message.body()).await
    {
        tracing::debug!(%error, "the program of a notification did not read it");
    }
}

/// The end of its standard error, in one line.
async fn tail(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    }
    printable(String::from_utf8_lossy(&kept).trim(), STDERR_BYTES_MAX)
}
