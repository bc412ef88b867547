//! SSH certificates of users and hosts, PROTOCOL.certkeys of OpenSSH.

use p256::SecretKey;
use p256::ecdsa::VerifyingKey;
use pkcs8::{EncodePrivateKey, LineEnding};
use serde::Serialize;
use signature::Signer;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Certificate, PublicKey, Signature, encoding::Encode};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::ca_keys::key_id;
use super::subject::Subject;
use super::{CaKey, ClusterName, IssueError, SubjectKey, Window};
use crate::resource::{HostPrincipal, Role, user_name};

/// The permissions of a session: a terminal and port forwarding; no agent forwarding, no X11, no ~/.ssh/rc.
const PERMISSIONS: [&str; 2] = ["permit-port-forwarding", "permit-pty"];

/// The principal by which Teleport's proxies know each other and the bots, for the SSH tunnel of a proxy. No user is called so.
const INTERNAL_PRINCIPAL: &str = "-teleport-internal-join";

/// An SSH CA of the cluster: that of users, or that of hosts. Each has its own key, since a server that trusts one for users must
/// not trust hosts.
#[derive(Debug)]
pub struct SshCa {
    /// None of a retired CA.
    signer: Option<SshSigner>,
    public: PublicKey,
    /// A line of authorized_keys.
    public_key: String,
    key_id: String,
}

impl SshCa {
    /// The CA of users with this key.
    pub fn new(cluster: &ClusterName, key: &CaKey) -> Result<Self, IssueError> {
        Self::with(format!("{cluster} SSH CA"), key)
    }

    /// The CA of hosts with this key.
    pub fn of_hosts(cluster: &ClusterName, key: &CaKey) -> Result<Self, IssueError> {
        Self::with(format!("{cluster} SSH host CA"), key)
    }

    /// A CA that signs nothing any more, by its line of authorized_keys.
    pub fn without_private(line: &str) -> Result<Self, IssueError> {
        let comment = line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
        let point = p256_key(line).ok_or_else(|| IssueError::ssh("it is no key on P-256"))?;
        Self::with(comment, &CaKey::without_private(point))
    }

    fn with(comment: String, key: &CaKey) -> Result<Self, IssueError> {
        let point = VerifyingKey::from(key.public()).to_sec1_point(false);
        let public = KeyData::Ecdsa(EcdsaPublicKey::NistP256(point));
        let signer = key.secret().ok().map(|secret| SshSigner {
            secret: secret.clone(),
            key: secret.clone().into(),
            public: public.clone(),
        });
        let public = PublicKey::new(public, comment);
        let public_key = public.to_openssh().map_err(IssueError::ssh)?;
        Ok(Self { signer, public, public_key, key_id: key.key_id()? })
    }

    /// The ID of the key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The ID of the key in a line of authorized_keys; `None` if it has no P-256 key.
    pub fn key_id_of(line: &str) -> Option<String> {
        key_id(&p256_key(line)?).ok()
    }

    /// The private key, PKCS #8 PEM.
    ///
    /// # Errors
    /// It is gone, or cannot be encoded.
    pub fn private_pem(&self) -> Result<Zeroizing<String>, IssueError> {
        self.signer()?.secret.to_pkcs8_pem(LineEnding::LF).map_err(IssueError::ssh)
    }

    fn signer(&self) -> Result<&SshSigner, IssueError> {
        self.signer.as_ref().ok_or_else(|| IssueError::ssh("the CA is retired"))
    }

