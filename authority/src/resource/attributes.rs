//! What is known of a workload and its bot, by name: what the rules and templates of workload identities refer to.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Attributes by name, such as `workload.unix.uid`. An attribute that is not known is absent; it never has an empty value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, Vec<String>>);

impl Attributes {
    /// Sets an attribute to a value; an empty text is none.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.set_all(name, [value]);
    }

    /// Sets an attribute to several values.
    pub fn set_all<T: ToString>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        let values = values.into_iter().map(|value| value.to_string());
        let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
        if !values.is_empty() {
            self.0.insert(name.to_owned(), values);
        }
    }

    /// The values of an attribute; none if it is absent.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Adds all of the others.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// For the audit log: a text, or a list of texts if there are several.
impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, values) in &self.0 {
            match values.as_slice() {
                [value] => map.serialize_entry(name, value)?,
                values => map.serialize_entry(name, values)?,
            }
        }
        map.end()
    }
}
