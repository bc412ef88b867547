//! Certificates that the authority issues: its own, and those of hosts.

mod ca_keys;
mod documents;
mod issuer_url;
mod jwt_key;
mod jwt_schedule;
mod jwt_svid;
mod keyring;
mod profile;
mod ssh;
mod subject;
mod subject_key;
mod svid;
mod trust_chain;
mod x509;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use self::profile::SubjectForm;
use self::x509::AlternativeNames;
use crate::resource::{Bot, BotInstance, Invalid, KeyLocation};

pub use ca_keys::CaKey;
pub use documents::{JWKS_PATH, OPENID_PATH, jwks, openid_configuration, spiffe_bundle};
pub use issuer_url::IssuerUrl;
pub use jwt_key::{JwtAlgorithm, JwtKey, JwtPublicKey};
pub use jwt_schedule::{JwtKeyChange, JwtKeyStep, PUBLISHED_AFTER_USE, PUBLISHED_BEFORE_USE};
pub use jwt_svid::{Audiences, JwtClaims, JwtSvid};
pub use keyring::{CaState, CaType, Dated, Keyring, Keys, Ring, Tainted};
pub use profile::{Profile, authority_spiffe_id, spiffe_id};
pub use ssh::SshCa;
pub use subject::{JoinAttributes, JoinMeta, Subject, SubjectError, TpmAttributes, Traits};
pub use subject_key::{Ed25519Key, SubjectKey, SubjectKeyError};
pub use svid::{SshHostCertificate, SvidNames, SvidSubject, X509Svid};
pub use trust_chain::{Link, TrustChain};
pub use x509::{ServerLeaf, X509Ca, serial_text};

/// The lifetime that a host asks for; its profile's default if it asks for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ttl(Option<Duration>);

impl Ttl {
    /// Until one of these times at the latest, in seconds since 1970.
    ///
    /// # Errors
    /// One of them is in the past.
    pub fn until(
        ends: impl IntoIterator<Item = i64>,
        now: OffsetDateTime,
    ) -> Result<Self, Invalid> {
        let end = ends.into_iter().min().unwrap_or(i64::MAX);
        match end.saturating_sub(now.unix_timestamp()) {
            left if left > 0 => Self::try_from(left),
            _ => Err(Invalid(
                "the requested expiry is in the past: check the clock of the host".into(),
            )),
        }
    }
}

impl Ttl {
    /// The same, or until this time in seconds since 1970 if that is earlier.
    ///
    /// # Errors
    /// It is in the past.
    pub fn at_most_until(self, end: i64, now: OffsetDateTime) -> Result<Self, Invalid> {
        let Self(left) = Self::until([end], now)?;
        Ok(Self(self.0.into_iter().chain(left).min()))
    }
}

impl TryFrom<i64> for Ttl {
    type Error = Invalid;

    /// Seconds; 0 is the default.
    fn try_from(seconds: i64) -> Result<Self, Invalid> {
        let seconds = u64::try_from(seconds)
            .map_err(|_| Invalid(format!("{seconds} seconds is not a valid lifetime")))?;
        Ok(Self((seconds > 0).then(|| Duration::from_secs(seconds))))
    }
}

/// By how much clocks of hosts and authorities may differ, with a minute to spare: how much earlier than now certificates begin.
const MAX_BACKDATE: Duration = Duration::from_secs(360);

/// The same of certificates with a short lifetime, most of which must not have passed when they are issued: agents renew at half of it.
const MIN_BACKDATE: Duration = Duration::from_secs(60);

/// How much earlier than now a certificate of this lifetime begins, for hosts and other authorities whose clocks are behind.
fn backdate(lifetime: Duration) -> Duration {
    (lifetime / 10).clamp(MIN_BACKDATE, MAX_BACKDATE)
}

/// The longest lifetime of a JWT-SVID.
pub const MAX_JWT_LIFETIME: time::Duration = time::Duration::hours(24);

/// How often readers of the trust bundle should ask for it (`spiffe_refresh_hint`).
pub const REFRESH_HINT: Duration = Duration::from_secs(300);

/// The domain of the names that Teleport's software gives its servers in TLS. It is not in the DNS.
const TELEPORT_DOMAIN: &str = "teleport.cluster.local";

/// The name of a cluster: the trust domain of its SPIFFE IDs (SPIFFE-ID section 2.1), and the
/// organization (O) of its CAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName(String);

impl ClusterName {
    /// ub-organization-name of RFC 5280.
    pub const MAX_LEN: usize = 64;

    /// The longest name that agents of Teleport can connect to with their certificates: in hexadecimal it is a label
    /// of the server name that they ask for, and TLS here refuses labels over 63 bytes (RFC 1035 section 2.3.4).
    pub const MAX_LEN_IN_SERVER_NAME: usize = 31;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The server name that agents of Teleport ask for with their certificates; `None` if it would not be valid.
    pub fn server_name(&self) -> Option<String> {
        let label = base16ct::lower::encode_string(self.0.as_bytes());
        (self.0.len() <= Self::MAX_LEN_IN_SERVER_NAME).then(|| format!("{label}.{TELEPORT_DOMAIN}"))
    }

    /// What an operator should know if the name is too long for agents of Teleport.
    pub fn warning(&self) -> Option<String> {
        let max = Self::MAX_LEN_IN_SERVER_NAME;
        self.server_name().is_none().then(|| {
            format!(
                "the cluster's name is longer than {max} bytes: agents of Teleport (tbot) cannot \
                 connect with their certificates"
            )
        })
    }
}

