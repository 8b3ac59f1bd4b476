//! `run/<uid>/server.json`, by which a restarted daemon finds a server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime::{Purpose, settings};

/// The file in a run directory that tells a restarted daemon about the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ServerFile {
    /// The purpose of the server.
    pub(super) purpose: Purpose,
    /// The data directory of the server.
    pub(super) data_dir: PathBuf,
}

impl ServerFile {
    const NAME: &str = "server.json";

    /// Writes it, before the server is started.
    pub(super) fn write(&self, run_dir: &Path) -> io::Result<()> {
        settings::write_new(run_dir, Self::NAME, &serde_json::to_vec(self)?)
    }

    /// Reads it. None where it is missing or incomplete.
    pub(super) fn read(run_dir: &Path) -> Option<Self> {
        let bytes = fs::read(run_dir.join(Self::NAME)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}
