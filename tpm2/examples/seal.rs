//! `seal [TCTI]`: data that a policy gives back: PCR 7 and a PIN, or a signature, or an NV index, or the owner; the whole as
//! approved by the holder of a key.

use std::error::Error;

use tpm2::commands::Sign;
use tpm2::crypto::{HashAlg, policy_approval, signed_authorization};
use tpm2::nv::{Access, By, Index};
use tpm2::object::create_primary;
use tpm2::policy::{Consent, Policy, Prepared, Step};
use tpm2::seal::{seal, unseal_by};
use tpm2::session::{Auth, NewSession};
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::*;
use tpm2::wire::{List, Marshal as _, Unmarshal as _};
use tpm2::{Tpm, pcr};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let (empty, owner, policy_ref) = (SensitiveCreate::EMPTY, Hierarchy::Owner, Nonce::EMPTY);
    let (srk, _) = create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, empty)?;
    // Its holder may be anywhere; here it is in the same TPM.
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let (signer, _) = create_primary(tpm, owner, Auth::EMPTY, &template, empty)?;
    let sign = |tpm: &mut Tpm<T>, digest: DigestBuf| -> Result<Vec<u8>, Box<dyn Error>> {
        let sign = Sign::digest(signer.object(), (&digest).into());
        Ok(tpm.run(&sign, [Auth::EMPTY])?.signature.to_vec()?)
    };
    let (index, name_alg, auth_policy) = (Handle(0x0150_0012), Alg::SHA256, Digest::EMPTY);
    let attributes = NvAttributes::AUTHREAD | NvAttributes::AUTHWRITE | NvAttributes::NO_DA;
    let public = NvPublic { index, name_alg, attributes, auth_policy, data_size: 1 };
    let mut index = Index::define(tpm, Provision::Owner, Auth::EMPTY, &public, AuthValue::EMPTY)?;
    index.write(tpm, &mut Access::by_password(By::Index, b""), &[1])?;

    // cookbook: or
    let selected = PcrBits::of(&[7]).ok_or("no such PCR")?;
    let pcrs = [selected.bank(Alg::SHA256)];
    let now = pcr::digest(tpm, HashAlg::Sha256, &pcrs)?;
    let by_pin = [Step::Pcr { pcrs: List::new(&pcrs), digest: (&now).into() }, Step::AuthValue];
    let by_signature = [Step::Signed { key: signer.object(), policy_ref }];
    let by_index = [Step::Nv {
        by: NvAuth::Index(index.entity()),
        index: index.entity(),
        operand: Digest::from(&[1]),
        offset: 0,
        operation: Comparison::EQ,
    }];
    let by_owner = [Step::Secret { entity: owner.into(), policy_ref }];
    let ways = [&by_pin[..], &by_signature, &by_index, &by_owner].map(Policy::new);
    let steps = [Step::Or(&ways), Step::Authorize { key: signer.name().into(), policy_ref }];
    let policy = Policy::new(&steps);
    // cookbook: end
    let approved = Policy::new(&steps[..1]).digest(HashAlg::Sha256)?;
    let approval = sign(tpm, policy_approval(HashAlg::Sha256, approved.digest(), b""))?;

    let digest = policy.digest(HashAlg::Sha256)?;
    let sealed = seal(tpm, &srk, Auth::EMPTY, b"secret", &digest, b"PIN")?;

    // cookbook: answers
    let open = |tpm: &mut Tpm<T>, branch, other_nonce: Option<&[u8]>, pin: &[u8]| {
        let session = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
        let nonce = other_nonce.unwrap_or(session.nonce_tpm().octets());
        let consent = sign(tpm, signed_authorization(HashAlg::Sha256, nonce, 0, b"", b""))?;
        let consent = Consent::for_session(Signature::from_bytes(&consent)?);
        let approval = Signature::from_bytes(&approval)?;
        let answers = Prepared::new().consent(consent).approval(signer.object(), approval);
        policy.run_with(tpm, &session, &mut answers.branches(&[branch]))?;
        Ok::<_, Box<dyn Error>>(unseal_by(tpm, &srk, Auth::EMPTY, &sealed, session.last_auth(pin))?)
    };
    // cookbook: end
    for branch in 0..ways.len() {
        assert_eq!(open(tpm, branch, None, b"PIN")?.expose(), b"secret");
    }
    let refusal = |refused: Result<_, Box<dyn Error>>| {
        refused.err()?.downcast_ref::<tpm2::Error<T::Error>>()?.refusal()
    };
    assert_eq!(refusal(open(tpm, 0, None, b"PIX")), Some(ResponseCode::AUTH_FAIL));
    let replayed = open(tpm, 1, Some(&[7; 32]), b"PIN");
    assert_eq!(refusal(replayed), Some(ResponseCode::SIGNATURE));
    index.undefine(tpm, Provision::Owner, Auth::EMPTY)?;
    Ok(tpm.flush_all()?)
}
