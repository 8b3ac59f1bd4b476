//! The parts of a line that need no state of the lexer.

use memchr::{memchr, memchr2};

/// Skips the text of a comment; `None` if the line ends within it.
pub(super) fn comment<'a>(rest: &'a [u8], depth: &mut u32) -> Option<&'a [u8]> {
    let mut rest = rest;
    while let Some(at) = memchr2(b'/', b'*', rest) {
        let pair = (rest[at], rest.get(at + 1).copied());
        match pair {
            (b'/', Some(b'*')) => {
                *depth = depth.saturating_add(1);
                rest = &rest[at + 2..];
            }
            (b'*', Some(b'/')) => {
                *depth -= 1;
                rest = &rest[at + 2..];
                if *depth == 0 {
                    return Some(rest);
                }
            }
            _ => rest = &rest[at + 1..],
        }
    }
    None
}

/// `$$` or `$tag$` at the start of `text`.
pub(super) fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let end = memchr(b'$', &text[1..])? + 1;
    let tag = &text[1..end];
    let valid = match tag.first() {
        None => true,
        Some(first) => is_word_start(*first) && tag.iter().all(|b| is_word(*b)),
    };
    valid.then(|| &text[..=end])
}

/// Whether a word can begin with this byte.
pub(in crate::import::script) fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Whether a word can contain this byte.
pub(in crate::import::script) fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}
