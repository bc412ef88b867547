//! Which bots, and which of their workloads, may have a workload identity.

use serde::{Deserialize, Serialize};

use super::attribute::AttributeName;
use crate::resource::field::{Invalid, Labels, Name};
use crate::resource::printed::{self, Printed};
use crate::resource::{Attributes, Bot};

/// Any value of a label; as a label's name, all bots.
const ANY: &str = "*";

/// The bots that may have a workload identity: those that are named, and those that have all of these labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotSelector {
    /// By name.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    /// By labels; `*` stands for any value, and `*: *` for all bots.
    #[serde(
        default,
        deserialize_with = "printed::or_null",
        skip_serializing_if = "Labels::is_empty"
    )]
    pub labels: Labels,
}

impl BotSelector {
    const MAX_NAMES: usize = 256;

    /// Whether it selects no bot at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.labels.is_empty()
    }

    /// Whether it selects this bot.
    pub fn selects(&self, bot: &Bot) -> bool {
        let own = &bot.metadata.labels;
        let has = |(name, value): (&String, &String)| match own.get(name) {
            Some(one) => value == ANY || one == value,
            None => name == ANY && value == ANY,
        };
        self.names.contains(&bot.metadata.name)
            || (!self.labels.is_empty() && self.labels.iter().all(has))
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.names.len() > Self::MAX_NAMES {
            let max = Self::MAX_NAMES;
            return Err(Invalid(format!("spec.bots.names: at most {max} names; use labels")));
        }
        Ok(())
    }
}

/// Which workloads may have a workload identity: those that match a rule of `allow`, if there is one, and none of `deny`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Without any, all workloads.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Rule>,
    /// They win over `allow`.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Rule>,
}

/// Conditions that a workload must all satisfy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenRule")]
pub struct Rule {
    /// At least one.
    pub conditions: Vec<Condition>,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    #[serde(default, deserialize_with = "printed::or_null")]
    conditions: Vec<Condition>,
    /// Teleport's other form of a rule.
    #[serde(default)]
    expression: Option<String>,
}

/// What an attribute must be. One that is absent satisfies nothing, `not_eq` and `not_in` neither. Of several values, one must
/// be equal, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenCondition")]
pub struct Condition {
    /// Which attribute.
    pub attribute: AttributeName,
    /// What it must be.
    #[serde(flatten)]
    pub operator: Operator,
}

/// How an attribute is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// It is this.
    Eq(One),
    /// It is something else.
    NotEq(One),
    /// It is one of these.
    In(Many),
    /// It is none of these.
    NotIn(Many),
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct One {
    /// The value.
    pub value: String,
}

/// Values to compare with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Many {
    /// The values, at least one.
    pub values: Vec<String>,
}

/// A condition as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCondition {
    attribute: AttributeName,
    #[serde(default)]
    eq: Option<One>,
    #[serde(default)]
    not_eq: Option<One>,
    #[serde(default)]
    r#in: Option<Many>,
    #[serde(default)]
    not_in: Option<Many>,
}

impl Printed for Rules {}

impl Rules {
    const MAX_RULES: usize = 64;

    /// Whether a workload with these attributes may have the identity.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, workload: &Attributes) -> Result<(), String> {
        if let Some(at) = self.deny.iter().position(|rule| rule.matches(workload)) {
            return Err(format!("rule {} of spec.rules.deny matches", at.saturating_add(1)));
        }
        if self.allow.is_empty() || self.allow.iter().any(|rule| rule.matches(workload)) {
            return Ok(());
        }
        Err("no rule of spec.rules.allow matches".to_owned())
    }

    pub(super) fn check_size(&self) -> Result<(), Invalid> {
        for (name, rules) in [("allow", &self.allow), ("deny", &self.deny)] {
            if rules.len() > Self::MAX_RULES {
                let max = Self::MAX_RULES;
                return Err(Invalid(format!("spec.rules.{name}: at most {max} rules")));
            }
        }
        Ok(())
    }
}

impl Rule {
    const MAX_CONDITIONS: usize = 32;

    fn matches(&self, workload: &Attributes) -> bool {
        self.conditions.iter().all(|condition| condition.is_satisfied(workload))
    }
}

impl Condition {
    const MAX_VALUES: usize = 256;

    fn is_satisfied(&self, workload: &Attributes) -> bool {
        let known = workload.values(self.attribute.as_str());
        let is_one_of = |values: &[String]| known.iter().any(|value| values.contains(value));
        !known.is_empty()
            && match &self.operator {
                Operator::Eq(one) => known.contains(&one.value),
                Operator::NotEq(one) => !known.contains(&one.value),
                Operator::In(many) => is_one_of(&many.values),
                Operator::NotIn(many) => !is_one_of(&many.values),
            }
    }
}

impl TryFrom<WrittenRule> for Rule {
    type Error = Invalid;

    fn try_from(written: WrittenRule) -> Result<Self, Invalid> {
        let WrittenRule { conditions, expression } = written;
        if expression.is_some_and(|text| !text.is_empty()) {
            return Err(Invalid(
                "expression: this Teleport field is not supported: write the rule as conditions, each an \
                 attribute with eq, not_eq, in or not_in"
                    .into(),
            ));
        }
        match conditions.len() {
            0 => Err(Invalid(
                "a rule must have conditions; without rules, all workloads match".into(),
            )),
            1..=Self::MAX_CONDITIONS => Ok(Self { conditions }),
            _ => {
                Err(Invalid(format!("a rule can have at most {} conditions", Self::MAX_CONDITIONS)))
            }
        }
    }
}

impl TryFrom<WrittenCondition> for Condition {
    type Error = Invalid;

    fn try_from(written: WrittenCondition) -> Result<Self, Invalid> {
        let WrittenCondition { attribute, eq, not_eq, r#in, not_in } = written;
        let operator = match (eq, not_eq, r#in, not_in) {
            (Some(one), None, None, None) => Operator::Eq(one),
            (None, Some(one), None, None) => Operator::NotEq(one),
            (None, None, Some(many), None) => Operator::In(many),
            (None, None, None, Some(many)) => Operator::NotIn(many),
            _ => {
                return Err(Invalid(format!(
                    "the condition on {attribute} must have exactly one of eq, not_eq, in and not_in"
                )));
            }
        };
        let values = match &operator {
            Operator::Eq(one) | Operator::NotEq(one) => std::slice::from_ref(&one.value),
            Operator::In(many) | Operator::NotIn(many) => many.values.as_slice(),
        };
        // No attribute has an empty value, so a condition with one is a mistake.
        if values.is_empty() || values.iter().any(String::is_empty) {
            return Err(Invalid(format!(
                "the condition on {attribute} must have values, none of them empty"
            )));
        }
        if values.len() > Self::MAX_VALUES {
            return Err(Invalid(format!(
                "the condition on {attribute} can have at most {} values",
                Self::MAX_VALUES
            )));
        }
        Ok(Self { attribute, operator })
    }
}
