//! Columns and values of the console's answers, in the forms of the protocol.

use jiff::Timestamp;

use crate::wire::{Field, Format};

/// Microseconds from the Unix epoch to Postgres', 2000-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The type of a column, by its object id in `pg_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `bool`.
    Bool,
    /// `int8`.
    Int8,
    /// `text`.
    Text,
    /// `timestamptz`.
    Timestamptz,
    /// `json`: a list or an object.
    Json,
}

impl ColumnType {
    /// Its object id, and the bytes of each value.
    fn oid_and_size(self) -> (u32, i16) {
        match self {
            Self::Bool => (16, 1),
            Self::Int8 => (20, 8),
            Self::Text => (TEXT_OID, -1),
            Self::Timestamptz => (1184, 8),
            Self::Json => (114, -1),
        }
    }
}

/// The object id of `text`.
pub const TEXT_OID: u32 = 25;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
}

impl Column {
    /// A column of this name and type.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        let name = name.into();
        Self { name, kind }
    }

    /// Its description for a client that gets its values in this form.
    pub(crate) fn field(&self, format: Format) -> Field<'_> {
        let (type_oid, type_size) = self.kind.oid_and_size();
        Field {
            name: &self.name,
            type_oid,
            type_size,
            format,
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Null.
    Null,
    /// A `bool`.
    Bool(bool),
    /// An `int8`.
    Int(i64),
    /// A `text`, or the text of a `json`.
    Text(String),
    /// A `timestamptz`.
    Time(Timestamp),
}

impl Value {
    /// Its bytes; none for null.
    pub(crate) fn encode(&self, format: Format) -> Option<Vec<u8>> {
        Some(match (self, format) {
            (Self::Null, _) => return None,
            (Self::Bool(value), Format::Text) => vec![if *value { b't' } else { b'f' }],
            (Self::Bool(value), Format::Binary) => vec![u8::from(*value)],
            (Self::Int(value), Format::Text) => value.to_string().into_bytes(),
            (Self::Int(value), Format::Binary) => value.to_be_bytes().to_vec(),
            // Both types have one form.
            (Self::Text(value), _) => value.clone().into_bytes(),
            // Of DateStyle ISO, in UTC.
            (Self::Time(value), Format::Text) => value
                .strftime("%Y-%m-%d %H:%M:%S%.6f+00")
                .to_string()
                .into_bytes(),
            (Self::Time(value), Format::Binary) => {
                let micros = value.as_microsecond();
                let micros = micros.saturating_sub(POSTGRES_EPOCH_MICROS);
                micros.to_be_bytes().to_vec()
            }
        })
    }
}
