//! The use of an endorsement key: its policy, and the credentials that it opens. EK credential profile §2.2 and annex B.

use super::passwords::Proof;
use super::{EkKind, Passwords};
use crate::client::Tpm;
use crate::commands::{ActivateCredential, PolicyOr, PolicySecret, StartAuthSession};
use crate::crypto::Credential;
use crate::error::{Error, Fault};
use crate::object::Loaded;
use crate::session::{Auth, Encryption};
use crate::template::policy;
use crate::transport::Transport;
use crate::types::{Alg, Digest, Hierarchy, Object, SecretBuf, SessionHandle, SessionType};
use crate::wire::List;

/// Runs the policy of an endorsement key of this kind in a policy session, whose hash is the key's name algorithm:
/// PolicySecret of the endorsement hierarchy, whose use `auth` authorizes, and for the high range the choice of that branch.
///
/// # Errors
/// As [`Tpm::run`].
pub fn satisfy<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &EkKind,
    name_alg: Alg,
    policy_session: SessionHandle,
    auth: Auth<'_>,
) -> Result<(), Error<T::Error>> {
    tpm.run(&PolicySecret::of(Hierarchy::Endorsement, policy_session), [auth])?;
    if !kind.has_user_with_auth() {
        return Ok(());
    }
    let branches: [Digest<'static>; 2] = match name_alg {
        Alg::SHA256 => [(&policy::A_SHA256).into(), (&policy::C_SHA256).into()],
        Alg::SHA384 => [(&policy::A_SHA384).into(), (&policy::C_SHA384).into()],
        _ => [(&policy::A_SHA512).into(), (&policy::C_SHA512).into()],
    };
    tpm.run(&PolicyOr { policy_session, p_hash_list: List::new(&branches) }, []).map(drop)
}

/// Opens a [credential](crate::crypto::Credential) that was made for `object` and an endorsement key of this kind. The
/// secret is encrypted on its way, in a session that is salted to the key. `auth` authorizes the object in the ADMIN role.
///
/// # Errors
/// As [`Tpm::run`]; refused with [`INTEGRITY`](crate::types::ResponseCode::INTEGRITY) if the credential was made for another
/// object or another key.
#[doc(alias = "TPM2_ActivateCredential")]
pub fn activate<T: Transport>(
    tpm: &mut Tpm<T>,
    (kind, ek): (&EkKind, &Loaded),
    object: Object,
    auth: Auth<'_>,
    credential: &Credential,
    passwords: Passwords<'_>,
) -> Result<SecretBuf, Error<T::Error>> {
    let public = ek.public().map_err(Error::of::<StartAuthSession<'_>>)?;
    let salt = ek.salt_key().map_err(Error::of::<StartAuthSession<'_>>)?;
    let plan = salt.new_session(SessionType::POLICY, Encryption::On);
    let plan = plan.map_err(Error::of::<StartAuthSession<'_>>)?;
    tpm.with_session(&plan, |tpm, session| {
        let proof = Proof::prepare(tpm, passwords.endorsement)?;
        satisfy(tpm, kind, public.name_alg, session.handle(), proof.last_auth())?;
        let command = ActivateCredential {
            activate_handle: object,
            key_handle: ek.object(),
            credential_blob: credential.blob(),
            secret: credential.secret(),
        };
        let answer = tpm.run(&command, [auth, session.session().auth(b"")])?;
        let secret = SecretBuf::new(answer.cert_info.octets());
        secret.ok_or_else(|| Error::of::<ActivateCredential<'_>>(Fault::TooLarge))
    })
}