    /// The public key, a line of authorized_keys.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    pub(super) fn user(
        &self,
        subject: &Subject,
        key: &SubjectKey,
        serial: u64,
        window: Window,
    ) -> Result<Certificate, IssueError> {
        let user = user_name(&subject.bot);
        let build = || {
            let mut builder = builder(key, window)?;
            builder.cert_type(CertType::User).map_err(IssueError::ssh)?;
            builder.serial(serial).map_err(IssueError::ssh)?;
            builder.key_id(&user).map_err(IssueError::ssh)?;
            builder.valid_principal(&user).map_err(IssueError::ssh)?;
            builder.comment(user.as_str()).map_err(IssueError::ssh)?;
            // Always include the bot's own user: without principals, the certificate would be valid for any user.
            for login in subject.logins.iter().filter(|login| **login != user) {
                builder.valid_principal(login).map_err(IssueError::ssh)?;
            }
            builder.valid_principal(INTERNAL_PRINCIPAL).map_err(IssueError::ssh)?;
            for (extension, data) in extensions(subject)? {
                builder.extension(extension, data).map_err(IssueError::ssh)?;
            }
            builder.sign(self.signer()?).map_err(IssueError::ssh)
        };
        build()
    }

    /// A certificate for a host. Without extensions and options: OpenSSH knows none for hosts.
    pub(super) fn host(
        &self,
        key_id: &str,
        principals: &[HostPrincipal],
        key: &SubjectKey,
        serial: u64,
        window: Window,
    ) -> Result<Certificate, IssueError> {
        let mut builder = builder(key, window)?;
        builder.cert_type(CertType::Host).map_err(IssueError::ssh)?;
        builder.serial(serial).map_err(IssueError::ssh)?;
        builder.key_id(key_id).map_err(IssueError::ssh)?;
        builder.comment(key_id).map_err(IssueError::ssh)?;
        for principal in principals {
            builder.valid_principal(principal.as_str()).map_err(IssueError::ssh)?;
        }
        builder.sign(self.signer()?).map_err(IssueError::ssh)
    }

    /// Verifies a certificate as an SSH client would, and that it is of this key and these names alone.
    pub(super) fn verify_host(
        &self,
        certificate: &Certificate,
        principals: &[HostPrincipal],
        key: &SubjectKey,
        now: OffsetDateTime,
    ) -> Result<(), IssueError> {
        self.verify_user(certificate, key, now)?;
        let names = certificate.valid_principals().iter().map(String::as_str);
        let is_host = certificate.cert_type() == CertType::Host
            && !principals.is_empty()
            && names.eq(principals.iter().map(HostPrincipal::as_str))
            && certificate.critical_options().is_empty()
            && certificate.extensions().is_empty();
        if is_host { Ok(()) } else { Err(IssueError::ssh("it is no certificate of this host")) }
    }

    /// Verifies a certificate as an SSH server would, and that it is of this key.
    pub(super) fn verify_user(
        &self,
        certificate: &Certificate,
        key: &SubjectKey,
        now: OffsetDateTime,
    ) -> Result<(), IssueError> {
        self.verify_signature(certificate)?;
        let seconds = u64::try_from(now.unix_timestamp()).map_err(IssueError::ssh)?;
        if !(certificate.valid_after()..certificate.valid_before()).contains(&seconds) {
            return Err(IssueError::ssh("the certificate is not valid now"));
        }
        if *certificate.public_key() != key.ssh()? {
            return Err(IssueError::ssh("the certificate is for another key"));
        }
        Ok(())
    }

    /// Checks that this CA has signed the certificate: all of it but its last field, which is the signature.
    fn verify_signature(&self, certificate: &Certificate) -> Result<(), IssueError> {
        let signature = certificate.signature();
        let bytes = certificate.to_bytes().map_err(IssueError::ssh)?;
        let field = signature.encoded_len_prefixed().map_err(IssueError::ssh)?;
        let signed = bytes.len().checked_sub(field).and_then(|end| bytes.get(..end));
        let signature = p256::ecdsa::Signature::try_from(signature).map_err(IssueError::ssh)?;
        let ca = match self.public.key_data() {
            ca @ KeyData::Ecdsa(EcdsaPublicKey::NistP256(point))
                if ca == certificate.signature_key() =>
            {
                ecc::VerifyingKey {
                    curve: ecc::Curve::P256,
                    hash: ecc::Hash::Sha256,
                    point: point.as_bytes(),
                }
            }
            _ => return Err(IssueError::ssh("the certificate is of another CA")),
        };
        ca.verify(signed.unwrap_or_default(), &signature.to_bytes()).map_err(IssueError::ssh)
    }
}

/// The private key of a CA, as `ssh-key` signs with one.
#[derive(Debug)]
struct SshSigner {
    secret: SecretKey,
    key: ecc::SigningKey,
    public: KeyData,
}

impl Signer<Signature> for SshSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        let signature: p256::ecdsa::Signature = self.key.try_sign(message)?;
        Ok(signature.try_into()?)
    }
}

impl From<&SshSigner> for KeyData {
    fn from(signer: &SshSigner) -> Self {
        signer.public.clone()
    }
}

fn builder(key: &SubjectKey, window: Window) -> Result<Builder, IssueError> {
    let seconds = |at: OffsetDateTime| u64::try_from(at.unix_timestamp()).map_err(IssueError::ssh);
    let mut nonce = [0; Builder::RECOMMENDED_NONCE_SIZE];
    getrandom::fill(&mut nonce).map_err(IssueError::ssh)?;
    let (from, until) = (seconds(window.not_before)?, seconds(window.not_after)?);
    Builder::new(nonce, key.ssh()?, from, until).map_err(IssueError::ssh)
}

/// The extensions of the certificate; the names with an @ are Teleport's, as are
/// those that begin with its name.
fn extensions(subject: &Subject) -> Result<Vec<(&'static str, String)>, IssueError> {
    #[derive(Serialize)]
    struct Roles<'a> {
        roles: &'a [Role],
    }
    let mut all: Vec<_> = PERMISSIONS.map(|permission| (permission, String::new())).into();
    all.push(("bot-name@goteleport.com", subject.bot.to_string()));
    all.push(("bot-instance-id@goteleport.com", subject.instance.to_string()));
    if subject.impersonated {
        all.push(("disallow-reissue", String::new()));
        all.push(("impersonator", user_name(&subject.bot)));
    }
    let roles = serde_json::to_string(&Roles { roles: &subject.roles });
    all.extend(subject.generation.map(|generation| ("generation", generation.to_string())));
    all.push(("teleport-roles", roles.map_err(IssueError::ssh)?));
    all.push(("teleport-route-to-cluster", subject.cluster.clone()));
    let traits = serde_json::to_string(&subject.traits);
    all.push(("teleport-traits", traits.map_err(IssueError::ssh)?));
    Ok(all)
}

/// The key of a line of authorized_keys, if it is one on P-256.
fn p256_key(line: &str) -> Option<p256::PublicKey> {
    let key = PublicKey::from_openssh(line).ok()?;
    p256::PublicKey::from_sec1_bytes(key.key_data().ecdsa()?.as_sec1_bytes()).ok()
}
