//! A section of the file: which keys it has, and each of them as what it should be.

use std::fmt;

use super::finding::{ByteRange, Source};
use super::tree::{Entry, Node, Value};

/// The keys of a section.
pub struct Keys {
    /// The section's name in messages.
    pub of: &'static str,
    /// The supported keys, each with its meaning for the configuration reference.
    pub known: &'static [(&'static str, &'static str)],
    /// Keys that are expected but not supported, each with the reason or what to write instead.
    pub refused: &'static [(&'static str, &'static str)],
}

/// The keys of a section, for the configuration reference.
pub struct KeySection {
    /// Where the section is in the file, such as `services[].reload`; empty at the top.
    pub path: &'static str,
    /// The section's keys, each with its meaning.
    pub keys: &'static [(&'static str, &'static str)],
}

/// A section, the keys of which have been looked through.
pub struct Section<'n> {
    entries: &'n [Entry],
    /// What its unknown keys may have meant.
    meant: Vec<&'static str>,
    /// Where it stands.
    pub range: Option<ByteRange>,
    source: &'n Source<'n>,
}

/// What the file says under one key.
#[derive(Clone, Debug)]
pub enum Given<T> {
    /// Nothing.
    Absent,
    /// Something that is not it; the findings say why.
    Wrong,
    /// This, there.
    Here(T, Option<ByteRange>),
}

impl<T> Given<T> {
    /// Whether the file says nothing under the key.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value, if there is a valid one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Here(value, _) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Where the value stands, if it is in the file.
    pub fn range(&self) -> Option<&ByteRange> {
        match self {
            Self::Here(_, range) => range.as_ref(),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// The value as another type.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Given<U> {
        match self {
            Self::Absent => Given::Absent,
            Self::Wrong => Given::Wrong,
            Self::Here(value, range) => Given::Here(make(value), range),
        }
    }

    /// What comes from elsewhere goes before what the file says.
    pub fn or_rather(self, other: Option<T>) -> Self {
        other.map_or(self, |value| Self::Here(value, None))
    }

    /// This, or what stands under the key's other name.
    pub fn or(self, other: Self) -> Self {
        if self.is_absent() { other } else { self }
    }
}

impl<'n> Section<'n> {
    /// Opens a section and refuses the keys that it does not have. Nothing at all is a section without keys.
    pub fn open(node: &'n Node, keys: &Keys, source: &'n Source<'n>) -> Option<Self> {
        let range = Some(node.range.clone());
        let entries = match &node.value {
            Value::Null => &[],
            Value::Mapping(entries) => entries.as_slice(),
            other => {
                expected(source, node, &format!("{} is a section with keys", keys.of), other);
                return None;
            }
        };
        let meant = entries.iter().filter_map(|entry| keys.check(entry, source)).collect();
        Some(Self { entries, meant, range, source })
    }

    /// The value of a key, if it has one.
    pub fn node(&self, key: &str) -> Option<&'n Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.node.value, Value::Null)).then_some(&entry.node)
    }

    /// Whether a key that is unknown was probably meant to be this one: then the findings have it already, and nothing is
    /// missing.
    pub fn meant(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    /// Where a key stands.
    pub fn key(&self, key: &str) -> Option<&'n ByteRange> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.range)
    }

    /// Text.
    pub fn text(&self, key: &str) -> Given<String> {
        self.parse(key, |text| Ok::<_, fmt::Error>(text.to_owned()))
    }

