//! The UUID of a root.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The UUID of a root, which stays when the root is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootId(u128);

impl RootId {
    /// The identity with these bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// A random one, from the kernel.
    pub(super) fn random() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        text.trim().parse().map_err(io::Error::other)
    }
}

/// A text that is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a UUID")]
pub struct InvalidRootId;

impl FromStr for RootId {
    type Err = InvalidRootId;

    fn from_str(text: &str) -> Result<Self, InvalidRootId> {
        let lengths = text.split('-').map(str::len);
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let valid = lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || is_digit(b));
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(bits) if valid => Ok(Self(bits)),
            _ => Err(InvalidRootId),
        }
    }
}

impl TryFrom<String> for RootId {
    type Error = InvalidRootId;

    fn try_from(text: String) -> Result<Self, InvalidRootId> {
        text.parse()
    }
}

impl From<RootId> for String {
    fn from(id: RootId) -> String {
        id.to_string()
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        f.write_str(&parts.join("-"))
    }
}
