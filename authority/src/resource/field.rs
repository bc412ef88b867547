//! The fields that more than one kind has, each a type that holds only what is well-formed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::printed::{self, Printed};

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// A text type that is read through a check and written as it is.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                text.to_owned().try_into()
            }
        }
    };
}

text! {
    /// The name of a resource: letters, digits, `.`, `_` and `-`, a letter or digit first.
    ///
    /// Such a name is a path segment of a SPIFFE ID (SPIFFE-ID section 2.2) and an SSH principal as
    /// it stands.
    Name
}

text! {
    /// The name of a role, which becomes an organization (O) of the bot's certificates.
    Role
}

text! {
    /// SHA-256 of an EK's SubjectPublicKeyInfo: 64 hexadecimal digits, lower case.
    EkHash
}

text! {
    /// A certificate's serial number: bytes in lowercase hexadecimal joined by colons, without a
    /// sign byte.
    Serial
}

text! {
    /// The issuer of an EK certificate as text, as `authority ek check` prints it.
    IssuerName
}

impl Name {
    /// So that `bot-` and the name are a common name (ub-common-name of RFC 5280 is 64).
    pub const MAX_LEN: usize = 60;
}

/// The user name of a bot's hosts in certificates and locks.
pub fn user_name(bot: &Name) -> String {
    format!("bot-{bot}")
}

impl TryFrom<String> for Name {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid("a name must be non-empty".into()));
        }
        if text.len() > Self::MAX_LEN {
            return Err(Invalid(format!("a name can have at most {} characters", Self::MAX_LEN)));
        }
        let sane = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !sane || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Invalid(format!(
                "{text:?} is not a valid name: letters, digits, '.', '_' and '-', a letter or digit first"
            )));
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for Role {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        /// ub-organization-name of RFC 5280.
        const MAX_LEN: usize = 64;
        if text.is_empty() {
            return Err(Invalid("spec.roles: must not contain empty strings".into()));
        }
        if text.chars().count() > MAX_LEN {
            return Err(Invalid(format!("a role can have at most {MAX_LEN} characters")));
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(Invalid(format!(
                "{text:?} is not a valid role: no control characters, no leading or trailing blanks"
            )));
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for EkHash {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Invalid(format!(
                "ek_public_hash: {text:?} is not a SHA-256 in hexadecimal (64 digits), as \
                 `agent identify` prints it"
            )));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Serial {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let bytes: Vec<String> = text.split(':').map(str::to_ascii_lowercase).collect();
        let byte = |b: &String| b.len() == 2 && b.bytes().all(|b| b.is_ascii_hexdigit());
        // As many as the verifier reads. RFC 5280 section 4.1.2.2 has up to 20, but chips are not asked.
        if bytes.len() > 64 || !bytes.iter().all(byte) {
            return Err(Invalid(format!(
                "ek_certificate_serial: {text:?} is not bytes in hexadecimal joined by colons, \
                 such as \"5e:cd:5f:8e\""
            )));
        }
        let zeros = bytes.iter().take_while(|b| *b == "00").count().min(bytes.len() - 1);
        Ok(Self(bytes.get(zeros..).unwrap_or_default().join(":")))
    }
}

impl TryFrom<String> for IssuerName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        /// Longer than the name of any vendor's CA; a host that has proven nothing sends others.
        const MAX_LEN: usize = 1024;
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(Invalid(format!(
                "ek_certificate_issuer: not a name of 1 to {MAX_LEN} bytes such as \
                 \"C=DE, O=Infineon Technologies AG, CN=Some TPM CA\", as `authority ek check` \
                 prints it"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A point in time, written as RFC 3339 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(pub OffsetDateTime);

impl TryFrom<String> for Timestamp {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        OffsetDateTime::parse(&text, &Rfc3339).map(Self).map_err(|_| {
            Invalid(format!("{text:?} is not a time of RFC 3339, such as 2030-01-31T12:00:00Z"))
        })
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years of five digits are the only times that RFC 3339 cannot write.
        f.write_str(
            &self.0.format(&Rfc3339).unwrap_or_else(|_| self.0.unix_timestamp().to_string()),
        )
    }
}

/// Names and what the operator says of a resource; only `name` and `expires` mean anything to the
/// authority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Unique within the kind.
    pub name: Name,
    /// A description for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For the operator's own software.
    #[serde(
        default,
        deserialize_with = "printed::or_null",
        skip_serializing_if = "Labels::is_empty"
    )]
    pub labels: Labels,
    /// From then on the resource counts as removed. Without it, the resource never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Printed for Metadata {
    const IGNORED: &'static [&'static str] = &["id", "revision", "namespace"];
}

/// Labels of a resource.
pub type Labels = BTreeMap<String, String>;

impl Metadata {
    /// A name and nothing else.
    pub fn named(name: Name) -> Self {
        Self { name, description: None, labels: Labels::new(), expires: None }
    }

    /// Whether `expires` has come.
    pub fn expired(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|expires| expires.0 <= now)
    }
}
