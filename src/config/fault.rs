//! The faults of a configuration.

use std::fmt;
use std::path::PathBuf;

/// One fault of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key with its sections, such as `limits.retention`; empty if the file as a whole is faulty.
    pub key: String,
    /// The fault, and the valid values.
    pub message: String,
    /// The line in the file, from 1; none if the file does not set the key.
    pub line: Option<usize>,
}

impl Fault {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
            line: None,
        }
    }

    /// The file is not TOML.
    pub(super) fn syntax(error: &toml::de::Error) -> Self {
        Self::new("", error.to_string().trim_end().to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(line) = self.line {
                write!(f, " (line {line})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// All faults of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigFaults {
    /// The file.
    pub file: Option<PathBuf>,
    /// The faults, in the order of the sections.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration")?;
        if let Some(file) = &self.file {
            write!(f, " {}", file.display())?;
        }
        match self.faults.len() {
            1 => f.write_str(" has a fault:")?,
            count => write!(f, " has {count} faults:")?,
        }
        for fault in &self.faults {
            // A syntax error has several lines.
            let text = fault.to_string().replace('\n', "\n  ");
            write!(f, "\n  {text}")?;
        }
        Ok(())
    }
}
