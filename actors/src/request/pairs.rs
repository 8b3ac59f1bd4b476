//! `key:value` pairs, and the percent-encoding of their values.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::RequestError;

/// Whether a user name has multidb's form, rather than being a plain name.
pub(super) fn has_pairs(user: &str) -> bool {
    user.contains([':', '=', ','])
}

/// Splits a user name into its keys and decoded values.
pub(super) fn split(user: &str) -> Result<Vec<(&str, Cow<'_, str>)>, RequestError> {
    user.split(',')
        .map(|pair| {
            let (key, value) =
                pair.split_once([':', '='])
                    .ok_or_else(|| RequestError::NotAPair {
                        text: pair.to_owned(),
                    })?;
            Ok((key, decode(key, value)?))
        })
        .collect()
}

/// Decodes the percent-encoding of a value.
///
/// A `%` without two hexadecimal digits is an error, since decoders differ on it.
pub(super) fn decode<'a>(key: &str, value: &'a str) -> Result<Cow<'a, str>, RequestError> {
    let fail = |rule| RequestError::invalid_value(key, value, rule);
    let is_escape = |after: &str| {
        let digits = after.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !value.split('%').skip(1).all(is_escape) {
        return Err(fail(
            "a '%' must be followed by two hexadecimal digits (a '%' itself is %25)",
        ));
    }
    percent_decode_str(value)
        .decode_utf8()
        .map_err(|_| fail("it is not valid UTF-8 once decoded"))
}
