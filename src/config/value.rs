//! Reading and showing single values.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::section::kind;

/// The longest time. It keeps sums of times within their types.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The largest count.
const COUNT_MAX: i64 = 1_000_000;

/// A type of a setting.
pub(super) trait Value: Sized {
    /// Reads it; the error names the valid values.
    fn read(value: &toml::Value) -> Result<Self, String>;

    /// The value as the file has it, without secrets.
    fn show(&self) -> toml::Value;
}

/// The text of a value that must be a string.
pub(super) fn text<'a>(value: &'a toml::Value, like: &str) -> Result<&'a str, String> {
    let other = || format!("is {}, but must be a string such as {like}", kind(value));
    value.as_str().ok_or_else(other)
}

/// A string as a value.
pub(super) fn string(text: impl Into<String>) -> toml::Value {
    toml::Value::String(text.into())
}

/// A string in TOML syntax.
pub(super) fn quoted(text: impl Into<String>) -> String {
    string(text).to_string()
}

impl Value for String {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = value
            .as_str()
            .ok_or_else(|| format!("is {}, but must be a string", kind(value)))?;
        if text.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        if text.contains('\0') {
            return Err("contains a NUL character".to_owned());
        }
        Ok(text.to_owned())
    }

    fn show(&self) -> toml::Value {
        string(self)
    }
}

impl Value for PathBuf {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let path = PathBuf::from(String::read(value)?);
        if !path.is_absolute() {
            return Err(format!("\"{}\" is not an absolute path", path.display()));
        }
        Ok(path)
    }

    fn show(&self) -> toml::Value {
        string(self.to_string_lossy())
    }
}

impl Value for Duration {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = text(value, "\"15m\"")?;
        let duration = humantime::parse_duration(text).map_err(|error| {
            format!("\"{text}\" is not a time such as \"15m\" or \"30d\": {error}")
        })?;
        if duration > DURATION_MAX {
            return Err(format!("\"{text}\" is too long: at most 100 years"));
        }
        Ok(duration)
    }

    fn show(&self) -> toml::Value {
        string(duration_text(*self))
    }
}

impl Value for ByteSize {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = text(value, "\"5GiB\"")?;
        text.parse()
            .map_err(|_| format!("\"{text}\" is not a size such as \"512MiB\" or \"5GiB\""))
    }

    fn show(&self) -> toml::Value {
        string(size_text(*self))
    }
}

/// A size, or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OptionalSize(pub(super) Option<ByteSize>);

impl Value for OptionalSize {
    fn read(value: &toml::Value) -> Result<Self, String> {
        if value.as_str() == Some("none") {
            return Ok(Self(None));
        }
        let size = ByteSize::read(value);
        size.map(|size| Self(Some(size)))
            .map_err(|fault| format!("{fault}, nor \"none\""))
    }

    fn show(&self) -> toml::Value {
        self.0.map_or_else(|| string("none"), |size| size.show())
    }
}

/// A share in percent, or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percent(pub(super) Option<u8>);

impl Value for Percent {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = text(value, "\"85%\"")?;
        if text == "none" {
            return Ok(Self(None));
        }
        let number = text
            .strip_suffix('%')
            .and_then(|number| number.parse().ok());
        let number = number.filter(|number| (1..=100).contains(number));
        let wrong = || format!("\"{text}\" is neither a share such as \"85%\" nor \"none\"");
        number.map(|number| Self(Some(number))).ok_or_else(wrong)
    }

    fn show(&self) -> toml::Value {
        string(
            self.0
                .map_or("none".to_owned(), |number| format!("{number}%")),
        )
    }
}

/// A time in the units of the documentation: `30d`, `1h 30m`.
fn duration_text(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut parts = Vec::new();
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")] {
        if seconds >= unit {
            parts.push(format!("{}{name}", seconds / unit));
            seconds %= unit;
        }
    }
    let fraction = Duration::from_nanos(duration.subsec_nanos().into());
    if !fraction.is_zero() || parts.is_empty() {
        parts.push(humantime::format_duration(fraction).to_string());
    }
    parts.join(" ")
}

/// A size in the largest unit that holds it exactly.
fn size_text(size: ByteSize) -> String {
    let bytes = size.as_u64();
    let units = [
        (bytesize::GIB, "GiB"),
        (bytesize::MIB, "MiB"),
        (bytesize::KIB, "KiB"),
    ];
    let exact = units
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match exact {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

impl Value for f64 {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let whole = value
            .as_integer()
            .and_then(|number| i32::try_from(number).ok());
        value
            .as_float()
            .or(whole.map(f64::from))
            .filter(|number| number.is_finite())
            .ok_or_else(|| format!("is {}, but must be a number such as 2.0", kind(value)))
    }

    fn show(&self) -> toml::Value {
        toml::Value::Float(*self)
    }
}

impl Value for bool {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let read = value.as_bool();
        read.ok_or_else(|| format!("is {}, but must be true or false", kind(value)))
    }

    fn show(&self) -> toml::Value {
        toml::Value::Boolean(*self)
    }
}

impl Value for usize {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let number = value
            .as_integer()
            .ok_or_else(|| format!("is {}, but must be an integer", kind(value)))?;
        let bounded = Some(number).filter(|number| (0..=COUNT_MAX).contains(number));
        bounded
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| format!("{number} is not between 0 and {COUNT_MAX}"))
    }

    fn show(&self) -> toml::Value {
        toml::Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let items = value
            .as_array()
            .ok_or_else(|| format!("is {}, but must be a list", kind(value)))?;
        let (mut values, mut faults) = (Vec::new(), Vec::new());
        for item in items {
            match T::read(item) {
                Ok(value) => values.push(value),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            Ok(values)
        } else {
            Err(faults.join("; "))
        }
    }

    fn show(&self) -> toml::Value {
        toml::Value::Array(self.iter().map(Value::show).collect())
    }
}

/// Reads a word of a fixed set.
pub(super) fn word<T: Copy>(value: &toml::Value, words: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<_> = words.iter().map(|(name, _)| quoted(*name)).collect();
    let names = names.join(", ");
    let Some(text) = value.as_str() else {
        return Err(format!("is {}, but must be one of {names}", kind(value)));
    };
    words
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, word)| *word)
        .ok_or_else(|| format!("\"{text}\" is not one of {names}"))
}
