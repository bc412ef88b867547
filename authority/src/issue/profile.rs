//! What credentials are for.

use std::time::Duration;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::ext::pkix::KeyUsages;

use super::{ClusterName, MAX_JWT_LIFETIME, Ttl};
use crate::resource::{Bot, KeyLocation, Name};

/// What a credential is for: the names in its X.509 certificate, what the key may be used for, how long the
/// credential is valid, and what the subject says about the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    pub(super) names: Names,
    usages: Usages,
    pub(super) lifetime: Lifetime,
    pub(super) subject: SubjectForm,
    /// What is known of where the key is.
    pub(super) key: KeyLocation,
}

impl Profile {
    /// A service that talks to Teleport's software.
    pub const SERVICE: Self = Self {
        names: Names::Bot,
        usages: Usages::PEER,
        lifetime: Lifetime::HOST,
        subject: SubjectForm::Full { generation: None },
        key: KeyLocation::Unproven,
    };

    /// A service that talks to other software. PostgreSQL, for example, refuses a subject with attributes
    /// that OpenSSL has no names for.
    pub const PLAIN_SERVICE: Self = Self { subject: SubjectForm::Plain, ..Self::SERVICE };

    /// What an agent of Teleport asks for with its identity: roles of the bot, without the right to ask for more.
    pub const IMPERSONATED: Self = Self { subject: SubjectForm::Impersonated, ..Self::SERVICE };

    /// The same for a key of which this is known.
    pub const fn of_key(self, key: KeyLocation) -> Self {
        Self { key, ..self }
    }

    /// What the key may be used for, and what is assured of it.
    pub(super) const fn usages(&self) -> Usages {
        self.usages.of_key(self.key)
    }

    /// The instance itself, which can renew. The generation counts joins and renewals.
    pub const fn identity(generation: u64) -> Self {
        Self { subject: SubjectForm::Full { generation: Some(generation) }, ..Self::SERVICE }
    }
}

/// The subjectAltName.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// The bot's SPIFFE ID.
    Bot,
}

impl Names {
    /// The SPIFFE ID, the one URI (X509-SVID section 2).
    pub(super) fn spiffe_id(self, cluster: &ClusterName, bot: &Name) -> String {
        match self {
            Self::Bot => spiffe_id(cluster, bot),
        }
    }
}

/// The SPIFFE ID of a bot.
pub fn spiffe_id(cluster: &ClusterName, bot: &Name) -> String {
    format!("spiffe://{cluster}/bot/{bot}")
}

/// The SPIFFE ID of the trust domain.
pub(super) fn trust_domain_id(cluster: &ClusterName) -> String {
    format!("spiffe://{cluster}")
}

/// The SPIFFE ID of the authority itself, for the server of the SPIFFE bundle.
pub fn authority_spiffe_id(cluster: &ClusterName) -> String {
    format!("spiffe://{cluster}/endorse/authority")
}

/// The attributes of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubjectForm {
    /// Those of X.520 and Teleport's. A certificate with a generation can renew.
    Full {
        /// Counts joins and renewals.
        generation: Option<u64>,
    },
    /// The same, marked as issued by impersonation and as unable to ask for further certificates.
    Impersonated,
    /// Roles and user name.
    Plain,
}

impl SubjectForm {
    pub(super) const fn generation(self) -> Option<u64> {
        match self {
            Self::Full { generation } => generation,
            Self::Impersonated | Self::Plain => None,
        }
    }
}

/// tcg-cap-verifiedTPMFixed, a certificate policy: the key was verified to be in a TPM, which never gives it away. TCG, *TPM 2.0
/// Keys for Device Identity and Attestation*, section 8.2.
pub(super) const VERIFIED_TPM_FIXED: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("2.23.133.11.1.2");

/// What a key may be used for, RFC 5280 sections 4.2.1.3 and 4.2.1.12, and what is assured of it, section 4.2.1.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usages {
    pub(super) key: KeyUsages,
    pub(super) extended: &'static [ObjectIdentifier],
    /// Certificate policies.
    pub(super) assured: &'static [ObjectIdentifier],
}

impl Usages {
    /// Both ends of TLS connections.
    pub(super) const PEER: Self = Self {
        key: KeyUsages::DigitalSignature,
        extended: &[ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH],
        assured: &[],
    };

    /// The server's end of TLS connections.
    pub(super) const SERVER: Self = Self { extended: &[ID_KP_SERVER_AUTH], ..Self::PEER };

    /// The same for a key of which this is known.
    pub(super) const fn of_key(self, key: KeyLocation) -> Self {
        let assured: &[ObjectIdentifier] = match key {
            KeyLocation::Tpm => &[VERIFIED_TPM_FIXED],
            KeyLocation::Unproven => &[],
        };
        Self { assured, ..self }
    }
}

/// How long credentials are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// If the host asks for no other.
    default: Duration,
    /// At most, for a bot without `max_session_ttl`.
    bot_max: Duration,
    /// At most, for any bot.
    max: Duration,
}

impl Lifetime {
    /// That of JWT-SVIDs, which are bearer tokens.
    pub(super) const JWT: Self = Self {
        default: Duration::from_secs(300),
        bot_max: MAX_JWT_LIFETIME.unsigned_abs(),
        max: MAX_JWT_LIFETIME.unsigned_abs(),
    };

    pub(super) const HOST: Self = Self {
        default: Duration::from_secs(3600),
        bot_max: Duration::from_secs(12 * 3600),
        max: Duration::from_secs(24 * 3600),
    };

    /// How long a credential of this bot is valid.
    pub(super) fn granted(&self, bot: &Bot, asked: Ttl) -> Duration {
        let bot_max = bot.spec.max_session_ttl.map_or(self.bot_max, |ttl| ttl.duration());
        asked.0.unwrap_or(self.default).min(bot_max).min(self.max)
    }
}
