//! `seal [TCTI]`: data that a policy gives back: PCR 7 and a PIN, or a signature, or the owner; the whole as approved by a vendor.

use std::error::Error;

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use tpm2::commands::VerifySignature;
use tpm2::crypto::{HashAlg, policy_approval, signed_authorization};
use tpm2::object::{create_primary, load_external};
use tpm2::policy::{Consent, Policy, Responder, SignedRequest, Step};
use tpm2::seal::{seal, unseal_by};
use tpm2::session::{Auth, NewSession};
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::*;
use tpm2::wire::List;
use tpm2::{Fault, Tpm, pcr};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::new(address.parse::<Tcti>()?.open()?))
}

/// The holder of a key outside of the TPM, who signs and approves, and takes one branch.
struct Holder {
    key: SigningKey,
    public: [[u8; 32]; 2],
    signature: [[u8; 32]; 2],
    branch: usize,
}

impl Holder {
    fn public(&self) -> Public<'_> {
        let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
        let Id::Ecc(ecc) = template.id else { return template };
        let unique = EccPoint { x: (&self.public[0]).into(), y: (&self.public[1]).into() };
        let attributes = ObjectAttributes::USER_WITH_AUTH | ObjectAttributes::SIGN;
        Public { attributes, id: Id::Ecc(EccPublic { unique, ..ecc }), ..template }
    }

    fn sign(&mut self, digest: &DigestBuf) -> Result<Signature<'_>, Fault> {
        let signed: Result<p256::ecdsa::Signature, _> = self.key.sign_prehash(digest.octets());
        let (r, s) = signed.map_err(|_| Fault::Unanswered("a signature"))?.split_bytes();
        self.signature = [r.into(), s.into()];
        let [r, s] = &self.signature;
        Ok(Signature::Ecdsa(EccSignature { hash: Alg::SHA256, r: r.into(), s: s.into() }))
    }
}

impl Responder for Holder {
    fn choose(&mut self, _: &[Policy<'_>]) -> usize {
        self.branch
    }

    // cookbook: signed
    fn sign(&mut self, request: &SignedRequest<'_>) -> Result<Consent<'_>, Fault> {
        let nonce = request.nonce_tpm.octets();
        let digest = signed_authorization(HashAlg::Sha256, nonce, 0, b"", b"");
        let (cp_hash_a, signature) = (Digest::EMPTY, Self::sign(self, &digest)?);
        Ok(Consent::Signature { is_for_this_session: true, expiration: 0, cp_hash_a, signature })
    }
    // cookbook: end

    fn approve<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        approved: &DigestBuf,
        _: Name<'_>,
        policy_ref: Nonce<'_>,
    ) -> Result<VerifiedTicketBuf, tpm2::Error<T::Error>> {
        let key = load_external(tpm, &self.public(), None, Hierarchy::Owner)?.object();
        let digest = policy_approval(HashAlg::Sha256, approved.into(), policy_ref.octets());
        let fail = |fault| tpm2::Error::new(CommandCode(0x177), fault);
        let signature = Self::sign(self, &digest).map_err(fail)?;
        let verify = VerifySignature { key_handle: key, digest: (&digest).into(), signature };
        let ticket = tpm.run(&verify, [])?.validation.into();
        tpm.flush(key.handle())?;
        Ok(ticket)
    }
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let (empty, owner) = (SensitiveCreate::EMPTY, Hierarchy::Owner);
    let key = SigningKey::from_slice(&[7; 32])?;
    let point = key.verifying_key().to_sec1_point(false);
    let coordinate = |at| point.as_bytes().get(at..).and_then(<[u8]>::first_chunk).copied();
    let public = [coordinate(1).ok_or("x")?, coordinate(33).ok_or("y")?];
    let mut holder = Holder { key, public, signature: [[0; 32]; 2], branch: 0 };
    let signer = load_external(tpm, &holder.public(), None, owner)?;
    let (srk, _) = create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, empty)?;

    let selected = PcrBits::of(&[7]).ok_or("a PCR")?;
    let pcrs = [selected.bank(Alg::SHA256)];
    let now = pcr::digest(tpm, HashAlg::Sha256, &pcrs)?;
    // cookbook: or
    let by_pin = [Step::Pcr { pcrs: List::new(&pcrs), digest: (&now).into() }, Step::AuthValue];
    let policy_ref = Nonce::EMPTY;
    let by_signature = [Step::Signed { key: signer.object(), policy_ref }];
    let by_owner = [Step::Secret { entity: owner.into(), policy_ref }];
    let ways = [&by_pin[..], &by_signature, &by_owner].map(Policy::new);
    let approved = Step::Authorize { key: signer.name().into(), policy_ref };
    let steps = [Step::Or(&ways), approved];
    let policy = Policy::new(&steps);

    let digest = policy.digest(HashAlg::Sha256)?;
    let sealed = seal(tpm, &srk, Auth::EMPTY, b"secret", &digest, b"PIN")?;
    for branch in 0..ways.len() {
        holder.branch = branch;
        let session = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
        policy.run_with(tpm, &session, &mut holder)?;
        let data = unseal_by(tpm, &srk, Auth::EMPTY, &sealed, session.last_auth(b"PIN"))?;
        if *data != b"secret" {
            return Err("other data".into());
        }
    }
    // cookbook: end
    Ok(tpm.flush_all()?)
}
