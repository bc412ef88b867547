//! kind: bot

use std::fmt;
use std::time::Duration;

use host::go_duration;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::field::{Invalid, Metadata, Role};
use super::printed::{self, Printed};

/// A machine's identity. Its hosts get certificates for `bot-<name>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bot {
    kind: super::Kind,
    version: Version,
    /// Name, labels, expiry.
    #[serde(deserialize_with = "printed::part")]
    pub metadata: Metadata,
    /// What it may do.
    #[serde(deserialize_with = "printed::part")]
    pub spec: BotSpec,
}

impl Printed for Bot {
    const IGNORED: &'static [&'static str] = &["status"];
    const UNSERVED: &'static [&'static str] = &["sub_kind", "scope"];
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "v1")]
    V1,
}

/// What a bot may do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotSpec {
    /// Each becomes an organization (O) of the certificates.
    #[serde(default, deserialize_with = "printed::or_null")]
    pub roles: Vec<Role>,
    /// What roles may refer to.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "Vec::is_empty")]
    pub traits: Vec<Trait>,
    /// The longest lifetime of a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session_ttl: Option<SessionTtl>,
}

impl Printed for BotSpec {
    const UNSERVED: &'static [&'static str] = &["delegation"];
}

impl BotSpec {
    /// The trait whose values are SSH principals.
    const LOGINS: &str = "logins";

    /// The SSH logins of the bot's hosts.
    pub fn logins(&self) -> &[String] {
        let logins = self.traits.iter().find(|one| one.name == Self::LOGINS);
        logins.map_or(&[], |logins| logins.values.as_slice())
    }

    /// Sets the SSH logins of the bot's hosts.
    pub fn set_logins(&mut self, values: Vec<String>) {
        self.traits.retain(|one| one.name != Self::LOGINS);
        if !values.is_empty() {
            self.traits.push(Trait { name: Self::LOGINS.to_owned(), values });
        }
    }
}

/// A name with values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trait {
    /// Which trait.
    pub name: String,
    /// Its values, at least one.
    #[serde(default, deserialize_with = "printed::or_null")]
    pub values: Vec<String>,
}

impl Bot {
    /// Roles and traits that a bot may have, so that its certificates stay small.
    const MAX_LIST: usize = 64;

    /// Bytes of all traits, for the same reason.
    const MAX_TRAITS: usize = 4096;

    /// A bot with this specification.
    pub fn new(metadata: Metadata, spec: BotSpec) -> Self {
        Self { kind: super::Kind::Bot, version: Version::V1, metadata, spec }
    }

    /// Checks what a single field cannot show, and merges traits of one name.
    pub(super) fn complete(mut self) -> Result<Self, Invalid> {
        let roles = &self.spec.roles;
        if roles.len() > Self::MAX_LIST || self.spec.traits.len() > Self::MAX_LIST {
            return Err(Invalid(format!(
                "spec: a bot can have at most {} roles and {0} traits",
                Self::MAX_LIST
            )));
        }
        if let Some(twice) = roles.iter().enumerate().find(|(i, r)| roles[..*i].contains(r)) {
            return Err(Invalid(format!("spec.roles: duplicate {}", twice.1)));
        }
        let mut merged: Vec<Trait> = Vec::new();
        for one in std::mem::take(&mut self.spec.traits) {
            if one.name.is_empty() {
                return Err(Invalid("spec.traits: a trait must have a name".into()));
            }
            match merged.iter_mut().find(|have| have.name == one.name) {
                Some(have) => have.values.extend(one.values),
                None => merged.push(one),
            }
        }
        merged.retain(|one| !one.values.is_empty());
        self.spec.traits = merged;
        self.check_traits()?;
        Ok(self)
    }

    fn check_traits(&self) -> Result<(), Invalid> {
        let bytes =
            |one: &Trait| one.name.len() + one.values.iter().map(String::len).sum::<usize>();
        let size: usize = self.spec.traits.iter().map(bytes).sum();
        let values: usize = self.spec.traits.iter().map(|one| one.values.len()).sum();
        if size > Self::MAX_TRAITS || values > Self::MAX_LIST * 4 {
            return Err(Invalid(format!(
                "spec.traits: a bot can have at most {} values of {} bytes in total",
                Self::MAX_LIST * 4,
                Self::MAX_TRAITS
            )));
        }
        // A list of principals is joined by commas (ssh-keygen -n), and a login is a word.
        let word = |login: &&String| {
            login.is_empty()
                || login.len() > 64
                || login.chars().any(|c| c == ',' || c.is_whitespace() || c.is_control())
        };
        match self.spec.logins().iter().find(word) {
            Some(login) => Err(Invalid(format!("spec.traits: {login:?} is not a valid login"))),
            None => Ok(()),
        }
    }
}

/// A length of time as Go writes it: `12h`, `1h30m0s`. From a minute to a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct SessionTtl(Duration);

impl SessionTtl {
    const RANGE: std::ops::RangeInclusive<u64> = 60..=168 * 3600;

    /// A number of seconds.
    fn of(seconds: Option<u64>, text: &str) -> Result<Self, Invalid> {
        let allowed = seconds.filter(|seconds| Self::RANGE.contains(seconds));
        allowed.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(|| {
            Invalid(format!("{text:?} is not a duration from 1m to 168h, such as 12h or 1h30m"))
        })
    }

    /// The length.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for SessionTtl {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let ttl = go_duration::parse(&text).ok().filter(|ttl| ttl.subsec_nanos() == 0);
        Self::of(ttl.map(|ttl| ttl.as_secs()), &text)
    }
}

/// The text, or `{seconds: 43200}`: a Duration of protobuf as Teleport prints it.
impl<'de> Deserialize<'de> for SessionTtl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Ttl)
    }
}

struct Ttl;

impl<'de> Visitor<'de> for Ttl {
    type Value = SessionTtl;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration from 1m to 168h, such as 12h")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SessionTtl, E> {
        SessionTtl::try_from(text.to_owned()).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SessionTtl, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[serde(default)]
            seconds: u64,
            #[serde(default)]
            nanos: u32,
        }
        let Fields { seconds, nanos } = Fields::deserialize(MapAccessDeserializer::new(map))?;
        let text = format!("{{seconds: {seconds}, nanos: {nanos}}}");
        SessionTtl::of(Some(seconds).filter(|_| nanos == 0), &text).map_err(de::Error::custom)
    }
}

impl From<SessionTtl> for String {
    fn from(ttl: SessionTtl) -> Self {
        ttl.to_string()
    }
}

impl fmt::Display for SessionTtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        write!(f, "{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}
