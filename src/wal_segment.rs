//! The names of segments of the write-ahead log.

use std::ffi::OsStr;

/// Whether a file of `pg_wal` of this name is a segment: timeline, log and segment, in eight hexadecimal digits each.
pub(crate) fn is_segment(name: impl AsRef<OsStr>) -> bool {
    let name = name.as_ref().as_encoded_bytes();
    name.len() == 24 && name.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_told_from_their_neighbours() {
        assert!(is_segment("00000001000000A900000065"));
        for other in [
            "",
            "archive_status",
            "00000002.history",
            "00000001000000A90000006",
            "00000001000000A9000000650",
            "00000001000000A900000065.partial",
            "0000000100000000000000G2",
        ] {
            assert!(!is_segment(other), "{other}");
        }
    }
}
