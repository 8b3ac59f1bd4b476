//! The copy of a running instance's data directory, as a base backup (Postgres' documentation, "Making a Base Backup
//! Using the Low Level API").
//!
//! The parent's server is put into backup mode, its files are cloned one by one, and the WAL of that time is added,
//! by which the clone's server recovers at its first start. The parent's sessions go on; its server makes a
//! checkpoint first, and writes whole pages meanwhile. To stop all its processes instead would need no WAL, but would
//! stop its sessions for as long as the file system takes to write the dirty pages of all its files, and a daemon that
//! is killed meanwhile would leave it stopped.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use multidb_actors::ports::{CloneError, SuperuserAccess};
use multidb_store::{InstanceUid, error_chain};
use tokio::time::Instant;

use super::copy::{self, Activity, FileCopy};
use super::error::failed;
use super::{TreeCloner, tree};
use crate::fsutil::beneath::{self, Directory, TreeError};
use crate::fsutil::btrfs;
use crate::probe;
use crate::sql::{AnswerLimits, Session, SqlError, one_line};
use crate::wal_segment::is_segment;

/// The limit of each step of the server's: its checkpoint writes the pages that other sessions have dirtied.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of a backup label. Postgres' own have some hundred.
const LABEL_BYTES_MAX: usize = 8 << 10;
const LABEL_FILE: &str = "backup_label";
/// The first major whose functions have these names; older ones have `start` and `stop` first.
const MAJOR_OF_NAMES: u16 = 15;
/// A slot keeps the WAL of the copy, and goes with its session.
const RESERVE_WAL: &str =
    "select pg_catalog.pg_create_physical_replication_slot('multidb_clone', true, true)";

/// A server in backup mode, which ends with the session at the latest.
struct Backup {
    session: Session,
    postgres_major: u16,
}

/// The `backup_label` and the WAL that a finished backup needs to recover.
#[derive(Debug, PartialEq, Eq)]
struct Label {
    /// The contents of `backup_label`.
    text: String,
    /// The name of its first WAL segment.
    first: String,
    /// The name of its last one.
    last: String,
}

impl Backup {
    async fn begin(server: &SuperuserAccess) -> Result<Self, SqlError> {
        let mut session = probe::connect(server, Some(STEP_TIMEOUT)).await?;
        if let Err(error) = session.query(RESERVE_WAL, one_row()).await {
            // All slots are taken, or there are none: its WAL is kept until the second checkpoint from now.
            tracing::debug!(
                error = error_chain(&error),
                "no slot keeps the WAL of a copy"
            );
        }
        let start = if server.postgres_major < MAJOR_OF_NAMES {
            "select pg_catalog.pg_start_backup('multidb', true, false)"
        } else {
            "select pg_catalog.pg_backup_start('multidb', true)"
        };
        session.query(start, one_row()).await?;
        Ok(Self {
            session,
            postgres_major: server.postgres_major,
        })
    }

    async fn end(mut self) -> Result<Label, SqlError> {
        let stop = if self.postgres_major < MAJOR_OF_NAMES {
            "pg_stop_backup(false, false)"
        } else {
            "pg_backup_stop(false)"
        };
        let stop =
            format!("select labelfile, pg_catalog.pg_walfile_name(lsn) from pg_catalog.{stop}");
        let rows = self.session.query(&stop, one_row()).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| SqlError::Unexpected("a backup without a label".to_owned()))?;
        let label = Label::read(row.text(0)?, row.text(1)?);
        self.session.close().await;
        label.ok_or_else(|| SqlError::Unexpected("a backup label of another form".to_owned()))
    }
}

/// The bounds of one row, such as a label.
fn one_row() -> AnswerLimits {
    AnswerLimits {
        time: Some(STEP_TIMEOUT),
        rows: 1,
        bytes: 2 * LABEL_BYTES_MAX,
    }
}

impl Label {
    /// A label's first line is `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`.
    fn read(text: &str, last: &str) -> Option<Self> {
        let (_, rest) = text.lines().next()?.split_once("(file ")?;
        let (first, _) = rest.split_once(')')?;
        if text.len() > LABEL_BYTES_MAX || !is_segment(first) || !is_segment(last) {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            first: first.to_owned(),
            last: last.to_owned(),
        })
    }

    /// Whether this file of `pg_wal` is needed. Names of segments of one timeline sort as their contents.
    fn needs(&self, name: &str) -> bool {
        is_segment(name) && (self.first.as_str()..=self.last.as_str()).contains(&name)
    }
}

impl TreeCloner {
    /// Copies the data directory of a running instance, and returns the number of files.
    pub(crate) fn copy_running(
        &self,
        parent: InstanceUid,
        server: &SuperuserAccess,
        to: &Path,
    ) -> Result<u64, CloneError> {
        let how = self.file_copy()?;
        self.back_up(parent, server, |from| {
            let (size, _) = copy::copy(from, to, how, Activity::Running)?;
            Ok((size.files, vec![to]))
        })
    }

