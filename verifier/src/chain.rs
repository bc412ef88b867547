//! Verifies an EK certificate up to a trusted CA, as in RFC 5280 §6, with policies for certificates that cannot be renewed.
//!
//! An anchor is trusted because the operator listed it, whether it is a root or an issuing CA: its own signature
//! and dates are not checked. Certificates from the agent only help to find a path to an anchor. Names are
//! compared as RFC 5280 §7.1 says.
//!
//! A path is found by names and dates first; then its signatures are checked, from the anchor down.
//! So an attacker cannot make the verifier compute over forged certificates: a chain that no anchor
//! has signed costs a few checks of the anchors' keys.
//!
//! ```no_run
//! use std::time::{SystemTime, UNIX_EPOCH};
//! use verifier::chain::{self, ChainPolicy};
//! use verifier::{CaCertificate, EkCertificate, UnixTime};
//!
//! let ek = EkCertificate::from_nv(&std::fs::read("ek.nv")?)?;
//! let anchors = CaCertificate::from_pem(&std::fs::read_to_string("vendor-roots.pem")?)?;
//! let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
//! let now = UnixTime::from_seconds(i64::try_from(seconds)?);
//! let path = chain::verify(&ek, &[], &anchors, now, ChainPolicy::default())?;
//! println!("{} vouches for {:?}", path.anchor().subject_text(), ek.tpm());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;

use error::Subject;
pub use error::{ChainError, Reason};

use crate::ca::CaCertificate;
use crate::effort::{Effort, KnownSignatures};
use crate::ek::EkCertificate;
use crate::key::PublicKey;
use crate::signature::{Hash, SignatureAlgorithm};
use crate::time::UnixTime;
use crate::x509::Certificate;

/// CAs above the EK certificate in a path, the anchor included.
pub const MAX_DEPTH: usize = 8;

/// Maximum number of intermediates; claims with more are refused.
pub const MAX_INTERMEDIATES: usize = 16;

/// Maximum number of intermediates that one search tries; they are found by name. Enough for the chains of all vendors; a
/// hostile host can send CAs of one name that form cycles.
const MAX_STEPS: usize = 128;

/// The operator's policy for chains. The default is strict; some existing TPMs need a more lenient one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainPolicy {
    /// When certificates must be valid.
    pub dates: DatePolicy,
    /// Whether SHA-1 is accepted.
    pub sha1: Sha1Policy,
    /// Whether an EK certificate must be marked as one.
    pub purpose: PurposePolicy,
}

/// When certificates must be valid. An EK certificate or intermediate whose validity has not begun is refused in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatePolicy {
    /// The EK certificate may have expired: the key is burned in, and vendors do not renew certificates.
    /// Each intermediate must have been valid when the EK certificate was issued.
    AtIssuance,
    /// Everything below the anchor must be valid now.
    #[default]
    Now,
}

/// Whether signatures over SHA-1 are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sha1Policy {
    /// Refuse them.
    #[default]
    Refused,
    /// Accept them: TPMs of the first years have no others.
    Accepted,
}

/// Whether to accept an EK certificate that has neither tcg-kp-EKCertificate in its
/// extKeyUsage nor a subjectAltName that describes a TPM: a CA that issues others too may have
/// issued it for a key in software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PurposePolicy {
    /// It is refused.
    #[default]
    Refused,
    /// It is accepted: for chips that have such certificates, under CAs that issue no others.
    Accepted,
}

/// The path from an EK certificate to its anchor.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    intermediates: Vec<&'a CaCertificate>,
    anchor: &'a CaCertificate,
}

impl<'a> Path<'a> {
    /// The CAs in between, the issuer of the EK certificate first.
    #[must_use]
    pub fn intermediates(&self) -> &[&'a CaCertificate] {
        &self.intermediates
    }

    /// The anchor.
    #[must_use]
    pub fn anchor(&self) -> &'a CaCertificate {
        self.anchor
    }
}

/// Finds a path from the EK certificate to an anchor.
pub fn verify<'a>(
    ek: &EkCertificate,
    intermediates: &'a [CaCertificate],
    anchors: &'a [CaCertificate],
    at: UnixTime,
    policy: ChainPolicy,
) -> Result<Path<'a>, ChainError> {
    let (mut effort, known) = (Effort::default(), KnownSignatures::default());
    verify_within(&mut effort, &known, ek, intermediates, anchors, at, policy)
}