impl std::str::FromStr for ClusterName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let sane = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !first || text.len() > Self::MAX_LEN || !text.bytes().all(sane) {
            return Err(Invalid(format!(
                "{text:?} is not a valid cluster name: at most {} lowercase letters, digits, '.', '_' \
                 and '-', a letter or digit first",
                Self::MAX_LEN
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The cluster's CAs, and what they sign.
#[derive(Debug)]
pub struct Issuer {
    cluster: ClusterName,
    keyring: Arc<Keyring>,
    jwt: JwtSettings,
}

/// How JWTs are issued.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwtSettings {
    /// By which algorithm they are signed.
    pub algorithm: JwtAlgorithm,
    /// Their `iss`, where receivers find the keys; `None` for the trust domain's SPIFFE ID.
    pub issuer: Option<IssuerUrl>,
}

/// The certificates that a host receives.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The X.509 certificate.
    pub x509: CertificateDer<'static>,
    /// Its serial number, as text.
    pub serial: String,
    /// The SSH user certificate of the same key, a line of authorized_keys.
    pub ssh: String,
    /// When both begin.
    pub not_before: OffsetDateTime,
    /// When both end.
    pub not_after: OffsetDateTime,
    /// What is known of where the key is.
    pub key_location: KeyLocation,
}

/// The start and the requested lifetime of certificates.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// The time.
    pub now: OffsetDateTime,
    /// The requested lifetime.
    pub ttl: Ttl,
}

/// The dates of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Issuer {
    /// A cluster with one CA of each kind, active since 1970.
    pub fn new(
        cluster: ClusterName,
        x509: X509Ca,
        ssh: SshCa,
        ssh_host: SshCa,
        jwt: JwtKey,
    ) -> Self {
        let since = x509.not_before();
        let keys = Keys {
            x509: Ring::new(x509, since),
            ssh: Ring::new(ssh, since),
            ssh_host: Ring::new(ssh_host, since),
            jwt: Ring::new(jwt, since),
            sequence: 1,
            chain: TrustChain::default(),
            tainted: Tainted::default(),
        };
        Self::with(cluster, Arc::new(Keyring::new(keys)), JwtSettings::default())
    }

    /// A cluster with these CAs.
    pub fn with(cluster: ClusterName, keyring: Arc<Keyring>, jwt: JwtSettings) -> Self {
        Self { cluster, keyring, jwt }
    }

    /// How JWTs are issued.
    pub fn jwt_settings(&self) -> &JwtSettings {
        &self.jwt
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The CAs; the active ones may change between calls.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The X.509 CA that signs now.
    pub fn x509(&self) -> Arc<X509Ca> {
        Arc::clone(self.keyring.keys().x509.active())
    }

    /// The SSH CA of users that signs now.
    pub fn ssh(&self) -> Arc<SshCa> {
        Arc::clone(self.keyring.keys().ssh.active())
    }

    /// Certificates of this profile for a key of an instance of this bot; the instance has proven that it has the
    /// key. Each is verified as a peer would.
    pub fn credentials(
        &self,
        bot: &Bot,
        instance: &BotInstance,
        profile: Profile,
        key: &SubjectKey,
        validity: Validity,
    ) -> Result<Credentials, IssueError> {
        let Validity { now, ttl } = validity;
        let keys = self.keyring.keys();
        let (ca, ssh_ca) = (keys.x509.active(), keys.ssh.active());
        ca.check_time(now)?;
        let window = window(ca, bot, profile.lifetime.granted(bot, ttl), now);
        let generation = profile.subject.generation();
        let subject = Subject {
            impersonated: profile.subject == SubjectForm::Impersonated,
            ..Subject::new(self.cluster.as_str(), bot, instance, generation)
        };
        let name = match profile.subject {
            SubjectForm::Full { .. } | SubjectForm::Impersonated => subject.to_name()?,
            SubjectForm::Plain => subject.to_plain_name()?,
        };
        let spiffe_id = profile.names.spiffe_id(&self.cluster, &subject.bot);
        let names = AlternativeNames::only(&spiffe_id);
        let x509 = ca.host(name, names, profile.usages(), key, window)?;
        let ssh = ssh_ca.user(&subject, key, x509.serial_low, window)?;
        ca.verify_host(&x509.certificate, names, profile.usages(), now)?;
        ssh_ca.verify_user(&ssh, key, now)?;
        Ok(Credentials {
            serial: x509.serial,
            x509: x509.certificate,
            ssh: ssh.to_openssh().map_err(IssueError::ssh)?,
            not_before: window.not_before,
            not_after: window.not_after,
            key_location: profile.key,
        })
    }
}

fn window(ca: &X509Ca, bot: &Bot, lifetime: Duration, now: OffsetDateTime) -> Window {
    // RFC 5280 counts seconds.
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let mut not_after = (now + lifetime).min(ca.not_after());
    if let Some(expires) = bot.metadata.expires {
        not_after = not_after.min(expires.0);
    }
    Window { not_before: (now - backdate(lifetime)).max(ca.not_before()), not_after }
}

/// Why no certificate was issued. It is never the host's fault.
#[derive(Debug)]
pub struct IssueError(String);

impl IssueError {
    fn x509(cause: impl fmt::Display) -> Self {
        Self(format!("X.509: {cause}"))
    }

    fn ssh(cause: impl fmt::Display) -> Self {
        Self(format!("SSH: {cause}"))
    }

    fn jwt(cause: impl fmt::Display) -> Self {
        Self(format!("JWT: {cause}"))
    }
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IssueError {}

#[cfg(test)]
mod tests;
