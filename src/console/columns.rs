//! The columns of a type that is serialized as a JSON object, and its rows.
//!
//! A struct tells its deserializer the names of its fields, and each field its kind. [`Probe`] is a deserializer that
//! notes both and answers with a value of that kind, so there is no table of columns that could differ from the types.

use std::cell::RefCell;
use std::slice;

use jiff::Timestamp;
use multidb_actors::console::{Column, ColumnType, Value};
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor,
};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::{Map, Value as Json};

/// The ends of the names of times, which are texts in JSON.
const TIME_SUFFIXES: [&str; 2] = ["_at", "_until"];
/// A text that is a time, too.
const ANY_TEXT: &str = "2000-01-01T00:00:00Z";

/// What an optional field is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Optional {
    Value,
    Nothing,
}

/// The columns of all fields.
pub(super) fn columns_of<T: DeserializeOwned>() -> Vec<Column> {
    let columns = RefCell::default();
    let probed = T::deserialize(Probe {
        depth: 0,
        field: "",
        optional: Optional::Value,
        columns: &columns,
    });
    note_error(probed.as_ref().err());
    columns.into_inner()
}

/// The columns of the fields that each element of a list has: without those that only a part of them has.
pub(super) fn columns_of_list<T: DeserializeOwned + Serialize>() -> Vec<Column> {
    let mut columns = columns_of::<T>();
    let probed = T::deserialize(Probe {
        depth: 0,
        field: "",
        optional: Optional::Nothing,
        columns: &RefCell::default(),
    });
    note_error(probed.as_ref().err());
    let least = probed.map(|value| object(&value)).unwrap_or_default();
    columns.retain(|column| least.contains_key(&column.name));
    columns
}

/// A type without columns is a defect, which its test finds.
fn note_error(error: Option<&Error>) {
    if let Some(error) = error {
        tracing::error!(%error, "the columns of a type are not known");
    }
}

