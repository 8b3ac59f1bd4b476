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
    const NEGATIVE: u8 = 0;
    const POSITIVE: u8 = 1;
    const TEXT: u8 = 2;
    let (is_negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let length = u8::try_from(digits.len()).ok();
    let length = length.filter(|length| *length > 0 && digits.iter().all(u8::is_ascii_digit));
    let (kind, flip, body) = match (length, is_negative) {
        (Some(_), true) => (NEGATIVE, u8::MAX, digits),
        (Some(_), false) => (POSITIVE, 0, digits),
        (None, _) => (TEXT, 0, value),
    };
    // No value of Postgres has a zero byte.
    let end = length.is_none().then_some(0);
    let body = length.into_iter().chain(body.iter().copied());
    [kind]
        .into_iter()
        .chain(body.map(move |byte| byte ^ flip))
        .chain(end)
}

/// The first bytes of a row's key.
pub(super) fn prefix(row: &[u8], columns: &[usize]) -> Prefix {
    let mut bytes = [0; size_of::<Prefix>()];
    bytes
        .iter_mut()
        .zip(key(row, columns))
        .for_each(|(to, byte)| *to = byte);
    Prefix::from_be_bytes(bytes)
}

/// The order of two rows.
pub(super) fn compare(a: &[u8], b: &[u8], columns: &[usize]) -> Ordering {
    key(a, columns).cmp(key(b, columns)).then_with(|| a.cmp(b))
}
