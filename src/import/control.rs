//! The control file of a data directory, read by `pg_controldata`.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::error::ImportError;
use super::program::failure;
use crate::runtime::{PostgresHost, ProgramRun};

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
}

impl Control {
    /// Whether the cluster was stopped cleanly.
    pub(super) fn is_shut_down(&self) -> bool {
        self.state == "shut down"
    }

    /// Runs `pg_controldata`, which needs no other file than `global/pg_control`.
    pub(super) async fn read(
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
        })
    }
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
            Database cluster state:               shut down\n\
            Latest checkpoint location:           1/2A000028\n\
            Latest checkpoint's REDO location:    1/2A000028\n\
            Latest checkpoint's REDO WAL file:    00000001000000010000002A\n\
            Time of latest checkpoint:            Tue Nov  3 12:55:51 2026\n\
            Bytes per WAL segment:                16777216\n";
        let control = Control::parse(text).unwrap();
        assert!(control.is_shut_down());
        assert_eq!(control.redo_wal_file, "00000001000000010000002A");
        assert_eq!(control.redo_offset, 0x28);
        assert_eq!(
            control.checkpoint_at,
            Some("2026-11-03T12:55:51Z".parse().unwrap())
        );
        assert_eq!(Control::parse("x"), None);
    }
}
