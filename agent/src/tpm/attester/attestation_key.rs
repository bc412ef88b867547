//! The attestation key of a join by Teleport's protocols. It is created for this join, and certifies its own creation.

use host::exit::{Exit, Failure};
use serde::{Deserialize, Serialize};
use tpm2::commands::{CertifyCreation, CreatePrimary};
use tpm2::crypto::object_name;
use tpm2::session::Auth;
use tpm2::template::{AK_P256, AK_RSA2048};
use tpm2::transport::Transport;
use tpm2::types::{
    AsymScheme, CommandCode, Data, DigestBuf, EccParameter, EccPoint, Hierarchy, Id, NameBuf,
    Object, Public, PublicKeyRsa, SensitiveCreate, TicketBuf,
};
use tpm2::wire::{List, Marshal, TooLarge, Tpm2b, Writer};
use tpm2::{Fault, Tpm};
use verifier::{Attestation, AttestationKey as AppraisedKey};

use super::guard::Guard;

/// The algorithm of an attestation key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AkAlgorithm {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// RSASSA of 2048 bits, for servers that take no other. Some chips create it in half a minute.
    Rsa2048,
}

impl AkAlgorithm {
    /// The template of a key that is only this join's: each `unique` gives another key.
    fn template(self, unique: &[u8; 256]) -> Public<'_> {
        let mut public: Public<'_> = match self {
            Self::P256 => AK_P256,
            Self::Rsa2048 => AK_RSA2048,
        };
        match &mut public.id {
            Id::Ecc(ecc) => {
                let (x, _) = unique.split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
                ecc.unique = EccPoint { x: EccParameter::from(x), y: EccParameter::from(&[0; 32]) };
            }
            Id::Rsa(rsa) => rsa.unique = PublicKeyRsa::from(unique),
            _ => {}
        }
        public
    }
}

/// An attestation key in the TPM, with the evidence of its creation there.
#[derive(Clone, Debug)]
pub struct AttestationKey {
    object: Object,
    evidence: AkEvidence,
}

/// What shows that a TPM created a restricted key. Which TPM, the activation of a credential shows.
#[derive(Clone, Debug)]
pub struct AkEvidence {
    /// The key, TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPMS_CREATION_DATA.
    pub creation_data: Vec<u8>,
    /// The key's statement about its creation, TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// A key as the TPM created it.
struct CreatedKey {
    object: Object,
    public: Vec<u8>,
    data: Vec<u8>,
    hash: DigestBuf,
    ticket: TicketBuf,
}

impl AttestationKey {
    /// Creates a key under the protection of a session that is salted to the EK: two commands.
    pub(super) fn create<T: Transport>(
        tpm: &mut Tpm<T>,
        algorithm: AkAlgorithm,
        unique: &[u8; 256],
        guard: &mut Guard,
    ) -> Result<Self, tpm2::Error<T::Error>> {
        let CreatedKey { object, public, data, hash, ticket } =
            create(tpm, algorithm, unique, guard)?;
        let certify = CertifyCreation {
            sign_handle: Some(object),
            object_handle: object,
            qualifying_data: Data::EMPTY,
            creation_hash: (&hash).into(),
            in_scheme: AsymScheme::Null,
            creation_ticket: (&ticket).into(),
        };
        let certified = tpm.secured(guard.session()).run(&certify, [Auth::EMPTY])?;
        let evidence = AkEvidence {
            public,
            creation_data: data,
            attest: certified.certify_info.octets().to_vec(),
            signature: marshalled(&certified.signature)
                .map_err(|error| tpm2::Error::new(CommandCode::CERTIFY_CREATION, error.into()))?,
        };
        Ok(Self { object, evidence })
    }

    /// The key as an entity.
    pub(super) const fn object(&self) -> Object {
        self.object
    }

    /// The evidence of its creation.
    #[must_use]
    pub const fn evidence(&self) -> &AkEvidence {
        &self.evidence
    }
}

impl AkEvidence {
    /// Checks the evidence as a server does. Evidence that is wrong is not sent: faulty signatures can reveal the key.
    ///
    /// # Errors
    /// [`Exit::Data`]: the TPM is faulty, or what is between.
    pub fn check(&self) -> Result<(), Failure> {
        let checked = AppraisedKey::appraise(&self.public)
            .map_err(|error| error.to_string())
            .and_then(|key| {
                let attestation = Attestation { attest: &self.attest, signature: &self.signature };
                key.created(attestation, &[], &self.public, &self.creation_data)
                    .map(drop)
                    .map_err(|error| error.to_string())
            });
        checked.map_err(|error| {
            Failure::new(
                Exit::Data,
                format!("the TPM's statement about its attestation key does not verify: {error}"),
                "check the TPM, its driver and its bus: one of them is faulty, or an attacker \
                 modifies the bus",
            )
        })
    }
}

fn create<T: Transport>(
    tpm: &mut Tpm<T>,
    algorithm: AkAlgorithm,
    unique: &[u8; 256],
    guard: &mut Guard,
) -> Result<CreatedKey, tpm2::Error<T::Error>> {
    let command = CreatePrimary {
        primary_handle: Hierarchy::Endorsement,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(algorithm.template(unique)),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    };
    let answer = guard.create_primary(tpm, &command)?;
    let fail = |fault: Fault| tpm2::Error::new(CommandCode::CREATE_PRIMARY, fault);
    let name: NameBuf = object_name(&answer.out_public.0).map_err(|error| fail(error.into()))?;
    Ok(CreatedKey {
        object: answer.object_handle.named(name),
        public: marshalled(&answer.out_public.0).map_err(|error| fail(error.into()))?,
        data: marshalled(&answer.creation_data.0).map_err(|error| fail(error.into()))?,
        hash: answer.creation_hash.into(),
        ticket: answer.creation_ticket.into(),
    })
}

fn marshalled<M: Marshal>(value: &M) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = [0; 1024];
    let mut writer = Writer::new(&mut bytes);
    value.marshal(&mut writer)?;
    Ok(writer.into_written().to_vec())
}
