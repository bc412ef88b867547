//! Claims that operators add to JWT-SVIDs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::template::{RenderError, Template};
use crate::resource::Attributes;
use crate::resource::field::Invalid;

/// Claims that the authority sets itself (JWT-SVID section 3, RFC 7519 section 4.1).
const RESERVED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// Further claims by name; texts in them are templates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct ExtraClaims(Map<String, Value>);

impl ExtraClaims {
    const MAX_BYTES: usize = 4096;
    const MAX_DEPTH: usize = 8;

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The claims for these attributes.
    ///
    /// # Errors
    /// An attribute is absent or has several values, or the claims become too long.
    pub fn render(&self, attributes: &Attributes) -> Result<Map<String, Value>, RenderError> {
        let mut all = self.0.clone();
        all.values_mut().try_for_each(|value| render(value, attributes))?;
        check_size(&all)?;
        Ok(all)
    }
}

impl TryFrom<Map<String, Value>> for ExtraClaims {
    type Error = Invalid;

    fn try_from(claims: Map<String, Value>) -> Result<Self, Invalid> {
        if let Some(name) = RESERVED.iter().find(|name| claims.contains_key(**name)) {
            return Err(Invalid(format!(
                "extra_claims: {name} is set by the authority: remove it"
            )));
        }
        check_size(&claims)?;
        claims.values().try_for_each(|value| check(value, ExtraClaims::MAX_DEPTH))?;
        Ok(Self(claims))
    }
}

fn check_size(claims: &Map<String, Value>) -> Result<(), Invalid> {
    let size = serde_json::to_vec(claims).map_err(|cause| Invalid(cause.to_string()))?.len();
    if size > ExtraClaims::MAX_BYTES {
        let max = ExtraClaims::MAX_BYTES;
        return Err(Invalid(format!("extra_claims: at most {max} bytes as JSON")));
    }
    Ok(())
}

fn check(value: &Value, depth: usize) -> Result<(), Invalid> {
    let below = || {
        depth.checked_sub(1).ok_or_else(|| Invalid("extra_claims: it is nested too deeply".into()))
    };
    match value {
        Value::String(text) => Template::try_from(text.clone()).map(drop),
        Value::Array(all) => {
            let depth = below()?;
            all.iter().try_for_each(|value| check(value, depth))
        }
        Value::Object(all) => {
            let depth = below()?;
            all.values().try_for_each(|value| check(value, depth))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn render(value: &mut Value, attributes: &Attributes) -> Result<(), RenderError> {
    match value {
        Value::String(text) => {
            *text = Template::try_from(std::mem::take(text))?.render(attributes)?;
            Ok(())
        }
        Value::Array(all) => all.iter_mut().try_for_each(|value| render(value, attributes)),
        Value::Object(all) => all.values_mut().try_for_each(|value| render(value, attributes)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
