//! The output of a container: its last lines for people, all of it for the instance's log.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::{Stream, StreamExt};
use multidb_actors::ports::RuntimeError;
use multidb_store::InstanceUid;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Inner;
use super::engine::{CALL_TIMEOUT, CallError, Engine};
use crate::runtime::log_tail;

/// The limit of silence while the engine sends a log.
const SILENCE_TIMEOUT: Duration = CALL_TIMEOUT;

/// The most of a container's output that is kept for its last lines.
const TAIL_BYTES: usize = 1 << 20;

impl Engine {
    /// The last lines of the output of a container.
    pub(super) async fn log_tail(
        &self,
        name: &str,
        lines: usize,
    ) -> Result<Vec<String>, CallError> {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string())
            .build();
        let mut text = Vec::new();
        let mut chunks = pin!(self.docker()?.logs(name, Some(options)));
        while let Some(chunk) = self.next_chunk(&mut chunks).await? {
            text.extend_from_slice(chunk.as_ref());
            // A line can be as long as the log.
            if text.len() > 2 * TAIL_BYTES {
                text.drain(..text.len() - TAIL_BYTES);
            }
        }
        Ok(last_lines(&text, lines))
    }

    /// Appends the output of a container to `log`. The log is renamed each time that it has reached its limit, so all
    /// output of a container takes no more than two files.
    pub(super) async fn save_log(&self, name: &str, log: &Path) -> Result<(), RuntimeError> {
        let failed = |error: std::io::Error| RuntimeError {
            for_clients: false,
            message: format!("cannot append to {}: {error}", log.display()),
            hint: None,
        };
        let (mut file, mut length) = open_log(log).await.map_err(failed)?;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut chunks = pin!(self.docker()?.logs(name, Some(options)));
        while let Some(chunk) = self.next_chunk(&mut chunks).await? {
            if length >= log_tail::LOG_BYTES_MAX {
                file.flush().await.map_err(failed)?;
                (file, length) = open_log(log).await.map_err(failed)?;
            }
            file.write_all(chunk.as_ref()).await.map_err(failed)?;
            length += chunk.as_ref().len() as u64;
        }
        file.flush().await.map_err(failed)
    }

    async fn next_chunk(
        &self,
        chunks: &mut (impl Stream<Item = Result<LogOutput, Error>> + Unpin),
    ) -> Result<Option<LogOutput>, CallError> {
        let next = timeout(SILENCE_TIMEOUT, chunks.next()).await;
        next.unwrap_or(Some(Err(Error::RequestTimeoutError)))
            .transpose()
            .map_err(|error| self.error("reading a container's log", &error))
    }
}

impl Inner {
    /// The last lines over all starts: the saved ones, then the lines of the container, if there is one.
    pub(super) async fn server_logs(
        &self,
        uid: InstanceUid,
        log: &Path,
        lines: usize,
    ) -> Result<Vec<String>, RuntimeError> {
        let current = match self.inspect_server(uid).await? {
            Some(found) => self.engine.log_tail(&found.container.id, lines).await,
            None => Ok(Vec::new()),
        };
        let current = match current {
            Ok(current) => current,
            Err(error) if error.is_missing() || error.is_conflict() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let missing = lines.saturating_sub(current.len());
        let path = log.to_owned();
        let read = tokio::task::spawn_blocking(move || log_tail::last_lines(&path, 0, missing));
        let mut saved = read
            .await
            .unwrap_or_else(|error| Err(error.into()))
            .map_err(|error| RuntimeError {
                for_clients: false,
                message: format!("cannot read {}: {error}", log.display()),
                hint: None,
            })?;
        saved.extend(current);
        Ok(saved)
    }
}

/// Opens a log to append to, and returns its length. A log that has reached its limit is renamed first.
async fn open_log(log: &Path) -> std::io::Result<(tokio::fs::File, u64)> {
    let path = log.to_owned();
    let opened = tokio::task::spawn_blocking(move || log_tail::open(&path)).await;
    let (file, length) = opened.unwrap_or_else(|error| Err(error.into()))?;
    Ok((tokio::fs::File::from_std(file), length))
}

fn last_lines(text: &[u8], lines: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut last: Vec<String> = text.lines().rev().take(lines).map(str::to_owned).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_come_oldest_first() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), ["b", "c"]);
        assert_eq!(last_lines(b"a", 5), ["a"]);
        assert!(last_lines(b"", 5).is_empty());
        assert!(last_lines(b"a\n", 0).is_empty());
    }
}
