//! The subject of a host's certificate: what it says of who holds it.
//!
//! It has attribute types of Teleport in addition to those of X.520. Each attribute is one UTF8String.
//!
//! | attribute | value |
//! |---|---|
//! | O, for each | a role; `bot-` and the bot's name if it has none, since Teleport's clients require one |
//! | CN | `bot-` and the bot's name |
//! | L, for each | a login |
//! | STREET | the cluster that requests are routed to |
//! | POSTALCODE | traits, a JSON object of lists |
//! | 1.3.9999.1.7 | the cluster |
//! | 1.3.9999.1.14 | the generation, in a certificate that can renew |
//! | 1.3.9999.2.7 | the user who asked for a certificate with chosen roles: `bot-` and the bot's name |
//! | 1.3.9999.2.9 | `true` in such a certificate: it cannot ask for others |
//! | 1.3.9999.2.18 | the bot's name |
//! | 1.3.9999.2.20 | the bot instance |
//! | 1.3.9999.2.21 | how it joined, a JSON object |
//!
//! A plain subject has only the first two, and is not read here.

use std::collections::BTreeMap;
use std::fmt;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc4519::{COMMON_NAME, LOCALITY_NAME, ORGANIZATION_NAME, POSTAL_CODE, STREET};
use der::asn1::{Any, Utf8StringRef};
use der::{Decode, Encode};
use serde::{Deserialize, Serialize};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name as X501Name, RdnSequence, RelativeDistinguishedName};

use super::IssueError;
use crate::resource::{
    Bot, BotInstance, EkHash, InstanceId, JoinMethod, Name, Role, Serial, from_record, user_name,
};

const CLUSTER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.1.7");
const GENERATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.1.14");
const IMPERSONATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.7");
const DISALLOW_REISSUE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.9");
const BOT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.18");
const BOT_INSTANCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.20");
const JOIN_ATTRIBUTES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.21");

/// The value of an attribute that is there or not.
const TRUE: &str = "true";

/// Traits by name.
pub type Traits = BTreeMap<String, Vec<String>>;

/// Who a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The cluster that says so.
    pub cluster: String,
    /// The bot.
    pub bot: Name,
    /// Its instance.
    pub instance: InstanceId,
    /// Counts joins and renewals; a certificate for another key of the host has none.
    pub generation: Option<u64>,
    /// Whether the bot chose the roles, for a certificate that cannot ask for others.
    pub impersonated: bool,
    /// The bot's roles, or those of them that were chosen.
    pub roles: Vec<Role>,
    /// The bot's SSH logins.
    pub logins: Vec<String>,
    /// The bot's traits.
    pub traits: Traits,
    /// How the instance joined.
    pub join: JoinAttributes,
}

/// How an instance joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAttributes {
    /// Which way.
    pub meta: JoinMeta,
    /// What was found on it.
    pub tpm: TpmAttributes,
}

/// Which way an instance joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinMeta {
    /// How it proved itself.
    pub join_method: JoinMethod,
    /// With which token.
    pub join_token_name: Name,
}

/// The TPM by which an instance joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmAttributes {
    /// Its endorsement key.
    pub ek_pub_hash: EkHash,
    /// The serial number of the key's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_cert_serial: Option<Serial>,
    /// Whether the certificate was verified by a CA of the token.
    pub ek_cert_verified: bool,
}

