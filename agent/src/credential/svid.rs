//! What workloads are issued, SVIDs and trust bundles, verified as a peer would verify them.

use std::time::Duration;

use host::terminal::is_printable;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::{Map, Value};
use webpki::{EndEntityCert, KeyUsage};
use zeroize::Zeroizing;

use super::jwt::{self, JwtKey};
use super::trust_bundle::{TrustBundle, Voucher};
use super::validity::Validity;
use crate::spiffe_id::SpiffeId;

/// Identities of one workload.
const MAX_SVIDS: usize = 100;

/// Certificates of one identity.
const MAX_CHAIN: usize = 4;

/// Bytes of a hint that all software must support.
const MAX_HINT: usize = 1024;

/// An identity of a workload as an X.509 certificate.
#[derive(Clone, Debug)]
pub struct X509Svid {
    /// The SPIFFE ID.
    pub spiffe_id: String,
    /// What the operator says it is for; may be empty.
    pub hint: String,
    /// The certificate and its intermediates, DER.
    pub certificates: Vec<Vec<u8>>,
    /// From when to when it is valid.
    pub validity: Validity,
}

/// The same with the private key, as the Workload API delivers it.
#[derive(Debug)]
pub struct KeyedSvid {
    /// The certificate.
    pub svid: X509Svid,
    /// The private key: PKCS #8, DER.
    pub key: Zeroizing<Vec<u8>>,
}

/// An identity of a workload as a JWT.
#[derive(Clone)]
pub struct JwtSvid {
    /// The SPIFFE ID.
    pub spiffe_id: String,
    /// What the operator says it is for; may be empty.
    pub hint: String,
    /// JWS compact serialization.
    pub token: String,
    /// From when to when it is valid.
    pub validity: Validity,
}

impl std::fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JwtSvid({}, {:?})", self.spiffe_id, self.validity)
    }
}

/// An X.509-SVID as the authority issued it, before it is verified.
#[derive(Clone, Debug, Default)]
pub struct UnverifiedX509 {
    /// The SPIFFE ID.
    pub spiffe_id: String,
    /// What the operator says it is for.
    pub hint: String,
    /// The certificate and its intermediates, DER.
    pub certificates: Vec<Vec<u8>>,
}

/// A trust bundle as the authority sent it, before it is verified.
#[derive(Clone, Debug, Default)]
pub struct UnverifiedBundle {
    /// The trust domain, without `spiffe://`.
    pub trust_domain: String,
    /// X.509 CA certificates, DER.
    pub x509: Vec<Vec<u8>>,
    /// Keys of JWT-SVIDs.
    pub jwt: Vec<Result<JwtKey, String>>,
    /// Grows with each change.
    pub sequence: u64,
    /// How often to ask for it, in seconds; 0 if it does not say.
    pub refresh_hint: i64,
}

/// What the members of a trust domain are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The trust domain, without `spiffe://`.
    pub trust_domain: String,
    /// X.509 CA certificates, DER.
    pub x509: Vec<Vec<u8>>,
    /// Keys of JWT-SVIDs.
    pub jwt: Vec<JwtKey>,
    /// Grows with each change.
    pub sequence: u64,
    /// How often to ask for it.
    pub refresh_hint: Duration,
}

/// The least and the most that a refresh hint is obeyed.
const REFRESH: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// How often to ask for the trust bundle if the authority does not say it.
const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

impl Bundle {
    /// Reads a bundle of the trust domain.
    ///
    /// # Errors
    /// It is malformed, of another trust domain, or has none of the CAs that vouch for it.
    pub fn verify(
        bundle: UnverifiedBundle,
        trust_domain: &str,
        voucher: Voucher<'_>,
    ) -> Result<Self, String> {
        if bundle.trust_domain != trust_domain {
            return Err(format!("a trust bundle of another trust domain than {trust_domain}"));
        }
        let cas = bundle.x509.iter().map(Vec::as_slice);
        let x509 = TrustBundle::vouched(cas, voucher)?.certificates().to_vec();
        let jwt = bundle.jwt.into_iter().collect::<Result<Vec<_>, _>>()?;
        jwt::check(&jwt)?;
        let refresh_hint = match u64::try_from(bundle.refresh_hint) {
            Ok(seconds @ 1..) => Duration::from_secs(seconds).clamp(REFRESH.0, REFRESH.1),
            _ => DEFAULT_REFRESH,
        };
        let trust_domain = bundle.trust_domain;
        Ok(Self { trust_domain, x509, jwt, sequence: bundle.sequence, refresh_hint })
    }

