//! What can be wrong with a request. All of it the client wrote itself, so all of it may be told.

use std::fmt;

use multidb_store::InvalidName;
use serde::Serialize;

/// Where a key was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the user name.
    UserName,
    /// In the startup packet's `options`.
    Options,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserName => "user name",
            Self::Options => "options",
        })
    }
}

/// A request that multidb cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RequestError {
    /// The user name is not UTF-8.
    #[error("user name is not valid UTF-8")]
    UserNameEncoding,
    /// One of our options is not UTF-8.
    #[error("a multidb option is not valid UTF-8")]
    OptionsEncoding,
    /// The user name is a plain one, and nothing names an instance.
    #[error("user name {} names no instance", quoted(user))]
    PlainUserName {
        /// The user name.
        user: String,
    },
    /// The user name is exactly a key, such as `instance`: what is left of
    /// `instance:x,gitref:y@host` in a URL.
    #[error("user name \"{user}\" names no instance")]
    UnescapedUrl {
        /// The key.
        user: String,
    },
    /// There are pairs, but none names an instance.
    #[error("no instance is named")]
    NoInstance,
    /// A part of the user name is no pair.
    #[error("{} in the user name is not a key:value pair", quoted(text))]
    NotAPair {
        /// The part.
        text: String,
    },
    /// An option of ours has no value.
    #[error("option {} has no value", quoted(name))]
    OptionWithoutValue {
        /// The option as it was given.
        name: String,
    },
    /// No such key.
    #[error("unknown key {} in the {place}", quoted(key))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        place: Place,
    },
    /// A key stands twice in one place.
    #[error("key \"{key}\" is repeated in the {place}")]
    RepeatedKey {
        /// The key.
        key: &'static str,
        /// Where it stands.
        place: Place,
    },
    /// The user name and the options say different things.
    #[error("user name and options disagree on \"{key}\"")]
    Conflict {
        /// The key.
        key: &'static str,
        /// What the user name says.
        user_name: String,
        /// What the options say.
        options: String,
    },
    /// More than one key says what to create from.
    #[error("\"{first}\" and \"{second}\" cannot be combined")]
    SeveralSources {
        /// One of them.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
    /// A value breaks its key's rule.
    #[error("invalid value {} for {}: {rule}", quoted(value), quoted(key))]
    InvalidValue {
        /// The key.
        key: String,
        /// The value, shortened where it is long.
        value: String,
        /// The rule.
        rule: &'static str,
    },
}

impl From<InvalidName> for RequestError {
    fn from(error: InvalidName) -> Self {
        Self::invalid_value(error.kind, &error.text, error.rule)
    }
}

impl RequestError {
    pub(super) fn invalid_value(key: &str, value: &str, rule: &'static str) -> Self {
        Self::InvalidValue {
            key: key.to_owned(),
            value: value.to_owned(),
            rule,
        }
    }

    /// The stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UserNameEncoding => "user_name_encoding",
            Self::OptionsEncoding => "options_encoding",
            Self::PlainUserName { .. } => "plain_user_name",
            Self::UnescapedUrl { .. } => "unescaped_url",
            Self::NoInstance => "no_instance",
            Self::NotAPair { .. } => "not_a_pair",
            Self::OptionWithoutValue { .. } => "option_without_value",
            Self::UnknownKey { .. } => "unknown_key",
            Self::RepeatedKey { .. } => "repeated_key",
            Self::Conflict { .. } => "conflict",
            Self::SeveralSources { .. } => "several_sources",
            Self::InvalidValue { .. } => "invalid_value",
        }
    }
}

/// The longest quotation of a client's text, in characters.
const QUOTED_LENGTH_MAX: usize = 100;

/// A client's own text in a message: in quotes, on one line, shortened.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut rest = text.chars();
    for character in rest.by_ref().take(QUOTED_LENGTH_MAX) {
        if character.is_control() {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    if rest.next().is_some() {
        quoted.push('…');
    }
    quoted.push('"');
    quoted
}