/// What is wrong with a subject.
#[derive(Debug, PartialEq, Eq)]
pub struct SubjectError(&'static str);

impl Subject {
    /// Of an instance of this bot.
    pub(super) fn new(
        cluster: &str,
        bot: &Bot,
        instance: &BotInstance,
        generation: Option<u64>,
    ) -> Self {
        let (spec, status) = (&bot.spec, &instance.status);
        Self {
            cluster: cluster.to_owned(),
            bot: instance.spec.bot_name.clone(),
            instance: instance.spec.instance_id.clone(),
            generation,
            impersonated: false,
            roles: spec.roles.clone(),
            logins: spec.logins().to_vec(),
            traits: spec.traits.iter().map(|t| (t.name.clone(), t.values.clone())).collect(),
            join: JoinAttributes {
                meta: JoinMeta {
                    join_method: status.join_method.clone(),
                    join_token_name: status.join_token.clone(),
                },
                tpm: TpmAttributes {
                    ek_pub_hash: status.ek.public_hash.clone(),
                    ek_cert_serial: status.ek.certificate_serial.clone(),
                    ek_cert_verified: status.ek.verified_by.is_some(),
                },
            },
        }
    }

    /// As a certificate has it that other software than Teleport's reads: roles and user name.
    pub(super) fn to_plain_name(&self) -> Result<X501Name, IssueError> {
        name(&self.plain())
    }

    fn plain(&self) -> Vec<(ObjectIdentifier, String)> {
        let roles = self.roles.iter().map(|role| (ORGANIZATION_NAME, role.to_string()));
        roles.chain([(COMMON_NAME, user_name(&self.bot))]).collect()
    }

    /// As a certificate has it.
    pub(super) fn to_name(&self) -> Result<X501Name, IssueError> {
        let json = |value: Result<String, serde_json::Error>| value.map_err(IssueError::x509);
        let mut all = self.plain();
        if self.roles.is_empty() {
            all.push((ORGANIZATION_NAME, user_name(&self.bot)));
        }
        all.extend(self.logins.iter().map(|login| (LOCALITY_NAME, login.clone())));
        all.push((STREET, self.cluster.clone()));
        if !self.traits.is_empty() {
            all.push((POSTAL_CODE, json(serde_json::to_string(&self.traits))?));
        }
        all.push((CLUSTER, self.cluster.clone()));
        all.extend(self.generation.map(|generation| (GENERATION, generation.to_string())));
        if self.impersonated {
            all.push((IMPERSONATOR, user_name(&self.bot)));
            all.push((DISALLOW_REISSUE, TRUE.to_owned()));
        }
        all.push((BOT_NAME, self.bot.to_string()));
        all.push((BOT_INSTANCE, self.instance.to_string()));
        all.push((JOIN_ATTRIBUTES, json(serde_json::to_string(&self.join))?));
        name(&all)
    }

    /// Reads what was written, and nothing else.
    pub fn from_name(name: &X501Name) -> Result<Self, SubjectError> {
        let mut attributes = Attributes::default();
        for attribute in name.iter() {
            let text = attribute.value.decode_as::<Utf8StringRef<'_>>();
            let text = text.map_err(|_| SubjectError("an attribute is not UTF-8"))?;
            attributes.0.entry(attribute.oid).or_default().push(text.as_str().to_owned());
        }
        let bot: Name =
            attributes.one(BOT_NAME)?.parse().map_err(|_| SubjectError("the bot's name"))?;
        let user = user_name(&bot);
        let subject = Self {
            instance: attributes
                .one(BOT_INSTANCE)?
                .parse()
                .map_err(|_| SubjectError("the bot instance"))?,
            cluster: attributes.one(CLUSTER)?,
            generation: attributes.at_most_one(GENERATION)?.map(generation).transpose()?,
            impersonated: match attributes.at_most_one(DISALLOW_REISSUE)?.as_deref() {
                None => false,
                Some(TRUE) => true,
                Some(_) => return Err(SubjectError("whether it can ask for others")),
            },
            roles: attributes
                .all(ORGANIZATION_NAME)
                .into_iter()
                .filter(|role| *role != user)
                .map(|role| role.try_into().map_err(|_| SubjectError("a role")))
                .collect::<Result<_, _>>()?,
            logins: attributes.all(LOCALITY_NAME),
            traits: match attributes.at_most_one(POSTAL_CODE)? {
                Some(json) => serde_json::from_str(&json).map_err(|_| SubjectError("traits"))?,
                None => Traits::new(),
            },
            join: from_record(attributes.one(JOIN_ATTRIBUTES)?.as_bytes())
                .map_err(|_| SubjectError("join attributes"))?,
            bot,
        };
        if attributes.one(COMMON_NAME)? != user {
            return Err(SubjectError("the common name is that of another bot"));
        }
        // Others are a newer version's.
        Ok(subject)
    }
}

fn generation(text: String) -> Result<u64, SubjectError> {
    let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    number.ok_or(SubjectError("the generation"))
}

/// The attributes of a name that have not been read yet.
#[derive(Default)]
struct Attributes(BTreeMap<ObjectIdentifier, Vec<String>>);

impl Attributes {
    fn all(&mut self, oid: ObjectIdentifier) -> Vec<String> {
        self.0.remove(&oid).unwrap_or_default()
    }

    fn at_most_one(&mut self, oid: ObjectIdentifier) -> Result<Option<String>, SubjectError> {
        let mut all = self.all(oid).into_iter();
        match (all.next(), all.next()) {
            (one, None) => Ok(one),
            _ => Err(SubjectError("a duplicate attribute")),
        }
    }

    fn one(&mut self, oid: ObjectIdentifier) -> Result<String, SubjectError> {
        self.at_most_one(oid)?.ok_or(SubjectError("a required attribute is missing"))
    }
}

/// A name of these attributes, in this order.
pub(super) fn name(attributes: &[(ObjectIdentifier, String)]) -> Result<X501Name, IssueError> {
    let mut sequence = RdnSequence::default();
    for (oid, text) in attributes {
        let text = Utf8StringRef::new(text).map_err(IssueError::x509)?;
        let value = Any::encode_from(&text).map_err(IssueError::x509)?;
        let attribute = AttributeTypeAndValue { oid: *oid, value };
        let rdn = RelativeDistinguishedName::try_from(vec![attribute]);
        sequence.push(rdn.map_err(IssueError::x509)?);
    }
    sequence.to_der().and_then(|der| X501Name::from_der(&der)).map_err(IssueError::x509)
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate is not a bot's certificate: {}", self.0)
    }
}

impl std::error::Error for SubjectError {}
