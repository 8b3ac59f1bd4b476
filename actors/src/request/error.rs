//! Faults in a request. All values in them are the client's own, so they reveal nothing.

use std::fmt;

use multidb_store::InvalidName;
use serde::Serialize;

use crate::text::quoted;

/// The place of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPlace {
    /// The user name.
    UserName,
    /// The startup packet's `options`.
    Options,
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserName => "user name",
            Self::Options => "options",
        })
    }
}

/// A fault in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RequestError {
    /// The user name is not UTF-8.
    #[error("user name is not valid UTF-8")]
    UserNameEncoding,
    /// One of multidb's options is not UTF-8.
    #[error("a multidb option is not valid UTF-8")]
    OptionsEncoding,
    /// The user name has no pairs, and nothing names an instance.
    #[error("user name {} names no instance", quoted(user))]
    PlainUserName {
        /// The user name.
        user: String,
    },
    /// The user name has no pairs, and the database is the console.
    #[error("user name {} is no key:value pair", quoted(user))]
    PlainUserNameAtConsole {
        /// The user name.
        user: String,
    },
    /// The user name is exactly a key, such as `instance`: the rest of `instance:x,gitref:y@host` in a URL
    /// became the password.
    #[error("user name \"{user}\" names no instance")]
    UnescapedUrl {
        /// The key.
        user: String,
    },
    /// There are pairs, but none names an instance.
    #[error("no instance is named")]
    NoInstance,
    /// A part of the user name is not a pair.
    #[error("{} in the user name is not a key:value pair", quoted(text))]
    NotAPair {
        /// The part.
        text: String,
    },
    /// One of multidb's options has no value.
    #[error("option {} has no value", quoted(name))]
    OptionWithoutValue {
        /// The option.
        name: String,
    },
    /// No such key.
    #[error("unknown key {} in the {place}", quoted(key))]
    UnknownKey {
        /// The key.
        key: String,
        /// Its place.
        place: KeyPlace,
    },
    /// A key is repeated in one place.
    #[error("key \"{key}\" is repeated in the {place}")]
    RepeatedKey {
        /// The key.
        key: &'static str,
        /// Its place.
        place: KeyPlace,
    },
    /// The user name and the options have different values for a key.
    #[error("user name and options disagree on \"{key}\"")]
    Conflict {
        /// The key.
        key: &'static str,
        /// The value in the user name.
        user_name: String,
        /// The value in the options.
        options: String,
    },
    /// More than one source is given.
    #[error("\"{first}\" and \"{second}\" cannot be combined")]
    SeveralSources {
        /// The key of one source.
        first: &'static str,
        /// The key of another source.
        second: &'static str,
    },
    /// A value breaks a rule of its key.
    #[error("invalid value {} for {}: {rule}", quoted(value), quoted(key))]
    InvalidValue {
        /// The key.
        key: String,
        /// The value.
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
            Self::PlainUserNameAtConsole { .. } => "plain_user_name_at_console",
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
