//! The writer that rewrites a script and sends it to psql.

use std::path::PathBuf;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use super::CHUNK_BYTES;
use crate::import::error::ImportError;
use crate::import::script::{Rewriter, ScriptError};

/// Why the script did not reach psql completely.
pub(super) enum FeedError {
    /// psql closed its end of the FIFO; its output has the reason.
    ReaderGone,
    Failed(ImportError),
}

impl From<ImportError> for FeedError {
    fn from(error: ImportError) -> Self {
        Self::Failed(error)
    }
}

/// Writes the rewritten script to the FIFO of psql.
pub(super) struct ScriptWriter {
    fifo: pipe::Sender,
    rewriter: Rewriter,
    rewritten: Vec<u8>,
    /// The dump, for errors.
    dump: PathBuf,
}

impl ScriptWriter {
    pub(super) fn new(fifo: pipe::Sender, rewriter: Rewriter, dump: PathBuf) -> Self {
        Self {
            fifo,
            rewriter,
            rewritten: Vec::with_capacity(2 * CHUNK_BYTES),
            dump,
        }
    }

    /// Rewrites and writes the next chunk of the script.
    pub(super) async fn push(&mut self, chunk: &[u8]) -> Result<(), FeedError> {
        self.rewritten.clear();
        let result = self.rewriter.push(chunk, &mut self.rewritten);
        result.map_err(|error| self.script_error(error))?;
        self.write().await
    }

    /// Writes the end of the script, if the dump is complete, and closes the FIFO.
    pub(super) async fn finish(mut self) -> Result<(), FeedError> {
        self.rewritten.clear();
        let result = self.rewriter.finish(&mut self.rewritten);
        result.map_err(|error| self.script_error(error))?;
        self.write().await
    }

    async fn write(&mut self) -> Result<(), FeedError> {
        let written = self.fifo.write_all(&self.rewritten).await;
        written.map_err(|_| FeedError::ReaderGone)
    }

    fn script_error(&self, source: ScriptError) -> FeedError {
        FeedError::Failed(ImportError::Script {
            path: self.dump.clone(),
            source,
        })
    }
}
