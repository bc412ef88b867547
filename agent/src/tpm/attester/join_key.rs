//! The key that a host joins with.

use std::io;

use host::exit::{Exit, Failure};
use tpm2::commands::{CreatePrimary, CreatePrimaryResponse, Sign};
use tpm2::crypto::object_name;
use tpm2::endorsement::ephemeral_session;
use tpm2::session::Auth;
use tpm2::transport::Transport;
use tpm2::types::{CommandCode, Data, Hierarchy, Object, SensitiveCreate, Signature};
use tpm2::wire::{List, Malformed, Marshal, Tpm2b, Why, Writer};
use tpm2::{Fault, Tpm};

use super::guard::{self, Guard};
use super::{KeysToMake, KnownEk};
use crate::tpm::failure;
use crate::tpm::passwords::Passwords;

/// What is stored of a join key: what makes it again, and what the TPM must have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownJoinKey {
    /// The unique field of its template.
    pub unique: [u8; 32],
    /// The key, TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// A join key in the TPM.
#[derive(Clone, Debug)]
pub struct JoinKey {
    object: Object,
    known: KnownJoinKey,
}

impl JoinKey {
    /// Makes a join key again, outside of a join: without a session, since its public area is known.
    ///
    /// # Errors
    /// The TPM's; [`Exit::Data`] if it made another key: it was cleared or replaced.
    pub fn load<T: Transport>(tpm: &mut Tpm<T>, known: &KnownJoinKey) -> Result<Self, Failure> {
        let key = create(tpm, &known.unique, Auth::EMPTY);
        key.map_err(|error| Passwords::default().explain(error))?.expect(known)
    }

    /// The same where the endorsement hierarchy has a password, which is proven in a session: one command more if it can
    /// be salted to `ek`, because that is persistent.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_by_password<T: Transport>(
        tpm: &mut Tpm<T>,
        known: &KnownJoinKey,
        ek: &KnownEk,
        passwords: &Passwords,
    ) -> Result<Self, Failure> {
        if let Some(entered) =
            guard::enter_resident(tpm, ek, KeysToMake::only(&known.unique), passwords)?
        {
            return entered.join_key.expect(known);
        }
        let session = ephemeral_session(tpm).map_err(failure::command)?;
        let auth = session.last_auth(passwords.endorsement().expose());
        let key = create(tpm, &known.unique, auth).map_err(|error| passwords.explain(error))?;
        key.expect(known)
    }

    fn expect(self, known: &KnownJoinKey) -> Result<Self, Failure> {
        self.check(known)?;
        Ok(self)
    }

    /// Checks that it is the key of a stored identity.
    ///
    /// # Errors
    /// [`Exit::Data`]: it is another one.
    pub fn check(&self, known: &KnownJoinKey) -> Result<(), Failure> {
        if self.known.public == known.public {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Data,
            "this TPM created a different join key than the stored identity's",
            "join again if the TPM was replaced; otherwise the identity belongs to another machine",
        ))
    }

    /// Makes a join key under the protection of a session that is salted to the EK.
    pub(super) fn guarded<T: Transport>(
        tpm: &mut Tpm<T>,
        unique: &[u8; 32],
        guard: &mut Guard,
    ) -> Result<Self, tpm2::Error<T::Error>> {
        let command = create_primary(unique);
        Self::read(unique, &guard.create_primary(tpm, &command)?)
    }

    fn read<E>(
        unique: &[u8; 32],
        answer: &CreatePrimaryResponse<'_>,
    ) -> Result<Self, tpm2::Error<E>> {
        let code = CommandCode::CREATE_PRIMARY;
        let fail = |fault: Fault| tpm2::Error::new(code, fault);
        let public = &answer.out_public.0;
        let name = object_name(public).map_err(|error| fail(error.into()))?;
        let mut bytes = [0; 1024];
        let mut writer = Writer::new(&mut bytes);
        public.marshal(&mut writer).map_err(|too_large| fail(too_large.into()))?;
        let object = answer.object_handle.named(name);
        let public = writer.into_written().to_vec();
        Ok(Self { object, known: KnownJoinKey { unique: *unique, public } })
    }

    /// The key as an entity.
    pub(super) const fn object(&self) -> Object {
        self.object
    }

    /// The public area, a `TPMT_PUBLIC`.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.known.public
    }

    /// What to store of it.
    #[must_use]
    pub const fn known(&self) -> &KnownJoinKey {
        &self.known
    }

    /// Signs a SHA-256 digest: r and s, 32 bytes each.
    ///
    /// # Errors
    /// The TPM's.
    pub fn sign<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        digest: &[u8; 32],
    ) -> Result<[[u8; 32]; 2], Failure> {
        let command = Sign::digest(self.object, digest.into());
        let answer = tpm.run(&command, [Auth::EMPTY]).map_err(failure::command)?;
        let Signature::Ecdsa(signature) = answer.signature else {
            return Err(malformed("Signature", Why::Selector));
        };
        let padded = |bytes: &[u8]| {
            let mut padded = [0; 32];
            let missing = padded.len().checked_sub(bytes.len());
            let place = missing.and_then(|missing| padded.get_mut(missing..));
            place.ok_or_else(|| malformed("EccSignature", Why::TooLong))?.copy_from_slice(bytes);
            Ok::<_, Failure>(padded)
        };
        Ok([padded(signature.r.octets())?, padded(signature.s.octets())?])
    }
}

fn create<T: Transport>(
    tpm: &mut Tpm<T>,
    unique: &[u8; 32],
    auth: Auth<'_>,
) -> Result<JoinKey, tpm2::Error<T::Error>> {
    JoinKey::read(unique, &tpm.run(&create_primary(unique), [auth])?)
}

fn create_primary(unique: &[u8; 32]) -> CreatePrimary<'_> {
    CreatePrimary {
        primary_handle: Hierarchy::Endorsement,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(verifier::JoinKey::template(unique)),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    }
}

fn malformed(what: &'static str, why: Why) -> Failure {
    let code = CommandCode::SIGN;
    let fault = Fault::Malformed(Malformed::new(why, 0).named(what));
    failure::command::<io::Error>(tpm2::Error::new(code, fault))
}
