//! The order of rows in the text form of COPY by some of their columns.
//!
//! It needs no knowledge of types: whole numbers are ordered by their value, before all other texts by their bytes. Rows
//! with one key are ordered by their own bytes.

use std::cmp::Ordering;

use memchr::memchr;

/// The first bytes of a key.
pub(super) type Prefix = u128;

/// Whether the line feed at its end ends a row. Behind a backslash it belongs to a value; pg_dump does not write it so,
/// and COPY reads it.
pub(super) fn is_whole(row: &[u8]) -> bool {
    let text = row.strip_suffix(b"\n").unwrap_or(row);
    let backslashes = text.iter().rev().take_while(|byte| **byte == b'\\').count();
    backslashes % 2 == 0
}

/// The bytes by which rows are ordered: the values of the key's columns.
fn key<'a>(row: &'a [u8], columns: &'a [usize]) -> impl Iterator<Item = u8> + 'a {
    columns
        .iter()
        .flat_map(|column| value_key(field(row, *column)))
}

/// The text of a column. Empty for a column that the row lacks.
fn field(row: &[u8], column: usize) -> &[u8] {
    let mut rest = row.strip_suffix(b"\n").unwrap_or(row);
    for _ in 0..column {
        match memchr(b'\t', rest) {
            Some(tab) => rest = &rest[tab + 1..],
            None => return &[],
        }
    }
    &rest[..memchr(b'\t', rest).unwrap_or(rest.len())]
}

/// The bytes by which values are ordered: whole numbers by their value before all other texts.
fn value_key(value: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let ValueKey {
        head,
        flip,
        body,
        end,
    } = ValueKey::new(value);
    head.into_iter()
        .flatten()
        .chain(body.iter().map(move |byte| byte ^ flip))
        .chain(end)
}

/// The parts of a value's key.
struct ValueKey<'a> {
    /// Its kind, and the number of its digits.
    head: [Option<u8>; 2],
    /// Applied to each byte of the body: the greater a negative number's digits, the smaller it is.
    flip: u8,
    body: &'a [u8],
    /// No value of Postgres has a zero byte, so a text that is the beginning of another one comes before it.
    end: Option<u8>,
}

impl<'a> ValueKey<'a> {
    fn new(value: &'a [u8]) -> Self {
        const NEGATIVE: u8 = 0;
        const POSITIVE: u8 = 1;
        const TEXT: u8 = 2;
        let (kind, flip, digits) = match value.strip_prefix(b"-") {
            Some(digits) => (NEGATIVE, u8::MAX, digits),
            None => (POSITIVE, 0, value),
        };
        let length = u8::try_from(digits.len()).ok();
        match length.filter(|length| *length > 0 && digits.iter().all(u8::is_ascii_digit)) {
            Some(length) => Self {
                head: [Some(kind), Some(length ^ flip)],
                flip,
                body: digits,
                end: None,
            },
            None => Self {
                head: [Some(TEXT), None],
                flip: 0,
                body: value,
                end: Some(0),
            },
        }
    }

    /// Writes its first bytes, and returns how many.
    fn write(&self, room: &mut [u8]) -> usize {
        let mut length = 0;
        let mut put = |room: &mut [u8], byte| {
            if let Some(to) = room.get_mut(length) {
                *to = byte;
                length += 1;
            }
        };
        for byte in self.head.into_iter().flatten() {
            put(room, byte);
        }
        for byte in self.body.iter().take(room.len()) {
            put(room, byte ^ self.flip);
        }
        if let Some(byte) = self.end {
            put(room, byte);
        }
        length
    }
}

/// The first bytes of a row's key. It is needed of each row, so it is made without the iterators.
pub(super) fn prefix(row: &[u8], columns: &[usize]) -> Prefix {
    let mut bytes = [0; size_of::<Prefix>()];
    let mut length = 0;
    for column in columns {
        match &mut bytes[length..] {
            [] => break,
            room => length += ValueKey::new(field(row, *column)).write(room),
        }
    }
    Prefix::from_be_bytes(bytes)
}

/// The order of two rows.
pub(super) fn compare(a: &[u8], b: &[u8], columns: &[usize]) -> Ordering {
    key(a, columns).cmp(key(b, columns)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prefix_is_the_beginning_of_the_key(
            row in "(-?[0-9]{1,20}|[a-c]{0,20}|-)(\t(-?[0-9]{1,4}|[a-c\\\\]{0,4})){0,3}",
            columns in prop::collection::vec(0..4_usize, 1..3),
        ) {
            let mut expected = [0; size_of::<Prefix>()];
            expected.iter_mut().zip(key(row.as_bytes(), &columns)).for_each(|(to, byte)| *to = byte);
            prop_assert_eq!(prefix(row.as_bytes(), &columns).to_be_bytes(), expected);
        }
    }
}
