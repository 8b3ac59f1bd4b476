//! Literals, which may go on in the next line: `'a'`, a line end, and `'b'` are one, read as it began.

use super::{Mode, Splitter, Step};

/// The bytes since the quote at the end of a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing: another quote is part of the literal.
    Nothing,
    /// Blanks.
    Blanks,
    /// A line end, and then blanks and comments.
    LineEnd,
    /// A dash after that, which may begin a comment.
    Dash,
    /// A comment after that.
    Comment,
}

/// The meaning of a byte after a literal.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// The literal goes on.
    Literal,
    /// It may still go on.
    Gap(Gap),
    /// It is over, and this byte is code.
    Code,
    /// It is over, with a dash before this byte of code.
    DashAndCode,
}

impl Gap {
    fn next(self, byte: u8) -> After {
        let is_line_end = matches!(byte, b'\n' | b'\r');
        let is_blank = matches!(byte, b' ' | b'\t' | b'\x0b' | b'\x0c');
        match self {
            Self::Nothing | Self::LineEnd if byte == b'\'' => After::Literal,
            Self::Nothing | Self::Blanks | Self::LineEnd if is_line_end => {
                After::Gap(Self::LineEnd)
            }
            Self::Nothing | Self::Blanks if is_blank => After::Gap(Self::Blanks),
            Self::LineEnd if is_blank => After::Gap(Self::LineEnd),
            Self::LineEnd if byte == b'-' => After::Gap(Self::Dash),
            Self::Nothing | Self::Blanks | Self::LineEnd => After::Code,
            Self::Dash if byte == b'-' => After::Gap(Self::Comment),
            Self::Dash => After::DashAndCode,
            Self::Comment if is_line_end => After::Gap(Self::LineEnd),
            Self::Comment => After::Gap(Self::Comment),
        }
    }
}

impl Splitter {
    /// After `U&`.
    pub(super) fn unicode(&mut self, byte: u8) -> (Mode, Step) {
        match byte {
            b'\'' => (literal(false, false, 0), Step::Next),
            b'"' => (Mode::Identifier, Step::Next),
            _ => {
                self.words.symbol(b'&');
                (Mode::Code, Step::Again)
            }
        }
    }

    /// After the quote at the end of a literal.
    pub(super) fn after_literal(&mut self, escapes: bool, gap: Gap, byte: u8) -> (Mode, Step) {
        match gap.next(byte) {
            After::Literal => (literal(escapes, false, 0), Step::Next),
            After::Gap(gap) => (Mode::AfterLiteral(escapes, gap), Step::Next),
            After::Code => (Mode::Code, Step::Again),
            After::DashAndCode => {
                self.words.symbol(b'-');
                (Mode::Code, Step::Again)
            }
        }
    }
}

/// The mode after a byte of a literal; 0 is none of them.
pub(super) fn literal(escapes: bool, escaped: bool, byte: u8) -> Mode {
    match byte {
        b'\'' if !escaped => Mode::AfterLiteral(escapes, Gap::Nothing),
        _ => Mode::Literal {
            escapes,
            escaped: escapes && !escaped && byte == b'\\',
        },
    }
}
