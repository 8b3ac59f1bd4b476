//! A backup of a data directory that no server has recovered yet, of `pg_basebackup` or of another program that copies the
//! files of a running server: it has `backup_label`, and in `pg_wal` all WAL that it needs.
//!
//! A copy of it is recovered and stopped cleanly; the backup itself is only read.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;

use super::base_backup::{BaseBackup, make_directory, measure_growth, recover};
use super::configuration;
use super::contents;
use super::data_dir::{DataDir, Original, check_files, refuse_damage, warn_of_links};
use super::running::check_not_running;
use crate::fsutil::beneath::{self, Directory, TreeError};
use crate::import::context::Context;
use crate::import::control::Control;
use crate::import::error::{ImportError, refused, tree_error};
use crate::import::progress::Step;

/// Where recovery begins, and that it may not begin elsewhere.
const LABEL: &str = "backup_label";
/// The most that is read of it: it has some lines.
const LABEL_BYTES_MAX: u64 = 64 << 10;
/// The errors of servers of all majors about a backup without all of its WAL (`xlogrecovery.c`, before 15 `xlog.c`).
const LACKS_WAL: [&str; 5] = [
    "could not locate required checkpoint record",
    "could not find redo location",
    "WAL ends before end of online backup",
    "WAL ends before consistent recovery point",
    "is not a child of this server's history",
];
const WAL_HINT: &str = "Put the WAL files of the time of the backup into its pg_wal, such as from the archive (pg_basebackup does so \
                        by itself, with --wal-method=stream or fetch), and import again.";

/// Whether the data directory is such a backup. Blocks.
pub(super) fn is_unrecovered(path: &Path) -> Result<bool, ImportError> {
    let failed = |error| tree_error(path, path, error);
    let directory = Directory::open(path).map_err(failed)?;
    Ok(directory.find(LABEL).map_err(failed)?.is_some())
}

impl BaseBackup {
    /// Copies the backup at `path`, and recovers the copy.
    pub(super) async fn unrecovered(context: &Context, path: PathBuf) -> Result<Self, ImportError> {
        let checked = path.clone();
        let major = context.run_blocking(move || check_files(&checked)).await?;
        let control = read_control(context, major, &path).await?;
        let (read, data_owner) = (path.clone(), context.host().data_owner());
        let (of, control_of) = (path.clone(), control.clone());
        let (contents, configuration) = context
            .run_blocking(move || {
                let contents = contents::inspect(&of, major, &control_of)?;
                Ok((contents, configuration::read(&read, data_owner)?))
            })
            .await?;
        let mut original = Original {
            configuration,
            contents,
        };
        warn_of_links(context, &mut original.contents).await;
        let (directory, data) = make_directory(context).await?;
        context.progress.begin(Step::Copy).await;
        let (parts, copied) = (original.contents.parts.clone(), AtomicU64::new(0));
        let copy = async {
            tokio::select! {
                done = context.copy_needed(path.clone(), parts, data.clone(), |_: &Path| true) => done,
                never = measure_growth(context, &directory, &copied) => match never {},
            }
        };
        let total = Some(original.contents.size.bytes);
        context.progress.with_bytes(&copied, total, copy).await?;
        let (from, to) = (path.clone(), data.clone());
        let copied = move || copy_label(&from, &to, data_owner);
        let source = path.clone();
        context
            .run_blocking(move || copied().map_err(|error| tree_error(&source, &source, error)))
            .await?;
        check_unchanged(context, major, &path, &control).await?;
        context.progress.begin(Step::Recover).await;
        recover(context, &data, major, control.prepared_max)
            .await
            .map_err(|error| explain(&path, error))?;
        let opened = DataDir::of_copy(context, data.clone(), original).await;
        Ok(Self {
            data_dir: opened.map_err(|error| of_source(error, &data, &path))?,
            taken_at: control.checkpoint_at.unwrap_or_else(Timestamp::now),
            directory,
            descent: None,
        })
    }
}

/// Its state is that of a running server.
async fn read_control(context: &Context, major: u16, path: &Path) -> Result<Control, ImportError> {
    let control = Control::read(context, major, path).await?;
    refuse_damage(&control, path)?;
    Ok(control)
}

/// Copies the label, which is no data of a clone.
fn copy_label(from: &Path, to: &Path, owner: (u32, u32)) -> Result<(), TreeError> {
    let from = Directory::open(from)?;
    let Some(label) = from.read(LABEL, LABEL_BYTES_MAX)? else {
        return Err(from.missing(Path::new(LABEL)));
    };
    let to = Directory::open(to)?;
    let name = OsStr::new(LABEL);
    to.write_new(name, 0o600, &label)?;
    beneath::set_owner(to.file(name)?, owner).map_err(|source| TreeError::Io {
        action: "set the owner of",
        path: to.path().join(LABEL),
        source,
    })
}

/// Refuses a backup on which a server was started during the copy.
async fn check_unchanged(
    context: &Context,
    major: u16,
    path: &Path,
    before: &Control,
) -> Result<(), ImportError> {
    check_not_running(path)?;
    let of = path.to_owned();
    let is_unrecovered = context.run_blocking(move || is_unrecovered(&of)).await?;
    if is_unrecovered && read_control(context, major, path).await? == *before {
        return Ok(());
    }
    Err(refused(
        path,
        "Postgres was started on it during the import",
        "Stop it cleanly (pg_ctl stop -m fast), and import it again.",
    ))
}

/// An error of the copy as one of the backup.
fn of_source(error: ImportError, copy: &Path, source: &Path) -> ImportError {
    match error {
        ImportError::Refused {
            path,
            problem,
            hint,
        } if path == copy => refused(source, problem, hint),
        other => other,
    }
}

/// Tells of WAL that is missing in terms of the backup.
fn explain(path: &Path, error: ImportError) -> ImportError {
    let log = error.detail().unwrap_or_default();
    let said = log
        .lines()
        .find(|line| line.contains("FATAL") && LACKS_WAL.iter().any(|words| line.contains(words)));
    let Some((_, said)) = said.and_then(|line| line.split_once("FATAL:")) else {
        return error;
    };
    let said = said.trim();
    refused(
        path,
        format!("it is a backup without all of the WAL that it needs in pg_wal: \"{said}\""),
        WAL_HINT,
    )
}
