//! kind: token

use std::fmt;

use der::pem::{LineEnding, encode_string};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_saphyr::DoubleQuoted;
use verifier::pem::{Bundle, PemError, PemFault};
use verifier::{CaCertificate, chain};

use super::field::{EkHash, Invalid, IssuerName, Metadata, Name, Serial};
use super::instance::ProvenEk;
use super::printed::{self, Printed};

/// Who may join as which bot, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    kind: super::Kind,
    version: Version,
    /// Name, labels, expiry.
    #[serde(deserialize_with = "printed::part")]
    pub metadata: Metadata,
    /// Who may join.
    #[serde(deserialize_with = "printed::part")]
    pub spec: TokenSpec,
}

impl Printed for Token {
    const IGNORED: &'static [&'static str] = &["status"];
    const UNSERVED: &'static [&'static str] = &["sub_kind", "scope"];
}

impl Printed for TokenSpec {
    // Labels of agents, which a bot's host is not.
    const IGNORED: &'static [&'static str] =
        &["suggested_labels", "suggested_agent_matcher_labels"];
    // Rules and settings of other join methods.
    const UNSERVED: &'static [&'static str] = &[
        "allow",
        "aws_iid_ttl",
        "azure",
        "azure_devops",
        "bitbucket",
        "bound_keypair",
        "circleci",
        "env0",
        "gcp",
        "github",
        "gitlab",
        "integration",
        "kubernetes",
        "oracle",
        "spacelift",
        "terraform_cloud",
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "v2")]
    V2,
}

/// Who may join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The roles of the token. Hosts join with `Bot`; the others have no effect.
    #[serde(default, deserialize_with = "printed::or_null")]
    pub roles: Vec<SystemRole>,
    /// How they prove themselves.
    pub join_method: JoinMethod,
    /// The bot that they become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_name: Option<Name>,
    /// For the join method `tpm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmSpec>,
}

/// How hosts join with a token, and what that demands of them. Another method is another variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Join<'t> {
    /// By a TPM.
    Tpm(&'t TpmSpec),
    /// A method of a newer version; no host can join with it here.
    Other(&'t str),
}

impl TokenSpec {
    /// How hosts join.
    ///
    /// # Errors
    /// What the method needs is missing.
    pub fn join(&self) -> Result<Join<'_>, Invalid> {
        match (&self.join_method, &self.tpm) {
            (JoinMethod::Tpm, Some(tpm)) => Ok(Join::Tpm(tpm)),
            (JoinMethod::Tpm, None) => {
                Err(Invalid("spec.tpm: must be configured for the join method \"tpm\"".into()))
            }
            (JoinMethod::Other(method), _) => Ok(Join::Other(method)),
        }
    }
}

/// A role of a token, as Teleport names them. Only `Bot` has an effect here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SystemRole {
    /// A host of a bot.
    Bot,
    /// Any other, as it was written: Teleport has new ones with every version.
    Other(String),
}

impl TryFrom<String> for SystemRole {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        const MAX_LEN: usize = 64;
        if text.eq_ignore_ascii_case("bot") {
            return Ok(Self::Bot);
        }
        let sane = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !sane || text.len() > MAX_LEN {
            return Err(Invalid(format!("{text:?} is not a valid token role, such as Bot")));
        }
        Ok(Self::Other(text))
    }
}

impl From<SystemRole> for String {
    fn from(role: SystemRole) -> Self {
        match role {
            SystemRole::Bot => "Bot".into(),
            SystemRole::Other(name) => name,
        }
    }
}

/// How a host proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum JoinMethod {
    /// By its TPM.
    Tpm,
    /// A method of a newer version. Documents cannot have it.
    Other(String),
}

impl JoinMethod {
    fn as_str(&self) -> &str {
        match self {
            Self::Tpm => "tpm",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for JoinMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<JoinMethod> for String {
    fn from(method: JoinMethod) -> Self {
        method.to_string()
    }
}

impl<'de> Deserialize<'de> for JoinMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_document = deserializer.is_human_readable();
        match String::deserialize(deserializer)? {
            tpm if tpm == "tpm" => Ok(Self::Tpm),
            other if is_document => Err(D::Error::custom(format!(
                "unknown join method {other:?}: only \"tpm\" is supported"
            ))),
            other => Ok(Self::Other(other)),
        }
    }
}

/// Which TPMs may join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmSpec {
    /// PEM. If there are any, a TPM must present an EK certificate that one of them signed.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "Vec::is_empty")]
    pub ekcert_allowed_cas: Vec<String>,
    /// EK certificates that say neither by extKeyUsage nor by subjectAltName that they are: only
    /// for CAs that issue nothing else.
    #[serde(default, skip_serializing_if = "PurposePolicy::is_refused")]
    pub ekcert_without_purpose: PurposePolicy,
    /// A TPM must match one of them.
    #[serde(default, deserialize_with = "printed::or_null")]
    pub allow: Vec<Rule>,
}

