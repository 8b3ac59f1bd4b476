//! The header of pg_dump's archives: which versions made it, and when.
//!
//! The layout is that of `ReadHead` in Postgres' `pg_backup_archiver.c`. multidb reads it itself,
//! since the major of the programs to use is known only from it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// An archive's first bytes.
pub(super) const MAGIC: &[u8] = b"PGDMP";
/// The longest text in a header.
const TEXT_BYTES_MAX: usize = 4096;

/// The header of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArchiveHeader {
    /// When pg_dump ran, if the time is a valid one.
    pub(super) made_at: Option<Timestamp>,
    /// The database that was dumped.
    pub(super) database: Vec<u8>,
    /// The major of the server that was dumped.
    pub(super) server_major: Option<u16>,
    /// The major of the pg_dump that wrote the archive.
    pub(super) dump_major: Option<u16>,
}

struct Reader<'a> {
    rest: &'a [u8],
    int_bytes: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    /// An integer: a sign byte, then the value, little-endian.
    fn int(&mut self) -> Option<i64> {
        let negative = self.byte()? != 0;
        let bytes = self.bytes(self.int_bytes)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0_i64, |value, byte| (value << 8) | i64::from(*byte));
        Some(if negative { -value } else { value })
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        match usize::try_from(self.int()?) {
            Ok(length) if length <= TEXT_BYTES_MAX => self.bytes(length),
            Ok(_) => None,
            // A null.
            Err(_) => Some(&[]),
        }
    }
}

impl ArchiveHeader {
    /// Parses the header of a custom archive or of a `toc.dat`. `None` if it is neither, or older
    /// than the archives of PostgreSQL 8 (format 1.10).
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader {
            rest: bytes.strip_prefix(MAGIC)?,
            int_bytes: 0,
        };
        let version = (reader.byte()?, reader.byte()?);
        let _revision = reader.byte()?;
        if version < (1, 10) || version.0 > 1 {
            return None;
        }
        reader.int_bytes = usize::from(reader.byte()?);
        if !(4..=7).contains(&reader.int_bytes) {
            return None;
        }
        let (_offset_bytes, _format) = (reader.byte()?, reader.byte()?);
        if version >= (1, 15) {
            reader.byte()?;
        } else {
            reader.int()?;
        }
        let made_at = LocalTime::read(&mut reader)?.to_timestamp();
        let database = reader.text()?.to_vec();
        let server = reader.text()?;
        let dump = reader.text()?;
        Some(Self {
            made_at,
            database,
            server_major: major_version(server),
            dump_major: major_version(dump),
        })
    }
}

/// The time in an archive: the fields of C's `struct tm` from the second to the year.
struct LocalTime([i64; 6]);

impl LocalTime {
    fn read(reader: &mut Reader) -> Option<Self> {
        let mut fields = [0_i64; 6];
        for field in &mut fields {
            *field = reader.int()?;
        }
        let _is_summer_time = reader.int()?;
        Some(Self(fields))
    }

    /// The time in the zone of this machine, as pg_restore takes it: the archive has no zone.
    fn to_timestamp(&self) -> Option<Timestamp> {
        let small = |value: i64| i8::try_from(value).ok();
        let [second, minute, hour, day, month, year] = self.0;
        let time = DateTime::new(
            i16::try_from(year.checked_add(1900)?).ok()?,
            small(month.checked_add(1)?)?,
            small(day)?,
            small(hour)?,
            small(minute)?,
            small(second)?,
            0,
        );
        TimeZone::system().to_timestamp(time.ok()?).ok()
    }
}

/// The major at the start of a version such as `15.18 (Debian 15.18-0)` or `17beta1`.
pub(super) fn major_version(text: &[u8]) -> Option<u16> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive header as pg_dump 15 writes it.
    fn header(version: u8, compression: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, version, 0, 4, 8, 1]);
        bytes.extend(compression);
        let int = |value: i32| {
            let mut bytes = vec![u8::from(value < 0)];
            bytes.extend(value.unsigned_abs().to_le_bytes());
            bytes
        };
        for field in [5, 4, 3, 2, 0, 126, 0] {
            bytes.extend(int(field));
        }
        for text in ["db", "15.18 (Debian)", "17.2"] {
            bytes.extend(int(text.len() as i32));
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn header_has_the_versions_and_the_time() {
        for bytes in [header(14, &[0, 1, 0, 0, 0]), header(16, &[1])] {
            let parsed = ArchiveHeader::parse(&bytes).unwrap();
            assert_eq!(
                (parsed.server_major, parsed.dump_major),
                (Some(15), Some(17))
            );
            assert_eq!(parsed.database, b"db");
            let local = TimeZone::system().to_datetime(parsed.made_at.unwrap());
            assert_eq!(local, jiff::civil::datetime(2026, 1, 2, 3, 4, 5, 0));
            for length in 0..bytes.len() {
                assert_eq!(ArchiveHeader::parse(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn major_version_is_the_leading_number() {
        assert_eq!(major_version(b"15.18 (Debian)"), Some(15));
        assert_eq!(major_version(b"18beta1"), Some(18));
        assert_eq!(major_version(b""), None);
        assert_eq!(major_version(b"999999.1"), None);
    }
}
