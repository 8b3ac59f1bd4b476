//! Whether a tar archive is complete.
//!
//! pg_restore hangs on a truncated tar archive that it cannot seek in: it reads on, one byte at a
//! time, and does not check for the end of the file (`_tarPositionTo` in Postgres'
//! `pg_backup_tar.c`). So the end of the archive is checked before pg_restore can see the end of its
//! input.

const BLOCK_BYTES: usize = 512;
/// The member's size in a header: octal digits or, from 8 GiB, binary.
const SIZE: std::ops::Range<usize> = 124..136;

/// Follows a tar archive from header to header.
pub(in crate::import) struct TarCheck {
    header: Vec<u8>,
    /// The bytes of the member, with its padding, that have not come yet.
    member: u64,
    /// A block of zeros has come: the end of the archive.
    ended: bool,
}

impl TarCheck {
    pub(in crate::import) fn new() -> Self {
        Self {
            header: Vec::with_capacity(BLOCK_BYTES),
            member: 0,
            ended: false,
        }
    }

    /// Takes the next piece of the archive.
    pub(in crate::import) fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() && !self.ended {
            let wanted = match usize::try_from(self.member) {
                Ok(0) => BLOCK_BYTES - self.header.len(),
                Ok(member) => member,
                Err(_) => usize::MAX,
            };
            let (used, after) = rest.split_at(wanted.min(rest.len()));
            rest = after;
            if self.member > 0 {
                self.member -= used.len() as u64;
                continue;
            }
            self.header.extend_from_slice(used);
            if self.header.len() == BLOCK_BYTES {
                self.ended = self.header.iter().all(|byte| *byte == 0);
                self.member = padded(size(&self.header[SIZE]));
                self.header.clear();
            }
        }
    }

    /// Whether the end of the archive has come.
    pub(in crate::import) fn is_complete(&self) -> bool {
        self.ended
    }
}

fn size(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        let low = &field[field.len() - 8..];
        return low
            .iter()
            .fold(0, |size, byte| (size << 8) | u64::from(*byte));
    }
    field
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| (b'0'..=b'7').contains(*byte))
        .fold(0, |size, byte| (size << 3) | u64::from(byte - b'0'))
}

fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES as u64)
        .saturating_mul(BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut bytes = Vec::new();
        for size in [0, 1, 512, 700] {
            let mut header = vec![0; BLOCK_BYTES];
            header[0] = b'a';
            header[SIZE].copy_from_slice(format!("{size:011o} ").as_bytes());
            bytes.extend(header);
            bytes.extend(vec![0; padded(size) as usize]);
        }
        bytes.extend(vec![0; 2 * BLOCK_BYTES]);
        bytes
    }

    #[test]
    fn archive_is_complete_from_its_zero_block_on() {
        let archive = archive();
        let end = archive.len() - BLOCK_BYTES;
        for (length, piece) in [
            (archive.len(), 7),
            (archive.len(), 4096),
            (end, 512),
            (end - 1, 100),
            (2000, 64),
        ] {
            let mut check = TarCheck::new();
            for piece in archive[..length].chunks(piece) {
                check.push(piece);
            }
            assert_eq!(check.is_complete(), length >= end, "{length}");
        }
    }

    #[test]
    fn sizes_are_octal_or_binary() {
        assert_eq!(size(b"00000001750\0"), 1000);
        assert_eq!(size(&[0x80, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]), 3 << 32);
    }
}