/// The fields of a value.
pub(super) fn object(value: &impl Serialize) -> Map<String, Json> {
    match serde_json::to_value(value) {
        Ok(Json::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// The row of an object. A field that it leaves out is null.
pub(super) fn row(columns: &[Column], mut fields: Map<String, Json>) -> Vec<Value> {
    let value = |column: &Column| match fields.remove(&column.name) {
        Some(field) => value(column.kind, field),
        None => Value::Null,
    };
    columns.iter().map(value).collect()
}

fn value(kind: ColumnType, field: Json) -> Value {
    match (kind, field) {
        (_, Json::Null) => Value::Null,
        (ColumnType::Bool, Json::Bool(value)) => Value::Bool(value),
        (ColumnType::Int8, Json::Number(number)) => Value::Int(number.as_i64().unwrap_or(i64::MAX)),
        (ColumnType::Timestamptz, Json::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => Value::Time(time),
            Err(_) => Value::Null,
        },
        (ColumnType::Text, Json::String(text)) => Value::Text(text),
        (_, other) => Value::Text(other.to_string()),
    }
}

/// Notes the fields of a struct, and gives each a value.
#[derive(Clone, Copy)]
struct Probe<'a> {
    /// 0 for the struct itself, 1 for its fields; what is in those is one value of JSON.
    depth: usize,
    /// The name of the field.
    field: &'static str,
    optional: Optional,
    columns: &'a RefCell<Vec<Column>>,
}

impl Probe<'_> {
    fn note(self, kind: ColumnType) {
        if self.depth == 1 {
            let column = Column::new(self.field, kind);
            self.columns.borrow_mut().push(column);
        }
    }

    fn note_text(self) {
        let is_time = TIME_SUFFIXES.iter().any(|end| self.field.ends_with(end));
        self.note(if is_time {
            ColumnType::Timestamptz
        } else {
            ColumnType::Text
        });
    }
}

/// Methods for kinds of values that are noted and answered alike.
macro_rules! answer {
    ($($method:ident)*, $note:expr, $visit:expr) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            $note(self);
            $visit(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    answer!(
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64,
        |probe: Self| probe.note(ColumnType::Int8),
        |visitor: V| visitor.visit_u64(0)
    );
    answer!(
        deserialize_bool,
        |probe: Self| probe.note(ColumnType::Bool),
        |visitor: V| visitor.visit_bool(false)
    );
    answer!(
        deserialize_str deserialize_string,
        Self::note_text,
        |visitor: V| visitor.visit_str(ANY_TEXT)
    );
    answer!(
        deserialize_seq,
        |probe: Self| probe.note(ColumnType::Json),
        |visitor: V| visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<u8>()))
    );
    answer!(
        deserialize_map,
        |probe: Self| probe.note(ColumnType::Json),
        |visitor: V| visitor.visit_map(MapDeserializer::new(std::iter::empty::<(u8, u8)>()))
    );
    answer!(
        deserialize_any,
        |probe: Self| probe.note(ColumnType::Json),
        |visitor: V| visitor.visit_unit()
    );

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.optional {
            Optional::Value => visitor.visit_some(self),
            Optional::Nothing => visitor.visit_none(),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(ColumnType::Json);
        visitor.visit_map(Fields {
            names: fields.iter(),
            probe: Self {
                depth: self.depth + 1,
                ..self
            },
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(ColumnType::Text);
        let variant = variants.first().copied().unwrap_or_default();
        visitor.visit_enum(variant.into_deserializer())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The fields of a struct, in their order.
struct Fields<'a> {
    names: slice::Iter<'static, &'static str>,
    probe: Probe<'a>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        self.probe.field = name;
        seed.deserialize((*name).into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.probe)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use multidb_actors::console::ColumnType::{Bool, Int8, Json as JsonType, Text, Timestamptz};

    use super::*;
    use crate::control::model::{
        ConnectionView, ExplainView, InstanceView, JobView, LimitView, SnapshotView, StatusView,
        VerdictView,
    };

    fn names<T: DeserializeOwned>() -> BTreeSet<String> {
        let columns = columns_of::<T>();
        columns.into_iter().map(|column| column.name).collect()
    }

    /// A value with all of its fields, as JSON.
    #[track_caller]
    fn check<T: DeserializeOwned + Serialize>() {
        let filled = T::deserialize(Probe {
            depth: 0,
            field: "",
            optional: Optional::Value,
            columns: &RefCell::default(),
        });
        let filled = object(&filled.unwrap());
        let fields: BTreeSet<String> = filled.keys().cloned().collect();
        assert!(!fields.is_empty());
        assert_eq!(names::<T>(), fields);
        let columns = columns_of::<T>();
        let values = row(&columns, filled);
        for (column, value) in columns.iter().zip(values) {
            let fits = match column.kind {
                Bool => matches!(value, Value::Bool(_)),
                Int8 => matches!(value, Value::Int(_)),
                Text | JsonType => matches!(value, Value::Text(_)),
                Timestamptz => matches!(value, Value::Time(_)),
            };
            assert!(fits, "{column:?}: {value:?}");
        }
    }

    #[test]
    fn columns_are_the_fields_of_the_json_and_values_have_their_types() {
        check::<InstanceView>();
        check::<SnapshotView>();
        check::<ConnectionView>();
        check::<JobView>();
        check::<StatusView>();
        check::<LimitView>();
        check::<ExplainView>();
        check::<VerdictView>();
    }

    #[test]
    fn names_and_kinds_of_fields_decide_on_types() {
        let columns = columns_of::<InstanceView>();
        let kind = |name: &str| {
            let column = columns.iter().find(|column| column.name == name);
            column.map(|column| column.kind)
        };
        for (name, expected) in [
            ("name", Some(Text)),
            ("class", Some(Text)),
            ("data_dir", Some(Text)),
            ("created_at", Some(Timestamptz)),
            ("pinned_until", Some(Timestamptz)),
            ("pinned", Some(Bool)),
            ("postgres_major", Some(Int8)),
            ("exclusive_bytes", Some(Int8)),
            ("awake_because", Some(JsonType)),
            ("no_such_field", None),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn list_has_no_column_of_what_only_one_that_is_shown_has() {
        let columns = columns_of_list::<InstanceView>();
        let has = |name: &str| columns.iter().any(|column| column.name == name);
        assert!(has("expires_at") && has("exclusive_bytes") && has("failure"));
        assert!(!has("awake_because") && !has("sessions_ended"));
    }
}
