//! kind: workload_identity

mod attribute;
mod claims;
mod rules;
mod template;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::claims::ExtraClaims;
use self::rules::{BotSelector, Rules};
pub use self::template::RenderError;
use self::template::Template;
use super::bot::SessionTtl;
use super::field::{Invalid, Metadata};
use super::printed::{self, Printed};
use super::spiffe::{DnsName, HostPrincipal, SpiffeId, check_path, check_segment_bytes};
use super::{Attributes, Kind};

/// An identity of workloads: what it is called, and which bots may have it for which of their workloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadIdentity {
    kind: Kind,
    version: Version,
    /// Name, labels, expiry.
    #[serde(deserialize_with = "printed::part")]
    pub metadata: Metadata,
    /// Who may have it, and what it says.
    #[serde(deserialize_with = "printed::part")]
    pub spec: WorkloadIdentitySpec,
}

impl Printed for WorkloadIdentity {
    const IGNORED: &'static [&'static str] = &["status"];
    const UNSERVED: &'static [&'static str] = &["sub_kind", "scope"];
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "v1")]
    V1,
}

/// Who may have a workload identity, and what it says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadIdentitySpec {
    /// Which bots; not in Teleport, whose roles say so.
    #[serde(
        default,
        deserialize_with = "printed::or_null",
        skip_serializing_if = "BotSelector::is_empty"
    )]
    pub bots: BotSelector,
    /// Which of their workloads.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "is_default")]
    pub rules: Rules,
    /// SPIFFE IDs and SVIDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<SpiffeSpec>,
    /// SSH certificates; not in Teleport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshSpec>,
}

impl Printed for WorkloadIdentitySpec {}

/// What SVIDs say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpiffeSpec {
    /// The path of the SPIFFE ID.
    pub id: Template,
    /// What the identity is for, for workloads that have several.
    #[serde(
        default,
        deserialize_with = "printed::or_null",
        skip_serializing_if = "String::is_empty"
    )]
    pub hint: String,
    /// X.509-SVIDs.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "is_default")]
    pub x509: X509Spec,
    /// JWT-SVIDs.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "is_default")]
    pub jwt: JwtSpec,
}

/// What X.509-SVIDs say besides the SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct X509Spec {
    /// Names in the DNS.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "Vec::is_empty")]
    pub dns_sans: Vec<Template>,
    /// The longest lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_ttl: Option<SessionTtl>,
    /// The subject; without it, the subject is empty.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "is_default")]
    pub subject_template: SubjectTemplate,
}

/// The attributes of the subject, X.520.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectTemplate {
    /// CN
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Option::is_none")]
    pub common_name: Option<Template>,
    /// O
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Option::is_none")]
    pub organization: Option<Template>,
    /// OU
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Option::is_none")]
    pub organizational_unit: Option<Template>,
}

/// What JWT-SVIDs say besides the SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// The longest lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_ttl: Option<SessionTtl>,
    /// Further claims.
    #[serde(
        default,
        deserialize_with = "printed::or_null",
        skip_serializing_if = "ExtraClaims::is_empty"
    )]
    pub extra_claims: ExtraClaims,
}

/// SSH certificates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshSpec {
    /// SSH host certificates.
    #[serde(default, deserialize_with = "printed::or_null")]
    pub host: SshHostSpec,
}

/// SSH host certificates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshHostSpec {
    /// The names that a host may have.
    #[serde(default, deserialize_with = "printed::or_null", skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<Template>,
    /// The longest lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_ttl: Option<SessionTtl>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A template for which `null` or an empty text may stand, as Teleport prints what is not set.
fn or_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Template>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(Template::try_from).transpose().map_err(serde::de::Error::custom)
}

/// The subject of X.509-SVIDs for one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SvidAttributes {
    /// CN
    pub common_name: Option<String>,
    /// O
    pub organization: Option<String>,
    /// OU
    pub organizational_unit: Option<String>,
}

impl WorkloadIdentity {
    /// Names of a kind that an identity may have.
    const MAX_NAMES: usize = 64;