    /// The keys of JWT-SVIDs as a JWK Set.
    #[must_use]
    pub fn jwks(&self) -> String {
        jwt::jwks(&self.jwt)
    }

    /// Validates a JWT-SVID of this trust domain. Returns its SPIFFE ID and its claims.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate_jwt(
        &self,
        token: &str,
        audience: &str,
        now: i64,
    ) -> Result<(String, Map<String, Value>), String> {
        let (id, claims) = jwt::validate(token, &self.trust_domain, &self.jwt, audience, now)?;
        Ok((id.to_string(), claims))
    }
}

/// Verifies the answer for a key, a SubjectPublicKeyInfo. All SVIDs or none.
///
/// # Errors
/// What is wrong with it.
pub fn x509_svids(
    svids: Vec<UnverifiedX509>,
    bundle: &Bundle,
    spki: &[u8],
    now: u64,
) -> Result<Vec<X509Svid>, String> {
    if svids.is_empty() || svids.len() > MAX_SVIDS {
        return Err("no X.509-SVID, or too many".into());
    }
    svids.into_iter().map(|svid| x509_svid(svid, bundle, spki, now)).collect()
}

fn x509_svid(
    svid: UnverifiedX509,
    bundle: &Bundle,
    spki: &[u8],
    now: u64,
) -> Result<X509Svid, String> {
    let spiffe_id = of_domain(&svid.spiffe_id, bundle)?;
    let hint = hint(svid.hint)?;
    let (leaf, above) = match svid.certificates.split_first() {
        Some((leaf, above)) if above.len() < MAX_CHAIN => (leaf, above),
        _ => return Err("an X.509-SVID without certificate, or with too many".into()),
    };
    let der = CertificateDer::from(leaf.as_slice());
    let above: Vec<_> = above.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let leaf = EndEntityCert::try_from(&der).map_err(|error| error.to_string())?;
    let trust = TrustBundle::new(bundle.x509.iter().map(Vec::as_slice))?;
    let anchors = trust.anchors().map_err(|error| error.to_string())?;
    let verified = leaf.verify_for_usage(
        tls::provider().signature_verification_algorithms.all,
        &anchors,
        &above,
        UnixTime::since_unix_epoch(Duration::from_secs(now)),
        KeyUsage::client_auth(),
        None,
        None,
    );
    verified.map_err(|error| format!("an X.509-SVID that peers refuse: {error}"))?;
    if leaf.subject_public_key_info().as_ref() != spki {
        return Err("an X.509-SVID for another key".into());
    }
    let mut names = leaf.valid_uri_names();
    if (names.next(), names.next()) != (Some(spiffe_id.as_str()), None) {
        return Err("an X.509-SVID with another SPIFFE ID than stated".into());
    }
    let validity = super::validity(&der).ok_or("an X.509-SVID without dates")?;
    let certificates = svid.certificates.clone();
    Ok(X509Svid { spiffe_id: spiffe_id.to_string(), hint, certificates, validity })
}

/// Verifies JWT-SVIDs for these audiences: a workload receives only what its peers accept.
///
/// # Errors
/// What is wrong with them.
pub fn jwt_svids(
    svids: Vec<JwtSvid>,
    bundle: &Bundle,
    audiences: &[String],
    now: i64,
) -> Result<Vec<JwtSvid>, String> {
    if svids.is_empty() || svids.len() > MAX_SVIDS {
        return Err("no JWT-SVID, or too many".into());
    }
    let verify = |svid: JwtSvid| {
        let spiffe_id = of_domain(&svid.spiffe_id, bundle)?;
        for audience in audiences {
            let valid =
                jwt::validate(&svid.token, &bundle.trust_domain, &bundle.jwt, audience, now);
            let (subject, _) =
                valid.map_err(|why| format!("a JWT-SVID that peers refuse: {why}"))?;
            if subject != spiffe_id {
                return Err("a JWT-SVID with another SPIFFE ID than stated".to_owned());
            }
        }
        Ok(JwtSvid { hint: hint(svid.hint)?, ..svid })
    };
    svids.into_iter().map(verify).collect()
}

fn of_domain(id: &str, bundle: &Bundle) -> Result<SpiffeId, String> {
    let id: SpiffeId = id.parse().map_err(|error| format!("{error}"))?;
    match id.trust_domain() == bundle.trust_domain {
        true => Ok(id),
        false => Err("an SVID of another trust domain".into()),
    }
}

fn hint(hint: String) -> Result<String, String> {
    match hint.len() <= MAX_HINT && hint.chars().all(is_printable) {
        true => Ok(hint),
        false => Err("a hint that is too long or not printable".into()),
    }
}
