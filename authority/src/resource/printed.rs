//! Documents as Teleport prints them: with fields that it fills in itself, and with empty ones for
//! what it has and this authority does not serve.
//!
//! What is printed can be created again. A field that would mean something there and nothing here is
//! refused by its name, so that no operator relies on it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::{Deserialize, de};

/// A part of a document that has more fields in Teleport.
pub(super) trait Printed {
    /// Fields that Teleport fills in by itself, or that say nothing about TPMs.
    const IGNORED: &'static [&'static str] = &[];
    /// Fields that must be empty here.
    const UNSERVED: &'static [&'static str] = &[];
}

/// A part of a document, without what only Teleport has in it.
pub(super) fn part<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Printed + Deserialize<'de>,
{
    // A record has no field of Teleport's, but maybe one of a newer version.
    if !deserializer.is_human_readable() {
        return T::deserialize(deserializer);
    }
    deserializer.deserialize_map(Part(PhantomData))
}

/// A whole document, likewise.
pub(super) struct Whole<T>(pub(super) T);

impl<'de, T: Printed + Deserialize<'de>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        part(deserializer).map(Self)
    }
}

/// A list or map for which `null` may stand.
pub(super) fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A text, for which nothing, `null` or an empty one may stand.
pub(super) fn unless_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<String, Error: fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    let text = text.filter(|text| !text.is_empty());
    text.map(T::try_from).transpose().map_err(D::Error::custom)
}

struct Part<T>(PhantomData<T>);

impl<'de, T: Printed + Deserialize<'de>> Visitor<'de> for Part<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(Own { map, of: PhantomData::<T> }))
    }
}

/// The fields of a map that this authority knows.
struct Own<A, T> {
    map: A,
    of: PhantomData<T>,
}

impl<'de, A: MapAccess<'de>, T: Printed> MapAccess<'de> for Own<A, T> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        loop {
            let key = Key { seed: &mut seed, of: PhantomData::<T> };
            match self.map.next_key_seed(key)? {
                None => return Ok(None),
                Some(Field::Own(own)) => return Ok(Some(own)),
                Some(Field::Ignored) => drop(self.map.next_value::<IgnoredAny>()?),
                Some(Field::Unserved(name)) => self.map.next_value_seed(Empty(name))?,
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum Field<K> {
    Own(K),
    Ignored,
    Unserved(&'static str),
}

/// A key. It is handed on inside of the reader's own call, which knows the place of what is wrong.
struct Key<'s, K, T> {
    /// Taken once, by the first key that is handed on.
    seed: &'s mut Option<K>,
    of: PhantomData<T>,
}

impl<'de, K: DeserializeSeed<'de>, T: Printed> DeserializeSeed<'de> for Key<'_, K, T> {
    type Value = Field<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if T::IGNORED.contains(&key.as_str()) {
            return Ok(Field::Ignored);
        }
        if let Some(name) = T::UNSERVED.iter().find(|name| **name == key) {
            return Ok(Field::Unserved(name));
        }
        let seed = self.seed.take().ok_or_else(|| D::Error::custom("a key was read twice"))?;
        seed.deserialize(key.into_deserializer()).map(Field::Own)
    }
}

/// The value of an unserved field, by its name: whatever Teleport prints where there is nothing.
struct Empty(&'static str);

impl Empty {
    fn only<E: Error>(&self, is_empty: bool) -> Result<(), E> {
        if is_empty {
            return Ok(());
        }
        let name = self.0;
        Err(E::custom(format!(
            "{name}: this Teleport field is not supported: remove it, or leave it empty"
        )))
    }
}

impl<'de> DeserializeSeed<'de> for Empty {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Empty {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing in {}", self.0)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.only(!value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.only(value == 0)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.only(value == 0)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.only(false)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.only(matches!(value, "" | "0s"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.only(list.next_element::<IgnoredAny>()?.is_none())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.only(map.next_key::<IgnoredAny>()?.is_none())
    }
}