    /// Copies the data directory of a running instance to `base`, and that to `data`, unless `base` is a snapshot of a
    /// Btrfs subvolume, of which another one can be made. Returns the number of files.
    pub(super) fn copy_running_twice(
        &self,
        parent: InstanceUid,
        server: &SuperuserAccess,
        base: &Path,
        data: &Path,
    ) -> Result<u64, CloneError> {
        let how = self.file_copy()?;
        let is_snapshot = self.makes_snapshots_of(&self.layout.instance_data(parent))?;
        self.back_up(parent, server, |from| {
            if is_snapshot {
                return Ok((snapshot_running(from, base)?, vec![base]));
            }
            let size = copy::copy_twice(from, [base, data], how, Activity::Running)?;
            Ok((size.files, vec![base, data]))
        })
    }

    /// Copies a running instance while its server is in backup mode, and adds the WAL of that time to each copy.
    fn back_up<'a>(
        &self,
        parent: InstanceUid,
        server: &SuperuserAccess,
        copy: impl FnOnce(&Path) -> Result<(u64, Vec<&'a Path>), TreeError>,
    ) -> Result<u64, CloneError> {
        let from = self.layout.instance_data(parent);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed("talk to the server on", &from, &error))?;
        let refused = |error: SqlError| CloneError::ParentFailed {
            message: one_line(&error_chain(&error)),
        };
        let began = Instant::now();
        let backup = runtime.block_on(Backup::begin(server)).map_err(refused)?;
        let checkpoint = began.elapsed();
        let how = self.file_copy()?;
        if how == FileCopy::Full {
            self.check_reserve(self.tree_size(&from)?.bytes)?;
        }
        let copied = copy(&from);
        let (files, copies) = copied.map_err(|error| self.tree_failed(error, None))?;
        let copied = began.elapsed();
        let label = runtime.block_on(backup.end()).map_err(refused)?;
        tracing::debug!(
            %parent,
            checkpoint_ms = checkpoint.as_millis() as u64,
            copy_ms = (copied - checkpoint).as_millis() as u64,
            end_ms = (began.elapsed() - copied).as_millis() as u64,
            "a running instance was copied"
        );
        let mut source = from.as_path();
        let mut added = None;
        for to in copies {
            added =
                add_wal(source, to, &label, how).map_err(|error| self.tree_failed(error, None))?;
            if added.is_none() {
                break;
            }
            source = to;
        }
        let added = added.ok_or_else(|| CloneError::ParentFailed {
            message: "its WAL was removed during the copy; try again".to_owned(),
        })?;
        Ok(files + added)
    }
}

/// Makes a snapshot of the subvolume of a running server, in one moment of its backup mode, and takes away the files
/// that a copy does not have. Returns the number of its files.
pub(super) fn snapshot_running(from: &Path, to: &Path) -> Result<u64, TreeError> {
    let failed = |source| TreeError::Io {
        action: "clone",
        path: to.to_owned(),
        source,
    };
    btrfs::snapshot(&Directory::open(from)?, to).map_err(failed)?;
    tree::prune(to)
}

/// Adds the label and the WAL that it needs; `None` if some of that is gone.
fn add_wal(from: &Path, to: &Path, label: &Label, how: FileCopy) -> Result<Option<u64>, TreeError> {
    let top = Directory::open(to)?;
    let wal = Directory::open(from)?.directory("pg_wal")?;
    let mut names = Vec::new();
    for name in wal.names()? {
        names
            .extend(Some(name?).filter(|name| name.to_str().is_some_and(|name| label.needs(name))));
    }
    names.sort_unstable();
    let is_at = |end: Option<&OsString>, name: &str| {
        end.is_some_and(|end| end.as_bytes() == name.as_bytes())
    };
    if !is_at(names.first(), &label.first) || !is_at(names.last(), &label.last) {
        return Ok(None);
    }
    match copy::copy_files(&wal, &top.directory("pg_wal")?, &names, how) {
        Err(error) if error.is_missing() => return Ok(None),
        copied => copied?,
    }
    let failed = |source| TreeError::Io {
        action: "write",
        path: to.join(LABEL_FILE),
        source,
    };
    let owner = top.stat()?;
    let mut file = top.create_file(LABEL_FILE.as_ref(), 0o600)?;
    beneath::set_owner(&file, (owner.st_uid, owner.st_gid)).map_err(failed)?;
    file.write_all(label.text.as_bytes()).map_err(failed)?;
    // The one file whose contents do not come from the parent's.
    file.sync_all().map_err(failed)?;
    Ok(Some(names.len() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n";

    #[test]
    fn label_needs_its_segments_and_no_others() {
        let label = Label::read(FIRST, "000000010000000000000003").unwrap();
        for (name, is_needed) in [
            ("000000010000000000000001", false),
            ("000000010000000000000002", true),
            ("000000010000000000000003", true),
            ("000000010000000000000004", false),
            ("000000010000000000000003.partial", false),
            ("archive_status", false),
            ("00000002.history", false),
        ] {
            assert_eq!(label.needs(name), is_needed, "{name}");
        }
    }

    #[test]
    fn label_of_a_stranger_is_refused() {
        let long = format!("{FIRST}{}", "x".repeat(LABEL_BYTES_MAX));
        for (text, last) in [
            ("", "000000010000000000000003"),
            (FIRST, "../../../etc/passwd"),
            (
                "START WAL LOCATION: 0/2000028 (file ../x)",
                "000000010000000000000003",
            ),
            (long.as_str(), "000000010000000000000003"),
        ] {
            assert_eq!(Label::read(text, last), None, "{text} {last}");
        }
    }
}