/// Whether an EK certificate that is not marked as one is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PurposePolicy {
    /// It is refused.
    #[default]
    Refused,
    /// It is accepted.
    Accepted,
}

impl<'de> Deserialize<'de> for PurposePolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_document = deserializer.is_human_readable();
        match String::deserialize(deserializer)?.as_str() {
            "refused" => Ok(Self::Refused),
            "accepted" => Ok(Self::Accepted),
            other if is_document => Err(D::Error::unknown_variant(other, &["refused", "accepted"])),
            // Whatever a newer version accepts under a condition.
            _ => Ok(Self::Refused),
        }
    }
}

impl PurposePolicy {
    fn is_refused(&self) -> bool {
        *self == Self::Refused
    }
}

impl From<PurposePolicy> for chain::PurposePolicy {
    fn from(verdict: PurposePolicy) -> Self {
        match verdict {
            PurposePolicy::Refused => Self::Refused,
            PurposePolicy::Accepted => Self::Accepted,
        }
    }
}

/// Matches a TPM that has everything that is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A description for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The EK itself.
    #[serde(
        default,
        deserialize_with = "printed::unless_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub ek_public_hash: Option<EkHash>,
    /// The serial number of the EK's certificate.
    #[serde(
        default,
        deserialize_with = "printed::unless_empty",
        skip_serializing_if = "Option::is_none",
        serialize_with = "quoted"
    )]
    pub ek_certificate_serial: Option<Serial>,
    /// The issuer of the EK's certificate: serial numbers are unique per issuer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate_issuer: Option<IssuerName>,
}

/// Quoted, since YAML 1.1 reads digits joined by colons as a number to base 60.
fn quoted<S: Serializer>(serial: &Option<Serial>, serializer: S) -> Result<S::Ok, S::Error> {
    serial.as_ref().map(|serial| DoubleQuoted(serial.as_str())).serialize(serializer)
}

impl Token {
    /// A token with this specification.
    pub fn new(metadata: Metadata, spec: TokenSpec) -> Self {
        Self { kind: super::Kind::Token, version: Version::V2, metadata, spec }
    }

    /// Leaves out the CA certificates that cannot be read, and says of each what it is.
    pub(super) fn skip_unreadable(&mut self) -> Result<Vec<String>, Invalid> {
        let Some(tpm) = &mut self.spec.tpm else { return Ok(Vec::new()) };
        let skipped = tpm.skip_unreadable();
        skipped.map_err(|cause| Invalid(format!("spec.tpm: failed validation: {cause}")))
    }

    /// Checks what a single field cannot show, in Teleport's order and words where it has them.
    pub(super) fn complete(self) -> Result<Self, Invalid> {
        let spec = &self.spec;
        let is_bot = spec.roles.contains(&SystemRole::Bot);
        if spec.roles.is_empty() {
            return Err(Invalid("provisioning token is missing roles".into()));
        }
        if is_bot && spec.bot_name.is_none() {
            return Err(Invalid("token with role \"Bot\" must set bot_name".into()));
        }
        if !is_bot && spec.bot_name.is_some() {
            return Err(Invalid("can only set bot_name on token with role \"Bot\"".into()));
        }
        if let Join::Tpm(tpm) = spec.join()? {
            tpm.check()
                .map_err(|cause| Invalid(format!("spec.tpm: failed validation: {cause}")))?;
        }
        Ok(self)
    }
}

impl TpmSpec {
    fn check(&self) -> Result<(), Invalid> {
        for (index, pem) in self.ekcert_allowed_cas.iter().enumerate() {
            certificates(pem)
                .map_err(|cause| Invalid(format!("ekcert_allowed_cas[{index}]: {cause}")))?;
        }
        if self.ekcert_allowed_cas.is_empty() && !self.ekcert_without_purpose.is_refused() {
            return Err(Invalid(
                "ekcert_without_purpose must be accompanied by ekcert_allowed_cas".into(),
            ));
        }
        if self.allow.is_empty() {
            return Err(Invalid("allow: at least one rule must be set".into()));
        }
        for (index, rule) in self.allow.iter().enumerate() {
            rule.check(self).map_err(|cause| Invalid(format!("allow[{index}]: {cause}")))?;
        }
        Ok(())
    }

