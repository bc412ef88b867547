//! YAML 1.2 as a tree that knows where each node stands. What the language has beyond configuration files is refused:
//! tags, further documents, keys that are not text; and of everything there is only so much.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::finding::{ByteRange, Source};

/// The longest file, in bytes.
pub const MAX_SIZE: usize = 1 << 20;

/// The deepest nesting; ours is half a dozen.
const MAX_DEPTH: usize = 32;

/// The most that a tree may weigh, aliases counted as what they stand for: a node [`NODE`] bytes, and its text.
const MAX_WEIGHT: usize = 2 * MAX_SIZE;

/// The weight of a node in addition to its text.
const NODE: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Where it stands.
    pub range: ByteRange,
    /// The value.
    pub value: Value,
    weight: usize,
}

/// What a node is.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing, or `null`.
    #[default]
    Null,
    /// One value; only a plain one, without quotes, may be other than text.
    Scalar {
        /// The text, without quotes and escapes.
        text: String,
        /// Whether it has no quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A section.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub range: ByteRange,
    /// The value.
    pub node: Node,
}

impl Value {
    /// What a person would call it.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { .. } => "a single value",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a section with keys",
        }
    }
}

/// Reads the only document of a text. `None` after a fault, which is among the findings.
pub fn parse(text: &str, source: &Source<'_>) -> Option<Node> {
    if text.len() > MAX_SIZE {
        source.error(None, "the file is larger than 1 MiB", "check that it is the right file");
        return None;
    }
    let forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((at, c)) = text.char_indices().find(|(_, c)| forbidden(*c)) {
        let message =
            format!("the control character U+{:04X} is not allowed in YAML", u32::from(c));
        source.error(Some(&(at..at + c.len_utf8())), message, "check that it is a text file");
        return None;
    }
    let mut options = granit_parser::options! {
        strict_indentation: true,
        disallow_directives: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let events = Parser::new_from_str_with_options(text, options);
    Composer { events, source, end: text.len(), anchors: BTreeMap::new(), weight: 0 }.document()
}

/// The findings have it already.
struct Stop;

struct Composer<'t, 's> {
    events: Parser<'t, StrInput<'t>>,
    source: &'s Source<'t>,
    end: usize,
    /// What each anchor names; none yet while it is being read.
    anchors: BTreeMap<usize, Option<Node>>,
    weight: usize,
}

impl<'t> Composer<'t, '_> {
    fn document(mut self) -> Option<Node> {
        let mut root = None;
        loop {
            match self.next().ok()? {
                (Event::StreamEnd, _) => break,
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(..), range) if root.is_some() => {
                    let advice = "put everything into one document";
                    self.source.error(Some(&range), "the file has a second document", advice);
                    return None;
                }
                (Event::DocumentStart(..), _) => {
                    let (event, range) = self.next().ok()?;
                    root = Some(self.node(event, range).ok()?);
                }
                (_, range) => {
                    self.source.error(Some(&range), "this cannot be parsed", "");
                    return None;
                }
            }
        }
        Some(root.unwrap_or_default())
    }

    fn next(&mut self) -> Result<(Event<'t>, ByteRange), Stop> {
        match self.events.next_event() {
            Some(Ok((event, span))) => {
                let range = self.range(&span);
                Ok((event, range))
            }
            Some(Err(error)) => Err(self.unreadable(&error)),
            None => Err(Stop),
        }
    }

    fn node(&mut self, event: Event<'t>, range: ByteRange) -> Result<Node, Stop> {
        let before = self.weight;
        self.weight += NODE + event.scalar().map_or(0, |(text, _)| text.len());
        let (anchor, tag) = (event.anchor_id(), event.tag().is_some());
        if tag {
            self.source.error(
                Some(&range),
                "tags are not supported",
                "remove the word that begins with `!`",
            );
        }
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, None);
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => Value::Sequence(self.sequence()?),
            Event::MappingStart(..) => Value::Mapping(self.mapping()?),
            Event::Alias(anchor) => return self.alias(anchor, &range),
            _ => return self.stop(&range, "a value is missing here", ""),
        };
        if self.weight > MAX_WEIGHT {
            return self.stop(
                &range,
                "the file has too many values",
                "check that it is the right file",
            );
        }
        let node = Node { range, value, weight: self.weight - before };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, Some(node.clone()));
        }
        Ok(node)
    }

    /// An alias counts as what it stands for, before that is copied.
    fn alias(&mut self, anchor: usize, range: &ByteRange) -> Result<Node, Stop> {
        let Some(Some(target)) = self.anchors.get(&anchor) else {
            return self.stop(range, "this value contains itself", "");
        };
        if self.weight.saturating_add(target.weight) > MAX_WEIGHT {
            let message = "the aliases in this file expand to too many values";
            return self.stop(range, message, "write it without `&` and `*`");
        }
        self.weight += target.weight;
        Ok(target.clone())
    }

    fn sequence(&mut self) -> Result<Vec<Node>, Stop> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(nodes),
                (event, range) => nodes.push(self.node(event, range)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Vec<Entry>, Stop> {
        let (mut entries, mut known) = (Vec::new(), BTreeSet::new());
        loop {
            let (event, range) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let key = self.node(event, range)?;
            let (event, range) = self.next()?;
            let node = self.node(event, range)?;
            let Value::Scalar { text, .. } = key.value else {
                let message = format!("a key is {}", key.value.what());
                self.source.error(Some(&key.range), message, "write the key as text");
                continue;
            };
            if known.insert(text.clone()) {
                entries.push(Entry { key: text, range: key.range, node });
            } else {
                let message = format!("duplicate key `{text}`");
                self.source.error(Some(&key.range), message, "keep one of them");
            }
        }
    }

    fn range(&self, span: &Span) -> ByteRange {
        let start = span.start.byte_offset().unwrap_or(self.end).min(self.end);
        start..span.end.byte_offset().unwrap_or(start).clamp(start, self.end)
    }

    fn stop<T>(&self, range: &ByteRange, message: &str, advice: &str) -> Result<T, Stop> {
        self.source.error(Some(range), message, advice);
        Err(Stop)
    }

    fn unreadable(&self, error: &ScanError) -> Stop {
        let at = error.marker().byte_offset().unwrap_or(self.end).min(self.end);
        let (message, advice) = match error.kind() {
            ErrorKind::RecursionLimitExceeded => ("values are nested too deeply".to_owned(), ""),
            ErrorKind::UnknownAnchor => ("an alias without an anchor".to_owned(), "quote the text"),
            ErrorKind::TabInIndentation
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabNotAllowed
            | ErrorKind::TabInPlainScalar => {
                ("a tab where YAML requires spaces".to_owned(), "indent with spaces")
            }
            kind => (format!("not YAML: {kind}"), ""),
        };
        self.source.error(Some(&(at..at)), message, advice);
        Stop
    }
}

/// YAML 1.2 §10.3.2: only a plain scalar can be null.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    let plain = style == ScalarStyle::Plain;
    match text {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
        _ => Value::Scalar { text: text.to_owned(), plain },
    }
}
