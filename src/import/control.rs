//! The control file of a data directory, read by `pg_controldata`.

use std::ffi::OsStr;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::context::Context;
use super::error::{ImportError, tree_error};
use super::program::failure;
use crate::fsutil::beneath::{self, Directory, TreeError};
use crate::runtime::{PROGRAM_TIMEOUT, PostgresHost, ProgramNetwork, ProgramRun};

/// The most that is read of a control file, which has 8 KiB.
const CONTROL_BYTES_MAX: u64 = 64 << 10;

/// The fields of a control file that an import needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    /// The state of the cluster, such as `shut down` or `in production`.
    pub(super) state: String,
    /// When the last checkpoint was made.
    pub(super) checkpoint_at: Option<Timestamp>,
    /// The WAL file in which the last checkpoint begins.
    pub(super) redo_wal_file: String,
    /// The offset in that file at which the checkpoint begins.
    pub(super) redo_offset: u64,
    /// The size of a WAL file.
    pub(super) wal_segment_bytes: u64,
    /// The version of the system catalogs, which is in the names of tablespaces' directories.
    pub(super) catalog_version: String,
    /// The most prepared transactions that its server could have.
    pub(super) prepared_max: u32,
    /// The damage that `pg_controldata` finds in the file.
    pub(super) damage: Option<String>,
}

impl Control {
    /// Whether the cluster was stopped cleanly.
    pub(super) fn is_shut_down(&self) -> bool {
        self.state == "shut down"
    }

    /// Whether the cluster follows another one.
    pub(super) fn is_standby(&self) -> bool {
        ["shut down in recovery", "in archive recovery"].contains(&self.state.as_str())
    }

    /// Reads the control file of a data directory, by `pg_controldata` on a copy in the staging directory:
    /// the user of the servers may not be able to enter the data directory, and a FIFO in the file's
    /// place may block the program.
    pub(super) async fn read(
        context: &Context,
        postgres_major: u16,
        data_dir: &Path,
    ) -> Result<Self, ImportError> {
        let copy = context.staging.path().join("control");
        let (from, to) = (data_dir.to_owned(), copy.clone());
        let source = context.source_path().to_owned();
        let copied = context.run_blocking(move || {
            copy_control(&from, &to).map_err(|error| tree_error(&source, &from, error))
        });
        copied.await?;
        let control = Self::run(context.host(), postgres_major, &copy).await;
        context
            .run_blocking(move || {
                beneath::remove(&copy).map_err(|error| tree_error(&copy, &copy, error))
            })
            .await?;
        control
    }

    /// Runs `pg_controldata`, which needs no other file than `global/pg_control`.
    async fn run(
        host: &dyn PostgresHost,
        postgres_major: u16,
        data_dir: &Path,
    ) -> Result<Self, ImportError> {
        let run = ProgramRun {
            postgres_major,
            program: "pg_controldata",
            args: vec!["-D".to_owned(), data_dir.display().to_string()],
            // The program prints times in its own locale and zone.
            env: vec![
                ("LC_ALL".to_owned(), "C".to_owned()),
                ("TZ".to_owned(), "UTC".to_owned()),
            ],
            binds: vec![data_dir.to_owned()],
            network: ProgramNetwork::None,
            timeout: Some(PROGRAM_TIMEOUT),
        };
        let output = host.run_program(&run).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.success {
            return Err(failure("pg_controldata", &output));
        }
        Self::parse(&text).ok_or_else(|| ImportError::Program {
            program: "pg_controldata",
            message: "cannot parse its output".to_owned(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key == name).then(|| value.trim())
            })
        };
        let redo = field("Latest checkpoint's REDO location")?;
        let (high, low) = redo.split_once('/')?;
        let position =
            (u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?;
        let wal_segment_bytes: u64 = field("Bytes per WAL segment")?.parse().ok()?;
        Some(Self {
            state: field("Database cluster state")?.to_owned(),
            checkpoint_at: field("Time of latest checkpoint").and_then(parse_time),
            redo_wal_file: field("Latest checkpoint's REDO WAL file")?.to_owned(),
            redo_offset: position.checked_rem(wal_segment_bytes)?,
            wal_segment_bytes,
            catalog_version: field("Catalog version number")?.to_owned(),
            prepared_max: field("max_prepared_xacts setting")?.parse().ok()?,
            damage: damage(text),
        })
    }
}

/// The warnings in the output of `pg_controldata`: of a wrong checksum, of another byte order. It goes on
/// after them.
fn damage(text: &str) -> Option<String> {
    let mut lines = text.lines();
    let first = lines.find_map(|line| line.strip_prefix("WARNING:"))?;
    let rest = lines.take_while(|line| !line.trim().is_empty() && !line.starts_with("pg_control "));
    let words: Vec<&str> = std::iter::once(first).chain(rest).map(str::trim).collect();
    Some(words.join(" "))
}

/// Copies a control file to where Postgres' user can read it and no other user can change it.
fn copy_control(from: &Path, to: &Path) -> Result<(), TreeError> {
    let path = Path::new("global/pg_control");
    let from = Directory::open(from)?;
    let Some(content) = from.read(path, CONTROL_BYTES_MAX)? else {
        return Err(from.missing(path));
    };
    beneath::remove(to)?;
    let parent = Directory::open(to.parent().unwrap_or(to))?;
    let global = parent
        .create_directory(to.file_name().unwrap_or_default(), 0o755)?
        .create_directory(OsStr::new("global"), 0o755)?;
    global.write_new(OsStr::new("pg_control"), 0o644, &content)
}

/// Parses a time as `%c` of the C locale prints it: `Mon Nov  3 12:55:51 2026`.
fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let time = DateTime::strptime("%a %b %d %H:%M:%S %Y", text).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_parsed() {
        let text = "pg_control version number:            1300\n\
            Catalog version number:               202209061\n\
            Database cluster state:               shut down\n\
            Latest checkpoint location:           1/2A000028\n\
            Latest checkpoint's REDO location:    1/2A000028\n\
            Latest checkpoint's REDO WAL file:    00000001000000010000002A\n\
            Time of latest checkpoint:            Tue Nov  3 12:55:51 2026\n\
            max_prepared_xacts setting:           7\n\
            Bytes per WAL segment:                16777216\n";
        let control = Control::parse(text).unwrap();
        assert!(control.is_shut_down());
        assert_eq!(control.redo_wal_file, "00000001000000010000002A");
        assert_eq!((control.redo_offset, control.prepared_max), (0x28, 7));
        assert_eq!(
            control.checkpoint_at,
            Some("2026-11-03T12:55:51Z".parse().unwrap())
        );
        assert_eq!(control.catalog_version, "202209061");
        assert_eq!(control.damage, None);
        let damaged = "WARNING: Calculated CRC checksum does not match value stored in file.\n\
            Either the file is corrupt, or it has a different layout than this program\n\
            is expecting.  The results below are untrustworthy.\n\n";
        let control = Control::parse(&format!("{damaged}{text}")).unwrap();
        assert_eq!(
            control.damage.as_deref(),
            Some(
                "Calculated CRC checksum does not match value stored in file. Either the file is \
                 corrupt, or it has a different layout than this program is expecting.  The results \
                 below are untrustworthy."
            )
        );
        assert_eq!(Control::parse("x"), None);
    }
}