    /// The longest subject that Google's workload identity federation takes (`google.subject`), characters.
    const MAX_GOOGLE_SUBJECT: usize = 127;

    /// A workload identity with this specification.
    pub fn new(metadata: Metadata, spec: WorkloadIdentitySpec) -> Self {
        Self { kind: Kind::WorkloadIdentity, version: Version::V1, metadata, spec }
    }

    /// Checks what a single field cannot show.
    pub(super) fn complete(self) -> Result<Self, Invalid> {
        let Self { spec, .. } = &self;
        spec.bots.check()?;
        spec.rules.check_size()?;
        if spec.spiffe.is_none() && spec.ssh.is_none() {
            return Err(Invalid("spec: spiffe or ssh must be set: it says what is issued".into()));
        }
        if let Some(spiffe) = &spec.spiffe {
            spiffe.check()?;
        }
        if let Some(ssh) = &spec.ssh {
            ssh.check()?;
        }
        Ok(self)
    }

    /// What the operator should know of it, in a cluster of this name.
    pub fn warnings(&self, cluster: &str) -> Vec<String> {
        let mut all = Vec::new();
        if self.spec.bots.is_empty() {
            all.push(
                "spec.bots selects no bot: no host can have this identity until it names bots or labels"
                    .to_owned(),
            );
        }
        if let Some(spiffe) = &self.spec.spiffe {
            let length = format!("spiffe://{cluster}{}", spiffe.id.shortest()).len();
            if length > Self::MAX_GOOGLE_SUBJECT {
                all.push(format!(
                    "spec.spiffe.id: the SPIFFE ID has at least {length} characters; Google's workload \
                     identity federation takes subjects of at most {}",
                    Self::MAX_GOOGLE_SUBJECT
                ));
            }
        }
        all
    }
}

impl SpiffeSpec {
    /// The longest hint, bytes (SPIFFE Workload API section 5.2.2).
    const MAX_HINT: usize = 1024;

    fn check(&self) -> Result<(), Invalid> {
        let of = |field: &str| {
            let field = format!("spec.spiffe.{field}");
            move |Invalid(why): Invalid| Invalid(format!("{field}: {why}"))
        };
        let shortest = self.id.shortest();
        if shortest.starts_with("spiffe:") {
            let why = "write the path alone, such as /web: the trust domain is the cluster's name";
            return Err(of("id")(Invalid(why.into())));
        }
        check_path(&shortest).and_then(|()| check_not_own(&shortest)).map_err(of("id"))?;
        if shortest.len() > SpiffeId::MAX_LEN {
            let why = format!("it has more than {} bytes", SpiffeId::MAX_LEN);
            return Err(of("id")(Invalid(why)));
        }
        if self.hint.len() > Self::MAX_HINT || self.hint.chars().any(char::is_control) {
            let why = format!("at most {} bytes, no control characters", Self::MAX_HINT);
            return Err(of("hint")(Invalid(why)));
        }
        check_count("spec.spiffe.x509.dns_sans", &self.x509.dns_sans)?;
        for (index, name) in self.x509.dns_sans.iter().enumerate() {
            DnsName::try_from(name.shortest()).map_err(of(&format!("x509.dns_sans[{index}]")))?;
        }
        for (name, attribute) in self.x509.subject_template.attributes() {
            let field = format!("x509.subject_template.{name}");
            check_subject(attribute.shortest()).map_err(of(&field))?;
        }
        Ok(())
    }

    /// The SPIFFE ID of a workload in this trust domain.
    ///
    /// # Errors
    /// It would not be valid. It is never made valid.
    pub fn spiffe_id(
        &self,
        trust_domain: &str,
        workload: &Attributes,
    ) -> Result<SpiffeId, RenderError> {
        // A value is a segment, or a part of one: with a slash in it, it would choose its place in the path.
        let path = self.id.render_checked(workload, check_segment_bytes)?;
        check_not_own(&path)?;
        Ok(SpiffeId::new(trust_domain, &path)?)
    }
}