    /// Text, as what it means.
    pub fn parse<T, E: fmt::Display>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Given<T> {
        let Some(node) = self.node(key) else { return Given::Absent };
        match parse(node, key, self.source, read) {
            Some(value) => Given::Here(value, Some(node.range.clone())),
            None => Given::Wrong,
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Given<T> {
        self.parse(key, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                unknown(text, &words)
            })
        })
    }

    /// `true` or `false`. The other words of YAML 1.1 are texts in YAML 1.2.
    pub fn switch(&self, key: &str) -> Given<bool> {
        let Some(node) = self.node(key) else { return Given::Absent };
        let range = Some(node.range.clone());
        let Value::Scalar { text, plain } = &node.value else {
            expected(self.source, node, &format!("`{key}` must be true or false"), &node.value);
            return Given::Wrong;
        };
        match (text.as_str(), plain) {
            ("true" | "True" | "TRUE", true) => Given::Here(true, range),
            ("false" | "False" | "FALSE", true) => Given::Here(false, range),
            (other, _) => {
                let meant = match other.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => "write true, without quotes",
                    "no" | "off" | "n" | "false" => "write false, without quotes",
                    _ => "write true or false",
                };
                let message = format!("`{key}` must be true or false, not the text `{other}`");
                self.source.error(range.as_ref(), message, meant);
                Given::Wrong
            }
        }
    }

    /// A list; a key without a value is an empty one.
    pub fn list(&self, key: &str) -> Option<&'n [Node]> {
        match self.node(key) {
            None => Some(&[]),
            Some(Node { value: Value::Sequence(nodes), .. }) => Some(nodes),
            Some(node) => {
                expected(self.source, node, &format!("`{key}` must be a list"), &node.value);
                None
            }
        }
    }
}

/// The text of a node as what it means.
pub fn parse<T, E: fmt::Display>(
    node: &Node,
    key: &str,
    source: &Source<'_>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let range = Some(&node.range);
    match &node.value {
        Value::Scalar { text, .. } if text.chars().any(char::is_control) => {
            source.error(
                range,
                format!("`{key}` contains a control character"),
                "write it as one line of text",
            );
            None
        }
        Value::Scalar { text, .. } if text.is_empty() => {
            source.error(range, format!("`{key}` is empty"), "give it a value, or leave it out");
            None
        }
        Value::Scalar { text, .. } => match read(text) {
            Ok(value) => Some(value),
            Err(why) => {
                source.error(range, format!("`{key}`: {why}"), "");
                None
            }
        },
        other => {
            expected(source, node, &format!("`{key}` must be a single value"), other);
            None
        }
    }
}

/// Reports that a value is of another kind than it must be.
pub fn expected(source: &Source<'_>, node: &Node, what: &str, found: &Value) {
    source.error(Some(&node.range), format!("{what}, not {}", found.what()), "");
}

impl Keys {
    /// Says what is wrong with a key, and returns which one was meant, if that is plain.
    fn check(&self, entry: &Entry, source: &Source<'_>) -> Option<&'static str> {
        let (key, range) = (entry.key.as_str(), Some(&entry.range));
        let known: Vec<&'static str> = self.known.iter().map(|(key, _)| *key).collect();
        if known.contains(&key) {
            return None;
        }
        let near = nearest(key, &known);
        if let Some((_, why)) = self.refused.iter().find(|(refused, _)| *refused == key) {
            // The reason belongs to what is wrong.
            let (why, advice) = match why.strip_prefix("remove it: ") {
                Some(reason) => (format!(": {reason}"), "remove it"),
                None => (String::new(), *why),
            };
            source.error(range, format!("`{key}` is not supported here{why}"), advice);
            return near;
        }
        let advice = match near {
            _ if key == "<<" => "write the keys out: YAML 1.2 has no merge keys".to_owned(),
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of: {}", known.join(", ")),
        };
        source.error(range, format!("unknown key `{key}` in {}", self.of), &advice);
        near
    }
}

/// The message for a value that is not one of the allowed words.
pub fn unknown(text: &str, words: &[&str]) -> String {
    let advice = nearest(text, words).map(|word| format!("; did you mean `{word}`?"));
    format!("`{text}` is not one of {}{}", words.join(", "), advice.unwrap_or_default())
}

/// The word that was probably meant.
fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    /// Characters: longer than any word of ours, and twice as long as any that is near one.
    const MAX_WORD: usize = 64;
    let text: String = text.chars().take(MAX_WORD).collect();
    let close = (text.chars().count() / 3).max(1);
    let text = text.to_ascii_lowercase().replace('-', "_");
    let shared = |word: &str| text.chars().zip(word.chars()).take_while(|(l, r)| l == r).count();
    let (distance, word) = words
        .iter()
        .map(|word| (strsim::osa_distance(&text, &word.replace('-', "_")), *word))
        .min_by_key(|(distance, word)| (*distance, std::cmp::Reverse(shared(word))))?;
    (distance <= close).then_some(word)
}
