//! Resources as they are stored and sent between programs: read as far as this version knows them.
//!
//! A document that a person writes is strict, so that no typing error goes unnoticed. A record may be
//! a newer version's: fields that this one does not know are left out, and values of enumerations are
//! kept as they are. What tells the two apart for the types of this module is serde's
//! `is_human_readable`, which is false for a record.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// Reads a record that is JSON.
pub fn from_record<T: DeserializeOwned>(record: &[u8]) -> Result<T, Error> {
    from_value(serde_json::from_slice(record)?)
}

/// Reads a record that is a value of JSON.
pub fn from_value<T: DeserializeOwned>(record: Value) -> Result<T, Error> {
    T::deserialize(Record(record))
}

/// A value of JSON in which a struct may have fields that are not its own.
struct Record(Value);

impl<'de> IntoDeserializer<'de, Error> for Record {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Record {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(all) => {
                visitor.visit_seq(SeqDeserializer::new(all.into_iter().map(Record)))
            }
            Value::Object(all) => {
                let fields = all.into_iter().map(|(key, value)| (key, Self(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Value::Object(all) = &mut self.0 {
            all.retain(|key, _| fields.contains(&key.as_str()));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}