/// Refuses the paths below which the authority's own SPIFFE IDs are.
fn check_not_own(path: &str) -> Result<(), Invalid> {
    if path == "/endorse" || path.starts_with("/endorse/") {
        return Err(Invalid("paths below /endorse are those of the authority itself".into()));
    }
    Ok(())
}

impl X509Spec {
    /// The names in the DNS of a workload, without duplicates.
    ///
    /// # Errors
    /// One would not be valid.
    pub fn dns_names(&self, workload: &Attributes) -> Result<Vec<DnsName>, RenderError> {
        let mut all = Vec::new();
        for template in &self.dns_sans {
            let name = DnsName::try_from(template.render(workload)?)?;
            if !all.contains(&name) {
                all.push(name);
            }
        }
        Ok(all)
    }

    /// The subject of a workload.
    ///
    /// # Errors
    /// An attribute would not be valid.
    pub fn subject(&self, workload: &Attributes) -> Result<SvidAttributes, RenderError> {
        let render = |template: &Option<Template>| {
            let text = template.as_ref().map(|template| template.render(workload)).transpose()?;
            Ok::<_, RenderError>(text.map(check_subject).transpose()?)
        };
        Ok(SvidAttributes {
            common_name: render(&self.subject_template.common_name)?,
            organization: render(&self.subject_template.organization)?,
            organizational_unit: render(&self.subject_template.organizational_unit)?,
        })
    }

    /// The longest lifetime.
    pub fn maximum(&self) -> Option<Duration> {
        self.maximum_ttl.map(SessionTtl::duration)
    }
}

impl JwtSpec {
    /// The longest lifetime.
    pub fn maximum(&self) -> Option<Duration> {
        self.maximum_ttl.map(SessionTtl::duration)
    }
}

impl SubjectTemplate {
    fn attributes(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        let all = [
            ("common_name", &self.common_name),
            ("organization", &self.organization),
            ("organizational_unit", &self.organizational_unit),
        ];
        all.into_iter().filter_map(|(name, one)| one.as_ref().map(|one| (name, one)))
    }
}

impl SshSpec {
    fn check(&self) -> Result<(), Invalid> {
        let principals = &self.host.principals;
        check_count("spec.ssh.host.principals", principals)?;
        if principals.is_empty() {
            let why = "spec.ssh.host.principals: at least one; a certificate without principals would be \
                       valid for every host";
            return Err(Invalid(why.into()));
        }
        for (index, name) in principals.iter().enumerate() {
            HostPrincipal::try_from(name.shortest()).map_err(|Invalid(why)| {
                Invalid(format!("spec.ssh.host.principals[{index}]: {why}"))
            })?;
        }
        Ok(())
    }
}

impl SshHostSpec {
    /// The names that this host may have. Those that need an attribute that is not known are left out.
    ///
    /// # Errors
    /// One would not be valid.
    pub fn allowed(&self, workload: &Attributes) -> Result<Vec<HostPrincipal>, RenderError> {
        let mut all = Vec::new();
        for template in &self.principals {
            match template.render(workload) {
                Ok(name) => all.push(HostPrincipal::try_from(name)?),
                Err(RenderError::Absent(_)) => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(all)
    }

    /// The longest lifetime.
    pub fn maximum(&self) -> Option<Duration> {
        self.maximum_ttl.map(SessionTtl::duration)
    }
}

fn check_count(field: &str, all: &[Template]) -> Result<(), Invalid> {
    if all.len() > WorkloadIdentity::MAX_NAMES {
        return Err(Invalid(format!("{field}: at most {} names", WorkloadIdentity::MAX_NAMES)));
    }
    Ok(())
}

/// An attribute of a subject: 1 to 64 characters (ub-common-name and its like in RFC 5280), none of them a control character.
fn check_subject(text: String) -> Result<String, Invalid> {
    const MAX: usize = 64;
    if text.is_empty() || text.chars().count() > MAX || text.chars().any(char::is_control) {
        let shown: String = text.chars().take(80).collect();
        return Err(Invalid(format!(
            "{shown:?} is not valid in a subject: 1 to {MAX} characters, no control characters"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