/// [`verify`] with a budget, and without checking known signatures again.
pub(crate) fn verify_within<'a>(
    effort: &mut Effort,
    known: &KnownSignatures,
    ek: &EkCertificate,
    intermediates: &'a [CaCertificate],
    anchors: &'a [CaCertificate],
    at: UnixTime,
    policy: ChainPolicy,
) -> Result<Path<'a>, ChainError> {
    let leaf = ek.certificate();
    let whole = |reason| ChainError { certificate: Subject::of(leaf), reason };
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(whole(Reason::TooManyIntermediates(intermediates.len())));
    }
    if policy.purpose == PurposePolicy::Refused && !leaf.extensions.concerns_a_tpm() {
        return Err(whole(Reason::PurposePolicy));
    }
    if at < leaf.not_before {
        return Err(whole(Reason::NotYetValid(leaf.not_before)));
    }
    if policy.dates == DatePolicy::Now && at > leaf.not_after {
        return Err(whole(Reason::Expired(leaf.not_after)));
    }
    let mut search = Search {
        intermediates,
        anchors,
        policy,
        when: match policy.dates {
            DatePolicy::AtIssuance => leaf.not_before,
            DatePolicy::Now => at,
        },
        effort,
        known,
        steps_left: MAX_STEPS,
        leaf,
        checked: Vec::new(),
        path: Vec::new(),
        failure: None,
    };
    match search.find_anchor(leaf) {
        Some(anchor) => Ok(Path { intermediates: search.path, anchor }),
        None => Err(search.failure.map_or_else(|| whole(Reason::NoIssuer), |(_, error)| error)),
    }
}

/// A search in depth, over at most [`MAX_DEPTH`] levels.
struct Search<'a, 'b> {
    intermediates: &'a [CaCertificate],
    anchors: &'a [CaCertificate],
    policy: ChainPolicy,
    when: UnixTime,
    effort: &'b mut Effort,
    known: &'b KnownSignatures,
    steps_left: usize,
    leaf: &'b Certificate,
    /// Signatures of this search: by this key, of this certificate, genuine or not.
    checked: Vec<(&'a PublicKey, &'b Certificate, bool)>,
    path: Vec<&'a CaCertificate>,
    /// The most informative failure so far, which is reported if no path is found.
    failure: Option<((usize, u8), ChainError)>,
}

