//! Whether a certificate authority that is trusted vouches for an endorsement certificate.
//! RFC 5280 §6, for identities that are burned into chips.
//!
//! An anchor is trusted as it stands, be it a root or an issuing authority: its own signature and
//! dates say nothing that the operator has not said already. What comes from the agent only helps
//! to find the way to an anchor. Names chain as RFC 5280 §7.1 has it.
//!
//! A path is found by names and dates first; then its signatures are checked, from the anchor down.
//! So an attacker cannot make the verifier compute over forged certificates: a chain that no anchor
//! has signed costs a few checks of the anchors' keys.

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

/// Authorities between the endorsement certificate and the end of the path, the anchor included.
pub const MAX_DEPTH: usize = 8;

/// Intermediates that are looked at; more are refused.
pub const MAX_INTERMEDIATES: usize = 16;

/// CAs that are looked at on the way to an anchor, by name alone. Enough for any chain that vendors
/// have; what a host makes up may have CAs of one name that all seem to have issued each other.
const MAX_STEPS: usize = 128;

/// What an operator decides about chains. The default is strict; chips in the field may need more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainPolicy {
    /// Which dates count.
    pub validity: Validity,
    /// Whether SHA-1 counts.
    pub sha1: Sha1,
    /// Whether an endorsement certificate has to say that it is one.
    pub without_purpose: WithoutPurpose,
}

/// Which dates count. A certificate whose validity has not begun is refused in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// The endorsement certificate may have expired: the key is burned in, and vendors do not renew certificates.
    /// Each intermediate must have been valid when the endorsement certificate was issued.
    AtIssuance,
    /// Everything below the anchor must be valid now.
    #[default]
    Now,
}

/// Whether signatures over SHA-1 are worth anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sha1 {
    /// They are not.
    #[default]
    Refused,
    /// They are: for chips of the first years, if they have to be.
    Accepted,
}

/// What becomes of an endorsement certificate that has neither tcg-kp-EKCertificate in its
/// extKeyUsage nor a subjectAltName that describes a TPM: a CA that issues others too may have
/// issued it for a key in software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutPurpose {
    /// It is refused.
    #[default]
    Refused,
    /// It is accepted: for chips that have such certificates, under CAs that issue no others.
    Accepted,
}

/// The way from an endorsement certificate to its anchor.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    intermediates: Vec<&'a CaCertificate>,
    anchor: &'a CaCertificate,
}

impl<'a> Path<'a> {
    /// The authorities in between, the issuer of the endorsement certificate first.
    #[must_use]
    pub fn intermediates(&self) -> &[&'a CaCertificate] {
        &self.intermediates
    }

    /// The anchor that vouches.
    #[must_use]
    pub fn anchor(&self) -> &'a CaCertificate {
        self.anchor
    }
}

/// Finds a path from the endorsement certificate to an anchor.
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

/// [`verify`], within what may still be computed, and without what was computed before.
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
    if policy.without_purpose == WithoutPurpose::Refused && !leaf.extensions.concerns_a_tpm() {
        return Err(whole(Reason::WithoutPurpose));
    }
    if at < leaf.not_before {
        return Err(whole(Reason::NotYetValid(leaf.not_before)));
    }
    if policy.validity == Validity::Now && at > leaf.not_after {
        return Err(whole(Reason::Expired(leaf.not_after)));
    }
    let mut search = Search {
        intermediates,
        anchors,
        policy,
        when: match policy.validity {
            Validity::AtIssuance => leaf.not_before,
            Validity::Now => at,
        },
        effort,
        known,
        steps_left: MAX_STEPS,
        leaf,
        checked: Vec::new(),
        path: Vec::new(),
        failure: None,
    };
    match search.issuers(leaf) {
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
    /// What to say if nothing is found: the heaviest failure.
    failure: Option<((usize, u8), ChainError)>,
}

