//! The end of a server's log file.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The most of a file that is read for its last lines.
const TAIL_BYTES: u64 = 256 << 10;
/// A log larger than this begins anew at the next start; one older file is kept.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// The last lines of the file that stand behind `from`. A file that does not exist has none.
///
/// # Errors
///
/// The file cannot be read.
pub fn last_lines(path: &Path, from: u64, lines: usize) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
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

/// Opens a log to append to, and says how long it is. One that has grown large is put aside.
///
/// # Errors
///
/// The file cannot be opened or renamed.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    let file = File::options().append(true).create(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_those_behind_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert_eq!(last_lines(&path, 0, 3).unwrap(), Vec::<String>::new());
        fs::write(&path, "old\none\ntwo\nthree\n").unwrap();
        assert_eq!(last_lines(&path, 4, 2).unwrap(), ["two", "three"]);
        assert_eq!(last_lines(&path, 4, 9).unwrap(), ["one", "two", "three"]);
    }
}
