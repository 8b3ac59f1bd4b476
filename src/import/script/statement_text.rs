//! The text of a statement, which may have a gigabyte.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{HEAD_BYTES_MAX, ScriptError};

/// The text of a statement. Its beginning is in memory, the rest of a long one in a file.
#[derive(Debug, Default)]
pub(in crate::import) struct StatementText {
    /// The line of its first byte, counted from 1.
    pub(in crate::import) line: u64,
    /// Its beginning, which is all of it unless it is long.
    pub(in crate::import) head: Vec<u8>,
    /// The bytes after the head.
    rest: Option<File>,
    rest_bytes: u64,
}

/// The head of a statement, and the rest.
type Parts<'a> = (&'a [u8], Option<(&'a mut (dyn Read + Send), u64)>);

impl StatementText {
    /// A short statement.
    pub(in crate::import) fn new(line: u64, text: Vec<u8>) -> Self {
        Self {
            line,
            head: text,
            ..Self::default()
        }
    }

    pub(super) fn at(line: u64) -> Self {
        Self {
            line,
            ..Self::default()
        }
    }

    /// Whether all of it is in memory, so that it can be adapted.
    pub(in crate::import) fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// Its head, and the bytes after it with their number.
    pub(in crate::import) fn parts(&mut self) -> Result<Parts<'_>, ScriptError> {
        let Some(file) = &mut self.rest else {
            return Ok((&self.head, None));
        };
        file.seek(SeekFrom::Start(0)).map_err(spill_error)?;
        Ok((&self.head, Some((file, self.rest_bytes))))
    }

    /// Removes so many bytes from its end.
    pub(super) fn cut(&mut self, count: usize) -> Result<(), ScriptError> {
        let mut of_head = count;
        if let Some(file) = &mut self.rest {
            let of_rest = self.rest_bytes.min(count as u64);
            self.rest_bytes -= of_rest;
            of_head -= usize::try_from(of_rest).unwrap_or(count);
            file.set_len(self.rest_bytes).map_err(spill_error)?;
            file.seek(SeekFrom::End(0)).map_err(spill_error)?;
        }
        self.head.truncate(self.head.len().saturating_sub(of_head));
        Ok(())
    }

    /// Appends bytes. The bytes of a long statement go into a file of this directory.
    pub(super) fn push(&mut self, bytes: &[u8], directory: &Path) -> Result<(), ScriptError> {
        let room = match self.rest {
            Some(_) => 0,
            None => HEAD_BYTES_MAX.saturating_sub(self.head.len()),
        };
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        if rest.is_empty() {
            return Ok(());
        }
        let file = match &mut self.rest {
            Some(file) => file,
            none => none.insert(nameless_file(directory).map_err(spill_error)?),
        };
        file.write_all(rest).map_err(spill_error)?;
        self.rest_bytes += rest.len() as u64;
        Ok(())
    }
}

impl PartialEq for StatementText {
    /// Long statements are compared by their length.
    fn eq(&self, other: &Self) -> bool {
        (self.line, &self.head, self.rest_bytes) == (other.line, &other.head, other.rest_bytes)
    }
}

impl Eq for StatementText {}

/// A file that has no name and goes with its descriptor.
pub(in crate::import) fn nameless_file(directory: &Path) -> io::Result<File> {
    use rustix::fs::{CWD, Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
}

fn spill_error(error: io::Error) -> ScriptError {
    ScriptError::LongStatement {
        error: error.to_string(),
    }
}
