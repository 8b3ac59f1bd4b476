//! The end of a server's log file, and of the output of a program.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::fsutil::beneath;

/// The most of a file that is read for its last lines.
const TAIL_BYTES: u64 = 256 << 10;
/// A larger log is renamed at the next start; one older file is kept.
pub(super) const LOG_BYTES_MAX: u64 = 8 << 20;
/// The last lines that are kept of the output of a program.
const TAIL_LINES_MAX: usize = 100;
/// A longer line of the output is cut here.
const LINE_BYTES_MAX: usize = 8 << 10;

/// The last lines of the file after the offset `from`. A missing file has none.
///
/// # Errors
///
/// The file cannot be read.
pub fn last_lines(path: &Path, from: u64, lines: usize) -> io::Result<Vec<String>> {
    let mut file = match beneath::open_file(path) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let length = file.metadata()?.len();
    let start = from.max(length.saturating_sub(TAIL_BYTES)).min(length);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let skipped = all.len().saturating_sub(lines);
    Ok(all.into_iter().skip(skipped).map(str::to_owned).collect())
}

/// Opens a log to append to, and returns its length. A large one is renamed first.
///
/// # Errors
///
/// The file cannot be opened or renamed.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() >= LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    // A log quotes statements, so other users must not read it.
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// The last lines of a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    unfinished: Vec<u8>,
}

impl Tail {
    /// Takes the next piece.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let room = LINE_BYTES_MAX - self.unfinished.len();
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.unfinished
                .extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < piece.len() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        if self.lines.len() == TAIL_LINES_MAX {
            self.lines.pop_front();
        }
        let line = String::from_utf8_lossy(&self.unfinished).into_owned();
        self.lines.push_back(line);
        self.unfinished.clear();
    }

    /// The lines, oldest first.
    pub fn finish(mut self) -> Vec<String> {
        if !self.unfinished.is_empty() {
            self.end_line();
        }
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_lines_whatever_the_pieces() {
        let mut tail = Tail::default();
        for piece in ["fir", "st\nsec", "ond\n", "third"] {
            tail.take(piece.as_bytes());
        }
        assert_eq!(tail.finish(), ["first", "second", "third"]);

        let mut tail = Tail::default();
        for number in 0..TAIL_LINES_MAX + 5 {
            tail.take(format!("{number}\n").as_bytes());
        }
        tail.take(&vec![b'x'; 3 * LINE_BYTES_MAX]);
        let lines = tail.finish();
        assert_eq!(lines.len(), TAIL_LINES_MAX);
        assert_eq!(lines[0], "6");
        assert_eq!(lines[TAIL_LINES_MAX - 1].len(), LINE_BYTES_MAX);
    }

    #[test]
    fn the_last_lines_are_those_behind_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert_eq!(last_lines(&path, 0, 3).unwrap(), Vec::<String>::new());
        fs::write(&path, "old\none\ntwo\nthree\n").unwrap();
        assert_eq!(last_lines(&path, 4, 2).unwrap(), ["two", "three"]);
        assert_eq!(last_lines(&path, 4, 9).unwrap(), ["one", "two", "three"]);
    }

    #[test]
    fn a_log_is_for_its_owner_and_starts_anew_when_it_is_large() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postgres.log");
        let (file, length) = open(&path).unwrap();
        assert_eq!(length, 0);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        file.set_len(LOG_BYTES_MAX + 1).unwrap();
        let (_, length) = open(&path).unwrap();
        assert_eq!(length, 0);
        assert!(directory.path().join("postgres.log.1").exists());
    }

    #[test]
    fn a_log_that_is_a_link_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let path = directory.path().join("postgres.log");
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(open(&path).is_err());
        assert!(!target.exists());
    }
}