impl<'a: 'b, 'b> Search<'a, 'b> {
    /// Completes the path upwards from this certificate, which is the leaf or the path's last.
    fn issuers(&mut self, child: &Certificate) -> Option<&'a CaCertificate> {
        if self.path.len() >= MAX_DEPTH {
            self.fail(child, Reason::TooDeep);
            return None;
        }
        if let Err(reason) = self.algorithm_counts(&child.algorithm) {
            self.fail(child, reason);
            return None;
        }
        let mut named = false;
        for anchor in candidates(self.anchors, child) {
            named = true;
            if self.path_length_allows(anchor) && self.vouches(anchor) {
                return Some(anchor);
            }
        }
        for intermediate in candidates(self.intermediates, child) {
            // A key that is in the path has vouched already; once more it leads nowhere else.
            if self.path.iter().any(|below| below.key() == intermediate.key()) {
                continue;
            }
            named = true;
            let Some(steps_left) = self.steps_left.checked_sub(1) else {
                self.fail(child, Reason::TooManySignatures);
                return None;
            };
            self.steps_left = steps_left;
            // The operator chose the anchors, whatever identifiers they have. A host chose these.
            if key_identifiers(intermediate, child) == KeyIdentifiers::Differ {
                self.fail(child, Reason::KeyIdentifier { issuer: intermediate.subject_text() });
                continue;
            }
            if !self.fits_in_between(intermediate) || !self.path_length_allows(intermediate) {
                continue;
            }
            self.path.push(intermediate);
            if let Some(anchor) = self.issuers(intermediate.certificate()) {
                return Some(anchor);
            }
            self.path.pop();
        }
        if !named {
            self.fail(child, Reason::NoIssuer);
        }
        None
    }

    /// Whether the signatures below this anchor are genuine, down to the leaf.
    fn vouches(&mut self, anchor: &'a CaCertificate) -> bool {
        let path = self.path.clone();
        let mut issuer = anchor;
        for below in path.into_iter().rev() {
            if !self.signed(issuer, below.certificate()) {
                return false;
            }
            issuer = below;
        }
        self.signed(issuer, self.leaf)
    }

    /// Whether this authority, of the right name, signed that certificate.
    fn signed(&mut self, issuer: &'a CaCertificate, child: &'b Certificate) -> bool {
        match self.genuine(issuer, child) {
            Some(true) => return true,
            Some(false) => self.fail(child, Reason::Signature { issuer: issuer.subject_text() }),
            None => self.fail(child, Reason::TooManySignatures),
        }
        false
    }

    /// Whether the signature is genuine; `None` if it may not be checked any more.
    fn genuine(&mut self, issuer: &'a CaCertificate, child: &'b Certificate) -> Option<bool> {
        let checked = self.checked.iter().find(|(key, certificate, _)| {
            *key == issuer.key() && std::ptr::eq::<Certificate>(*certificate, child)
        });
        if let Some((_, _, genuine)) = checked {
            return Some(*genuine);
        }
        // No check can succeed, so that none is made.
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

    /// What binds an intermediate and not an anchor: its dates, and what it may issue for.
    fn fits_in_between(&mut self, ca: &CaCertificate) -> bool {
        let certificate = ca.certificate();
        let purposes = certificate.extensions.purposes;
        let reason = if !(ca.not_before()..=ca.not_after()).contains(&self.when) {
            Reason::IssuerNotValid { when: self.when, rule: self.policy.validity }
        } else if purposes.is_some_and(|purposes| !purposes.ek_certificate && !purposes.any) {
            Reason::Purpose
        } else {
            return true;
        };
        self.fail(certificate, reason);
        false
    }

    /// RFC 5280 §4.2.1.9: authorities below this one, without those that only renew their own key.
    fn path_length_allows(&mut self, ca: &CaCertificate) -> bool {
        let issues_itself = |below: &&&CaCertificate| {
            let Certificate { subject, issuer, .. } = below.certificate();
            subject == issuer
        };
        let renewals = self.path.iter().filter(issues_itself).count();
        let below = self.path.len().saturating_sub(renewals);
        let allowed = ca.path_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if let Some(allowed) = allowed.filter(|&allowed| below > allowed) {
            self.fail(ca.certificate(), Reason::PathLength { allowed, below });
            return false;
        }
        true
    }

    fn algorithm_counts(&self, algorithm: &SignatureAlgorithm) -> Result<(), Reason> {
        match algorithm.hash() {
            None => Err(Reason::Algorithm(algorithm.clone())),
            Some(Hash::Sha1) if self.policy.sha1 == Sha1::Refused => Err(Reason::Sha1),
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

/// Those whose name is the issuer's; those whose key identifier fits too come first.
fn candidates<'a>(list: &'a [CaCertificate], child: &Certificate) -> Vec<&'a CaCertificate> {
    let mut named: Vec<_> =
        list.iter().filter(|ca| ca.certificate().subject == child.issuer).collect();
    named.sort_by_key(|ca| key_identifiers(ca, child));
    named
}

/// How an authority's subjectKeyIdentifier relates to a certificate's authorityKeyIdentifier. The
/// likelier issuer is the lesser one.
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
