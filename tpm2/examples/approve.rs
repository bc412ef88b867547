//! `approve [TCTI]`: sealed data that survive an update: the maker of the updates approves the PCRs of each one by a signature.

use std::error::Error;

use tpm2::commands::{PcrEvent, Sign};
use tpm2::crypto::{HashAlg, policy_approval};
use tpm2::object::create_primary;
use tpm2::policy::{Policy, Prepared, Step};
use tpm2::seal::{seal, unseal_by};
use tpm2::session::{Auth, NewSession};
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{
    Alg, Curve, DigestBuf, Event, Hierarchy, Nonce, Object, Pcr, PcrBits, PcrSelection,
    ResponseCode, SensitiveCreate, Signature,
};
use tpm2::wire::{List, Marshal as _, Unmarshal as _};
use tpm2::{Tpm, pcr};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// What comes with an update: the PCRs that it leads to, and a signature over the policy which asks for them.
struct Approval {
    pcr_digest: DigestBuf,
    signature: Vec<u8>,
}

/// The vendor, who knows what the PCRs will be; here the key is in the same TPM, and they are that already.
fn approval<T: Transport>(
    tpm: &mut Tpm<T>,
    key: Object,
    pcrs: &[PcrSelection<'_>],
) -> Result<Approval, Box<dyn Error>> {
    let pcr_digest = pcr::digest(tpm, HashAlg::Sha256, pcrs)?;
    // cookbook: approve
    let approved = Step::Pcr { pcrs: List::new(pcrs), digest: (&pcr_digest).into() };
    let approved = Policy::new(&[approved]).digest(HashAlg::Sha256)?;
    let digest = policy_approval(HashAlg::Sha256, approved.digest(), b"");
    let sign = Sign::digest(key, (&digest).into());
    let signature = tpm.run(&sign, [Auth::EMPTY])?.signature.to_vec()?;
    // cookbook: end
    Ok(Approval { pcr_digest, signature })
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    let (srk, _) = create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, empty)?;
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let (vendor, _) = create_primary(tpm, owner, Auth::EMPTY, &template, empty)?;
    let selected = PcrBits::of(&[16]).ok_or("no such PCR")?;
    let pcrs = [selected.bank(Alg::SHA256)];

    // cookbook: seal
    // The digest names the vendor's key, and nothing that it will approve.
    let authorize = Step::Authorize { key: vendor.name().into(), policy_ref: Nonce::EMPTY };
    let digest = Policy::new(&[authorize]).digest(HashAlg::Sha256)?;
    let sealed = seal(tpm, &srk, Auth::EMPTY, b"secret", &digest, b"")?;
    // cookbook: end

    let update = PcrEvent { pcr_handle: Some(Pcr(16)), event_data: Event::from(b"an update") };
    for _ in 0..2 {
        let approval = approval(tpm, vendor.object(), &pcrs)?;
        // cookbook: unseal
        let pcr_digest = approval.pcr_digest;
        let now = Step::Pcr { pcrs: List::new(&pcrs), digest: (&pcr_digest).into() };
        let steps = [now, authorize];
        let session = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
        let signature = Signature::from_bytes(&approval.signature)?;
        let mut answers = Prepared::new().approval(vendor.object(), signature);
        Policy::new(&steps).run_with(tpm, &session, &mut answers)?;
        let data = unseal_by(tpm, &srk, Auth::EMPTY, &sealed, session.last_auth(b""))?;
        // cookbook: end
        assert_eq!(data.expose(), b"secret");

        tpm.run(&update, [Auth::EMPTY])?;
        let session = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
        let stale = Policy::new(&steps).run_with(tpm, &session, &mut answers);
        let refusal = stale.err().and_then(|error| error.refusal());
        assert_eq!(refusal, Some(ResponseCode::VALUE));
        tpm.end(session)?;
    }
    Ok(tpm.flush_all()?)
}
