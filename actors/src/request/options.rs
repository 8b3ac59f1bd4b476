//! multidb's settings within the startup packet's `options`.
//!
//! Postgres splits `options` into words as `pg_split_opts` (`src/backend/utils/init/postinit.c`)
//! does and reads them like a command line (`process_postgres_switches`). This module finds
//! `-c multidb.KEY=VALUE`, `-cmultidb.KEY=VALUE` and `--multidb.KEY=VALUE` by the same rules and
//! cuts them out; all other bytes stay unchanged for Postgres.

use std::ops::Range;

use super::{RequestError, pairs};

/// The prefix of multidb's settings.
const PREFIX: &str = "multidb.";
/// Postgres' one-letter switches that take an argument.
const SWITCHES_WITH_ARGUMENT: &[u8] = b"BCcDdfhkNprStvW-";

/// The options, split into those of multidb and those of Postgres.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// multidb's keys, in lower case and without the prefix, and their decoded values.
    pub(super) pairs: Vec<(String, String)>,
    /// The rest for Postgres; `None` if it is blank.
    pub(super) rest: Option<Vec<u8>>,
}

/// One word of the options.
struct Word {
    /// The range of the word and the white space after it.
    range: Range<usize>,
    /// The word without its escapes.
    text: Vec<u8>,
}

/// Splits the options.
pub(super) fn split(options: &[u8]) -> Result<Split, RequestError> {
    let mut pairs = Vec::new();
    let mut rest = Vec::new();
    let mut kept_until = 0;
    let mut words = split_words(options).into_iter();
    while let Some(word) = words.next() {
        let mut end = word.range.end;
        let mut setting = None;
        if let Some(attached) = word
            .text
            .strip_prefix(b"--")
            .or_else(|| word.text.strip_prefix(b"-c"))
            .filter(|attached| !attached.is_empty())
        {
            setting = Some(attached.to_vec());
        } else if takes_next_word(&word.text)
            && let Some(next) = words.next()
        {
            end = next.range.end;
            setting = (word.text == b"-c").then_some(next.text);
        }
        if let Some(pair) = setting
            .as_deref()
            .map(multidb_setting)
            .transpose()?
            .flatten()
        {
            pairs.push(pair);
            rest.extend_from_slice(&options[kept_until..word.range.start]);
            kept_until = end;
        }
    }
    rest.extend_from_slice(&options[kept_until..]);
    let is_blank = rest.iter().copied().all(is_space);
    Ok(Split {
        pairs,
        rest: (!is_blank).then_some(rest),
    })
}

/// Splits into words at white space; a backslash escapes the next byte.
fn split_words(options: &[u8]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut in_word = false;
    let mut escaped = false;
    for (index, &byte) in options.iter().enumerate() {
        if is_space(byte) && !escaped {
            in_word = false;
        } else if !in_word {
            in_word = true;
            words.push(Word {
                range: index..index,
                text: Vec::new(),
            });
        }
        let Some(word) = words.last_mut() else {
            continue;
        };
        word.range.end = index + 1;
        if in_word {
            if byte == b'\\' && !escaped {
                escaped = true;
            } else {
                escaped = false;
                word.text.push(byte);
            }
        }
    }
    words
}

/// Whether a word ends in a switch whose argument is the next word.
fn takes_next_word(word: &[u8]) -> bool {
    let Some(switches) = word.strip_prefix(b"-") else {
        return false;
    };
    let argument = switches
        .iter()
        .position(|switch| SWITCHES_WITH_ARGUMENT.contains(switch));
    word != b"--" && argument.is_some_and(|index| index + 1 == switches.len())
}

/// Parses `name=value` if the name has multidb's prefix.
///
/// Like Postgres, accepts the name in any case, and `-` for `_` (`ParseLongOption`).
fn multidb_setting(setting: &[u8]) -> Result<Option<(String, String)>, RequestError> {
    let has_prefix = setting
        .get(..PREFIX.len())
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX.as_bytes()));
    if !has_prefix {
        return Ok(None);
    }
    let setting = std::str::from_utf8(setting).map_err(|_| RequestError::OptionsEncoding)?;
    let Some((name, value)) = setting.split_once('=') else {
        return Err(RequestError::OptionWithoutValue {
            name: setting.to_owned(),
        });
    };
    let key = name[PREFIX.len()..].to_ascii_lowercase().replace('-', "_");
    let value = pairs::decode(&key, value)?.into_owned();
    Ok(Some((key, value)))
}

/// C's `isspace`, which includes the vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}