impl<'a: 'b, 'b> Search<'a, 'b> {
    /// Completes the path upwards from this certificate, which is the leaf or the path's last.
    fn find_anchor(&mut self, child: &Certificate) -> Option<&'a CaCertificate> {
        if self.path.len() >= MAX_DEPTH {
            self.fail(child, Reason::TooDeep);
            return None;
        }
        if let Err(reason) = self.check_algorithm(&child.algorithm) {
            self.fail(child, reason);
            return None;
        }
        let mut issuer_found = false;
        for anchor in candidates(self.anchors, child) {
            issuer_found = true;
            if self.path_length_allows(anchor) && self.verify_path(anchor) {
                return Some(anchor);
            }
        }
        for intermediate in candidates(self.intermediates, child) {
            // A key that is in the path already cannot lead to another path.
            if self.path.iter().any(|below| below.key() == intermediate.key()) {
                continue;
            }
            issuer_found = true;
            let Some(steps_left) = self.steps_left.checked_sub(1) else {
                self.fail(child, Reason::SearchLimit);
                return None;
            };
            self.steps_left = steps_left;
            // An anchor may have another identifier, since the operator chose it; these came from a host.
            if key_identifiers(intermediate, child) == KeyIdentifiers::Differ {
                self.fail(child, Reason::KeyIdentifier { issuer: intermediate.subject_text() });
                continue;
            }
            if !self.check_intermediate(intermediate) || !self.path_length_allows(intermediate) {
                continue;
            }
            self.path.push(intermediate);
            if let Some(anchor) = self.find_anchor(intermediate.certificate()) {
                return Some(anchor);
            }
            self.path.pop();
        }
        if !issuer_found {
            self.fail(child, Reason::NoIssuer);
        }
        None
    }

    /// Whether the signatures below this anchor are genuine, down to the leaf.
    fn verify_path(&mut self, anchor: &'a CaCertificate) -> bool {
        let path = self.path.clone();
        let mut issuer = anchor;
        for below in path.into_iter().rev() {
            if !self.require_signature(issuer, below.certificate()) {
                return false;
            }
            issuer = below;
        }
        self.require_signature(issuer, self.leaf)
    }

    /// Whether this CA, which has the issuer's name, signed that certificate; if not, notes the failure.
    fn require_signature(&mut self, issuer: &'a CaCertificate, child: &'b Certificate) -> bool {
        match self.check_signature(issuer, child) {
            Some(true) => return true,
            Some(false) => self.fail(child, Reason::Signature { issuer: issuer.subject_text() }),
            None => self.fail(child, Reason::SearchLimit),
        }
        false
    }

    /// Whether the signature is genuine, checked once; `None` if the budget is spent.
    fn check_signature(
        &mut self,
        issuer: &'a CaCertificate,
        child: &'b Certificate,
    ) -> Option<bool> {
        let checked = self.checked.iter().find(|(key, certificate, _)| {
            *key == issuer.key() && std::ptr::eq::<Certificate>(*certificate, child)
        });
        if let Some((_, _, genuine)) = checked {
            return Some(*genuine);
        }
        // The key is of another kind than the signature, so no check is needed.
        if !child.algorithm.is_made_by(issuer.key()) {
            return Some(false);
        }
        if self.known.contains(issuer, child) {
            return Some(true);
        }
        let genuine = self.effort.check(issuer.key(), || issuer.signed(child).is_ok())?;
        if genuine {
            self.known.insert(issuer, child);
        }
        self.checked.push((issuer.key(), child, genuine));
        Some(genuine)
    }

    /// Checks that apply to intermediates and not to anchors: dates, and what it may issue for.
    fn check_intermediate(&mut self, ca: &CaCertificate) -> bool {
        let certificate = ca.certificate();
        let purposes = certificate.extensions.purposes;
        let reason = if !(ca.not_before()..=ca.not_after()).contains(&self.when) {
            Reason::IssuerNotValid { when: self.when, rule: self.policy.dates }
        } else if purposes.is_some_and(|purposes| !purposes.ek_certificate && !purposes.any) {
            Reason::Purpose
        } else {
            return true;
        };
        self.fail(certificate, reason);
        false
    }

    /// RFC 5280 §4.2.1.9: the CAs below this one are counted, except self-issued ones.
    fn path_length_allows(&mut self, ca: &CaCertificate) -> bool {
        let issues_itself = |below: &&&CaCertificate| {
            let Certificate { subject, issuer, .. } = below.certificate();
            subject == issuer
        };
        let self_issued = self.path.iter().filter(issues_itself).count();
        let below = self.path.len().saturating_sub(self_issued);
        let allowed = ca.path_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if let Some(allowed) = allowed.filter(|&allowed| below > allowed) {
            self.fail(ca.certificate(), Reason::PathLength { allowed, below });
            return false;
        }
        true
    }

    fn check_algorithm(&self, algorithm: &SignatureAlgorithm) -> Result<(), Reason> {
        match algorithm.hash() {
            None => Err(Reason::Algorithm(algorithm.clone())),
            Some(Hash::Sha1) if self.policy.sha1 == Sha1Policy::Refused => Err(Reason::Sha1),
            Some(_) => Ok(()),
        }
    }

    fn fail(&mut self, certificate: &Certificate, reason: Reason) {
        let weight = reason.weight(self.path.len());
        if self.failure.as_ref().is_none_or(|(heaviest, _)| weight > *heaviest) {
            let certificate = Subject::of(certificate);
            self.failure = Some((weight, ChainError { certificate, reason }));
        }
    }
}

/// The CAs that have the issuer's name; those whose key identifier matches too come first.
fn candidates<'a>(list: &'a [CaCertificate], child: &Certificate) -> Vec<&'a CaCertificate> {
    let mut issuer_found: Vec<_> =
        list.iter().filter(|ca| ca.certificate().subject == child.issuer).collect();
    issuer_found.sort_by_key(|ca| key_identifiers(ca, child));
    issuer_found
}

/// How a CA's subjectKeyIdentifier relates to a certificate's authorityKeyIdentifier, in the order of
/// likelihood that the CA is the issuer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum KeyIdentifiers {
    Equal,
    /// One of them has none.
    Unknown,
    Differ,
}

fn key_identifiers(ca: &CaCertificate, child: &Certificate) -> KeyIdentifiers {
    let subject = ca.certificate().extensions.subject_key_id.as_deref();
    match (subject, child.extensions.authority_key_id.as_deref()) {
        (Some(subject), Some(wanted)) if subject == wanted => KeyIdentifiers::Equal,
        (Some(_), Some(_)) => KeyIdentifiers::Differ,
        _ => KeyIdentifiers::Unknown,
    }
}
