//! A row of an answer.

use std::str::FromStr;

use bytes::Bytes;

use super::SqlError;

/// A row, whose values are texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(Vec<Option<Bytes>>);

impl Row {
    pub(super) fn new(values: Vec<Option<Bytes>>) -> Self {
        Self(values)
    }

    /// The number of values.
    pub fn columns(&self) -> usize {
        self.0.len()
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// The row has no such column, a null in it, or bytes that are not UTF-8.
    pub fn text(&self, column: usize) -> Result<&str, SqlError> {
        let value = self.0.get(column);
        let value = value.ok_or_else(|| unexpected(column, "is missing"))?;
        let value = value
            .as_ref()
            .ok_or_else(|| unexpected(column, "is null"))?;
        std::str::from_utf8(value).map_err(|_| unexpected(column, "is not UTF-8"))
    }

    /// A text, empty for a null.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text), except for a null.
    pub fn text_or_empty(&self, column: usize) -> Result<&str, SqlError> {
        match self.0.get(column) {
            Some(None) => Ok(""),
            _ => self.text(column),
        }
    }

    /// A value of another type than text.
    ///
    /// # Errors
    ///
    /// The text is missing, or is not of that type.
    pub fn value<T: FromStr>(&self, column: usize) -> Result<T, SqlError> {
        let parsed = self.text(column)?.parse();
        parsed.map_err(|_| unexpected(column, "is not of its type"))
    }
}

fn unexpected(column: usize, fault: &str) -> SqlError {
    SqlError::Unexpected(format!("column {} {fault}", column + 1))
}
