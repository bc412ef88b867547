//! Answers that are there before a policy runs.

use super::{Consent, Policy, Responder, SignedRequest};
use crate::client::Tpm;
use crate::commands::{PolicyAuthorize, VerifySignature};
use crate::crypto::{HashAlg, policy_approval};
use crate::error::{Error, Fault};
use crate::session::Auth;
use crate::transport::Transport;
use crate::types::{
    Alg, AnyEntity, Digest, DigestBuf, Name, Nonce, Object, Signature, VerifiedTicketBuf,
};

/// A responder with answers that are known before the policy runs: a password, branches, a signature, an approval. What it
/// does not have is as of [`Unaided`](super::Unaided).
///
/// ```no_run
/// # use tpm2::{Tpm, transport::Transport};
/// # use tpm2::policy::{Consent, Policy, Prepared};
/// # use tpm2::{session::Session, types::Signature};
/// # fn example<T: Transport>(
/// #     tpm: &mut Tpm<T>, policy: &Policy<'_>, session: &Session, signature: Signature<'_>,
/// # ) -> Result<(), tpm2::Error<T::Error>> {
/// let mut answers = Prepared::new().branches(&[1]).consent(Consent::for_session(signature));
/// policy.run_with(tpm, session, &mut answers)
/// # }
/// ```
#[derive(Clone, Copy, Default)]
pub struct Prepared<'p> {
    password: &'p [u8],
    branches: &'p [usize],
    consent: Option<Consent<'p>>,
    approval: Option<(Object, Signature<'p>)>,
}

impl<'p> Prepared<'p> {
    /// No answers.
    #[must_use]
    pub const fn new() -> Self {
        Self { password: b"", branches: &[], consent: None, approval: None }
    }

    /// The password of every entity whose secret is asked for. Anyone on the bus can read it; a [`Responder`] of your own
    /// authorizes by sessions.
    #[must_use]
    pub const fn password(self, password: &'p [u8]) -> Self {
        Self { password, ..self }
    }

    /// The branches to take, by number, in the order in which the policy comes to its [`Step::Or`](super::Step::Or). When
    /// there are no more, the first is taken.
    #[must_use]
    pub const fn branches(self, branches: &'p [usize]) -> Self {
        Self { branches, ..self }
    }

    /// The agreement of the holder of a key, for [`Step::Signed`](super::Step::Signed).
    #[must_use]
    pub const fn consent(self, consent: Consent<'p>) -> Self {
        Self { consent: Some(consent), ..self }
    }

    /// A signature over [`policy_approval`] by a key that is loaded, for [`Step::Authorize`](super::Step::Authorize).
    #[must_use]
    pub const fn approval(self, key: Object, signature: Signature<'p>) -> Self {
        Self { approval: Some((key, signature)), ..self }
    }
}

impl Responder for Prepared<'_> {
    fn authorize(&mut self, _: &AnyEntity) -> Auth<'_> {
        Auth::password(self.password)
    }

    fn choose(&mut self, _: &[Policy<'_>]) -> usize {
        let Some((branch, later)) = self.branches.split_first() else { return 0 };
        self.branches = later;
        *branch
    }

    fn sign(&mut self, _: &SignedRequest<'_>) -> Result<Consent<'_>, Fault> {
        self.consent.ok_or(Fault::Unanswered("a signature"))
    }

    fn approve<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        approved: &DigestBuf,
        key: Name<'_>,
        policy_ref: Nonce<'_>,
    ) -> Result<VerifiedTicketBuf, Error<T::Error>> {
        let fail = Error::of::<PolicyAuthorize<'_>>;
        let missing = || fail(Fault::Unanswered("an approval"));
        let (key_handle, signature) = self.approval.ok_or_else(missing)?;
        let name_alg = key.octets().first_chunk().copied().map(u16::from_be_bytes);
        let hash = HashAlg::try_from(name_alg.map_or(Alg::NULL, Alg));
        let hash = hash.map_err(|unknown| fail(unknown.into()))?;
        let digest = policy_approval(hash, approved.into(), policy_ref.octets());
        let verify = VerifySignature { key_handle, digest: (&digest).into(), signature };
        Ok(tpm.run(&verify, [])?.validation.into())
    }
}

/// Without the password.
impl core::fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut shown = f.debug_struct("Prepared");
        shown.field("branches", &self.branches).field("consent", &self.consent);
        shown.field("approval", &self.approval).finish_non_exhaustive()
    }
}

impl<'c> Consent<'c> {
    /// A signature over [`signed_authorization`](crate::crypto::signed_authorization) with the nonce of the session: good for
    /// this session, for every command, without an end.
    #[must_use]
    pub const fn for_session(signature: Signature<'c>) -> Self {
        let cp_hash_a = Digest::EMPTY;
        Self::Signature { is_for_this_session: true, expiration: 0, cp_hash_a, signature }
    }
}