    /// Leaves out of `ekcert_allowed_cas` what cannot be read, and says of each what it is.
    ///
    /// # Errors
    /// Nothing is left of them: without any, the token would demand no certificate.
    fn skip_unreadable(&mut self) -> Result<Vec<String>, Invalid> {
        let mut skipped = Vec::new();
        let mut kept = Vec::new();
        for (index, pem) in std::mem::take(&mut self.ekcert_allowed_cas).into_iter().enumerate() {
            let bundle = Bundle::read(&pem).map_err(|cause| unreadable(&cause));
            let Bundle { cas, unreadable } =
                bundle.map_err(|cause| Invalid(format!("ekcert_allowed_cas[{index}]: {cause}")))?;
            match &unreadable[..] {
                [] => kept.push(pem),
                _ if cas.is_empty() => {}
                _ => kept.push(to_pem(&cas)?),
            }
            let said = |cause| format!("ekcert_allowed_cas[{index}]: {cause}");
            skipped.extend(unreadable.iter().map(said));
        }
        if let ([], [first, ..]) = (&kept[..], &skipped[..]) {
            return Err(Invalid(format!(
                "all certificates in ekcert_allowed_cas are malformed: {first}"
            )));
        }
        self.ekcert_allowed_cas = kept;
        Ok(skipped)
    }

    /// The certificates of `ekcert_allowed_cas`.
    pub fn allowed_cas(&self) -> Result<Vec<CaCertificate>, Invalid> {
        let mut all = Vec::new();
        for pem in &self.ekcert_allowed_cas {
            all.extend(certificates(pem)?);
        }
        Ok(all)
    }
}

impl Rule {
    /// Whether the TPM has everything that is set. A rule that sets neither hash nor serial matches none: every TPM would
    /// have what it asks for.
    pub fn matches(&self, ek: &ProvenEk) -> bool {
        let Self {
            description: _,
            ek_public_hash: hash,
            ek_certificate_serial: serial,
            ek_certificate_issuer: issuer,
        } = self;
        (hash.is_some() || serial.is_some())
            && hash.as_ref().is_none_or(|hash| *hash == ek.public_hash)
            && (serial.is_none() || *serial == ek.certificate_serial)
            && (issuer.is_none() || *issuer == ek.certificate_issuer)
    }

    fn check(&self, tpm: &TpmSpec) -> Result<(), Invalid> {
        if self.ek_certificate_issuer.is_some() && self.ek_certificate_serial.is_none() {
            return Err(Invalid(
                "ek_certificate_issuer must be accompanied by ek_certificate_serial".into(),
            ));
        }
        match (&self.ek_public_hash, &self.ek_certificate_serial) {
            (None, None) => Err(Invalid(
                "at least one of ['ek_public_hash', 'ek_certificate_serial'] must be set".into(),
            )),
            // Without a CA the certificate is not verified: any TPM could present any serial.
            (None, Some(_)) if tpm.ekcert_allowed_cas.is_empty() => Err(Invalid(
                "ek_certificate_serial must be accompanied by ek_public_hash or by \
                 ekcert_allowed_cas"
                    .into(),
            )),
            _ => Ok(()),
        }
    }
}

fn certificates(pem: &str) -> Result<Vec<CaCertificate>, Invalid> {
    CaCertificate::from_pem(pem).map_err(|cause| unreadable(&cause))
}

fn to_pem(cas: &[CaCertificate]) -> Result<String, Invalid> {
    let block = |ca: &CaCertificate| encode_string("CERTIFICATE", LineEnding::LF, ca.der());
    let blocks = cas.iter().map(block).collect::<Result<_, _>>();
    blocks.map_err(|cause| Invalid(format!("writing the certificates: {cause}")))
}

/// In Teleport's wording where it has one.
fn unreadable(cause: &PemError) -> Invalid {
    Invalid(match &cause.fault {
        PemFault::NoBlock => "no pem block found".into(),
        PemFault::Label(_) => "pem block is not 'CERTIFICATE' type".into(),
        PemFault::Certificate(_) | PemFault::Base64 => {
            format!("parsing certificate: {cause} (create --skip-unreadable skips it)")
        }
        _ => format!("parsing certificate: {cause}"),
    })
}
