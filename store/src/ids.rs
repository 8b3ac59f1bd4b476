//! Names and identifiers, each its own type, validated on construction.
//!
//! All names have the same alphabet, so that each is safe as a path component and as a label.
//! Copies of a name share its text, since the tables of instances hold many of them.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub const NAME_LENGTH_MAX: usize = 63;

/// A string that is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} \"{text}\" is not a name: {rule}")]
pub struct InvalidName {
    /// The kind of name, such as `instance`.
    pub kind: &'static str,
    /// The string, cut off behind the longest name.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

fn check(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let fail = |rule| {
        Err(InvalidName {
            kind,
            text: text.chars().take(NAME_LENGTH_MAX + 1).collect(),
            rule,
        })
    };
    if text.is_empty() {
        return fail("it is empty");
    }
    if text.len() > NAME_LENGTH_MAX {
        return fail("it is longer than 63 bytes");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return fail("it must start with a letter or a digit");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return fail("only letters, digits, '.', '_' and '-' are allowed");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check($kind, text)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of an instance, unique in the daemon: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
    InstanceName,
    "instance"
);
name_type!(
    /// The name of a project, as in the configuration.
    ProjectName,
    "project"
);
name_type!(
    /// The id of a snapshot, unique in the daemon.
    SnapshotId,
    "snapshot"
);

/// The identity of one clone of a snapshot on disk, written as 12 hexadecimal digits.
///
/// Paths, containers and labels use it instead of the instance's name: it is short enough for the
/// path of a Unix socket (107 bytes at most), and no user chooses it. A reset gives an instance a
/// new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceUid(u64);

impl InstanceUid {
    const BITS: u32 = 48;

    /// The identity with these low 48 bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }
}

impl FromStr for InstanceUid {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let valid = text.len() == 12 && text.bytes().all(is_digit);
        match u64::from_str_radix(text, 16) {
            Ok(bits) if valid => Ok(Self(bits)),
            _ => Err(InvalidName {
                kind: "uid",
                text: text.chars().take(NAME_LENGTH_MAX + 1).collect(),
                rule: "it must be 12 lower-case hexadecimal digits",
            }),
        }
    }
}

impl TryFrom<String> for InstanceUid {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<InstanceUid> for String {
    fn from(uid: InstanceUid) -> String {
        uid.to_string()
    }
}

impl fmt::Display for InstanceUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl fmt::Debug for InstanceUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceUid({self})")
    }
}

/// The number of a job. A later job has a higher one, and a restart continues the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(u64);

impl JobId {
    /// The number of the first job.
    pub const FIRST: Self = Self(1);

    /// The job with this number.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The key of its record. Keys sort as the numbers do.
    pub fn to_key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The job whose record has this key; none for bytes that are not a key.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        key.try_into().ok().map(u64::from_be_bytes).map(Self)
    }
}

impl FromStr for JobId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn job_key_round_trips_and_sorts_as_its_number(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (JobId::from_number(a), JobId::from_number(b));
            prop_assert_eq!(JobId::from_key(&a.to_key()), Some(a));
            prop_assert_eq!(a.to_key().cmp(&b.to_key()), a.cmp(&b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
        }

        #[test]
        fn bytes_of_another_length_are_not_a_job_key(key in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(JobId::from_key(&key).is_some(), key.len() == 8);
        }
    }
}
