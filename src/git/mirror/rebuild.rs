//! Mirrors are made in a form that is named whole, regardless of the user's configuration, and made again where they
//! are broken: a mirror has nothing that the remote has not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multidb_actors::ports::DiskError;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::time::Instant;

use super::{FetchError, Mirror, REFSPECS, State};
use crate::fsutil::unless_missing;
use crate::git::program::{self, Run};

/// The shortest time between two attempts.
const INTERVAL: Duration = Duration::from_secs(60);

/// The hash function of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Sha1,
    Sha256,
}

/// The format of the remote, where a message of git says that the mirror has another.
pub(super) fn other_format(message: &str) -> Option<Format> {
    let (_, formats) = message.split_once("mismatched algorithms: client ")?;
    let (_, server) = formats.split_once("; server ")?;
    // The longer name first.
    if server.starts_with("sha256") {
        Some(Format::Sha256)
    } else if server.starts_with("sha1") {
        Some(Format::Sha1)
    } else {
        None
    }
}

/// Makes an empty bare repository where the run is: with this format, its references in files, and without a template.
pub(super) async fn init(run: Run<'_>, format: Format) -> Result<(), String> {
    if let Some(path) = run.repository {
        tokio::fs::create_dir_all(path)
            .await
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    }
    let format = match format {
        Format::Sha1 => "--object-format=sha1",
        Format::Sha256 => "--object-format=sha256",
    };
    run.git(&["init", "--bare", "--quiet", "--template=", format])
        .await
}

impl Mirror {
    /// Makes a mirror that cannot be read again, unless that was done after `since`.
    ///
    /// # Errors
    ///
    /// It was tried a short time ago, the remote does not answer, or it takes longer than the timeout. The mirror is left
    /// as it was.
    pub(in crate::git) async fn rebuild(
        self: &Arc<Self>,
        since: Instant,
    ) -> Result<(), FetchError> {
        let mirror = self.clone();
        let rebuilt = tokio::spawn(async move {
            let mut state = mirror.lock().await?;
            match state.rebuilt {
                Some(rebuilt) if rebuilt >= since => return Ok(()),
                Some(rebuilt) if rebuilt.elapsed() < INTERVAL => {
                    let message = "it was made again a short time ago".to_owned();
                    return Err(FetchError::Failed(message));
                }
                _ => {}
            }
            state.rebuilt = Some(Instant::now());
            mirror.replace_any().await.map_err(FetchError::of)
        });
        self.wait(rebuilt).await
    }

    /// Whether a fetch failed because the mirror is broken, which is then made again: where the remote answers, and
    /// neither the disk nor the lock of another process is the cause.
    pub(super) async fn is_broken(&self, state: &mut State, failure: &str) -> bool {
        let is_known = failure.contains(".lock")
            || failure.contains(program::TIMED_OUT)
            || DiskError::in_text(failure).is_some();
        if is_known || !self.exists() {
            return false;
        }
        if state
            .rebuilt
            .is_some_and(|rebuilt| rebuilt.elapsed() < INTERVAL)
        {
            return false;
        }
        let asked = ["ls-remote", "--quiet", &self.url, "HEAD"];
        if self.run_anywhere().git(&asked).await.is_err() {
            return false;
        }
        state.rebuilt = Some(Instant::now());
        self.replace_any().await.is_ok()
    }

    async fn replace_any(&self) -> Result<(), String> {
        match self.replace(Format::Sha1).await {
            Err(message) => match other_format(&message) {
                Some(format) => self.replace(format).await,
                None => Err(message),
            },
            done => done,
        }
    }

    /// Fetches into a new mirror and puts it in the place of the old one.
    pub(super) async fn replace(&self, format: Format) -> Result<(), String> {
        let fresh = self.fresh_path();
        remove(fresh.clone()).await?;
        init(self.run_in(Some(&fresh)), format).await?;
        let [heads, tags] = REFSPECS;
        let run = self.run_whole(&fresh);
        let fetched = run.fetch(&["--prune", &self.url, heads, tags]).await;
        if let Err(message) = fetched {
            remove(fresh).await?;
            return Err(message);
        }
        put_in_place(&fresh, &self.path)
            .map_err(|error| format!("cannot replace {}: {error}", self.path.display()))?;
        tracing::warn!(path = %self.path.display(), "the mirror was broken or of another format, and was made again");
        remove(fresh).await
    }

    /// Beside the mirror, by a name that no project can have.
    fn fresh_path(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        let name = format!(".new-{}", name.to_string_lossy());
        self.path.with_file_name(name)
    }
}

/// Exchanges two directories in one step, so that readers always find a mirror.
fn put_in_place(fresh: &Path, path: &Path) -> io::Result<()> {
    if path.exists() {
        renameat_with(CWD, fresh, CWD, path, RenameFlags::EXCHANGE)?;
        Ok(())
    } else {
        std::fs::rename(fresh, path)
    }
}

async fn remove(directory: PathBuf) -> Result<(), String> {
    let removed = tokio::fs::remove_dir_all(&directory).await;
    unless_missing(removed)
        .map_err(|error| format!("cannot remove {}: {error}", directory.display()))
}
