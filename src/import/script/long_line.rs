//! Lines of the script that are too long to be kept. They are passed on in parts, as they are: no role is
//! created for them, and no table's data begins a transaction. Quotes and psql commands are followed.

use super::guard::Guard;
use super::lexer::LineEnd;
use super::rewriter::Rewriter;
use super::rows::Position;
use super::{LINE_BYTES_MAX, LOOKAHEAD_BYTES, Restriction, ScriptError};

impl Rewriter {
    /// Handles what has come of a line, if that is too much to be kept.
    pub(super) fn long_line(&mut self, out: &mut Vec<u8>) -> Result<(), ScriptError> {
        if self.partial.len() <= LINE_BYTES_MAX {
            return Ok(());
        }
        if self.long_line.is_none() {
            self.begin_long_line(out)?;
        }
        let part = std::mem::take(&mut self.partial);
        let scanned = self.lexer.scan_part(&part, LOOKAHEAD_BYTES);
        let (properties, length) = scanned.map_err(|_| self.token_too_long())?;
        if properties.meta_command {
            self.refuse_meta_command()?;
        }
        if properties.end == LineEnd::CopyData {
            self.long_line = Some(LineEnd::CopyData);
        }
        let (passed, kept) = part.split_at(length);
        out.extend_from_slice(passed);
        self.partial = kept.to_vec();
        Ok(())
    }

    fn begin_long_line(&mut self, out: &mut Vec<u8>) -> Result<(), ScriptError> {
        self.line += 1;
        if self.lexer.at_statement_start() && self.partial.starts_with(b"\\") {
            return Err(self.token_too_long());
        }
        if std::mem::take(&mut self.commit_due) {
            out.extend_from_slice(b"COMMIT; ");
        }
        self.flush_blank(out);
        if self.guard == Guard::Lifted {
            // Whatever is behind the part that was seen.
            self.begin_guard(out);
        }
        self.data_announced = false;
        self.long_line = Some(LineEnd::Script);
        Ok(())
    }

    /// Handles the last part of a long line.
    pub(super) fn end_long_line(
        &mut self,
        line: &[u8],
        end: LineEnd,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let scanned = self.lexer.scan(line);
        if scanned.meta_command {
            self.refuse_meta_command()?;
        }
        out.extend_from_slice(line);
        if scanned.end == LineEnd::CopyData || end == LineEnd::CopyData {
            self.position = Position::RowStart;
        }
        Ok(())
    }

    fn refuse_meta_command(&self) -> Result<(), ScriptError> {
        match self.target.restriction {
            Restriction::Psql(_) => Ok(()),
            Restriction::Rewriter => Err(ScriptError::MetaCommand { line: self.line }),
        }
    }

    fn token_too_long(&self) -> ScriptError {
        ScriptError::TokenTooLong {
            line: self.line,
            bytes_max: LOOKAHEAD_BYTES,
        }
    }
}
