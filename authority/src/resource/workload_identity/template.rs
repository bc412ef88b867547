//! Texts with attributes in them: `/site/{{ user.bot_name }}/web`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::attribute::AttributeName;
use crate::resource::Attributes;
use crate::resource::field::Invalid;

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// A text in which attributes stand between `{{` and `}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Attribute(AttributeName),
}

/// Why a template has no text for a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderError {
    /// The attribute is not known of this workload.
    Absent(AttributeName),
    /// The attribute has several values.
    Several(AttributeName),
    /// The text is not valid where it is used.
    Invalid(Invalid),
}

impl Template {
    /// The longest text with attributes, bytes.
    const MAX_LEN: usize = 4096;

    /// The text for these attributes. Nothing is escaped or replaced: the caller checks the whole.
    ///
    /// # Errors
    /// An attribute is absent or has several values.
    pub fn render(&self, attributes: &Attributes) -> Result<String, RenderError> {
        self.render_checked(attributes, |_| Ok(()))
    }

    /// The same, if this holds for the value of each attribute.
    ///
    /// # Errors
    /// Those of the check too.
    pub(super) fn render_checked(
        &self,
        attributes: &Attributes,
        check: impl Fn(&str) -> Result<(), Invalid>,
    ) -> Result<String, RenderError> {
        let mut all = String::new();
        for part in &self.parts {
            let text = match part {
                Part::Literal(text) => text,
                Part::Attribute(name) => match attributes.values(name.as_str()) {
                    [] => return Err(RenderError::Absent(name.clone())),
                    [value] => {
                        check(value)?;
                        value
                    }
                    _ => return Err(RenderError::Several(name.clone())),
                },
            };
            all.push_str(text);
        }
        Ok(all)
    }

    /// The text with an `a` for each attribute, the shortest that it can become: what is malformed in it is malformed for every
    /// workload.
    pub(super) fn shortest(&self) -> String {
        let part = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Attribute(_) => "a".to_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Template {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.len() > Self::MAX_LEN {
            return Err(Invalid(format!("a template can have at most {} bytes", Self::MAX_LEN)));
        }
        let (mut parts, mut rest) = (Vec::new(), text.as_str());
        while let Some((literal, behind)) = rest.split_once(OPEN) {
            let (name, behind) = behind
                .split_once(CLOSE)
                .ok_or_else(|| Invalid(format!("{text:?}: {OPEN} without {CLOSE}")))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Attribute(AttributeName::try_from(name.trim().to_owned())?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        let is_stray = |part: &Part| match part {
            Part::Literal(literal) => literal.contains(CLOSE),
            Part::Attribute(_) => false,
        };
        if parts.iter().any(is_stray) {
            return Err(Invalid(format!("{text:?}: {CLOSE} without {OPEN}")));
        }
        Ok(Self { text, parts })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

impl From<Invalid> for RenderError {
    fn from(cause: Invalid) -> Self {
        Self::Invalid(cause)
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(name) => write!(f, "{name} is not known of this workload"),
            Self::Several(name) => write!(f, "{name} has several values"),
            Self::Invalid(cause) => cause.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Result<Template, Invalid> {
        text.to_owned().try_into()
    }

    #[test]
    fn attributes_are_put_in_as_they_are() {
        let mut known = Attributes::default();
        known.set("user.bot_name", "edge");
        known.set_all("user.traits.logins", ["a", "b"]);
        let rendered = |text: &str| template(text).unwrap().render(&known);
        assert_eq!(rendered("/x/{{ user.bot_name }}-{{user.bot_name}}").unwrap(), "/x/edge-edge");
        assert_eq!(rendered("plain").unwrap(), "plain");
        assert!(matches!(rendered("{{ workload.unix.uid }}"), Err(RenderError::Absent(_))));
        assert!(matches!(rendered("{{ user.traits.logins }}"), Err(RenderError::Several(_))));
        assert_eq!(template("/{{ user.name }}/b").unwrap().shortest(), "/a/b");
    }

    /// A value is never read as a template again.
    #[test]
    fn braces_in_a_value_stay_braces() {
        let mut known = Attributes::default();
        known.set("user.labels.a", "{{ user.bot_name }}");
        let rendered = template("{{ user.labels.a }}").unwrap().render(&known).unwrap();
        assert_eq!(rendered, "{{ user.bot_name }}");
    }

    #[test]
    fn malformed_templates_are_refused() {
        for wrong in [
            "{{",
            "{{ }}",
            "}}",
            "{{ user.bot_name",
            "user.bot_name }}",
            "{{ user.unknown }}",
            "{{ strings.upper(user.bot_name) }}",
            "{{ {{ user.bot_name }} }}",
            "{{ user.bot_name }}}}",
            "{{ .Bot }}",
        ] {
            assert!(template(wrong).is_err(), "{wrong}");
        }
        assert!(template(&"a".repeat(Template::MAX_LEN + 1)).is_err());
    }
}
