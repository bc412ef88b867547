//! `sessions [TCTI]`: a session that encrypts and proves, and one that audits.

use std::error::Error;

use tpm2::Tpm;
use tpm2::commands::{GetRandom, ReadClock};
use tpm2::crypto::HashAlg;
use tpm2::object::create_primary;
use tpm2::session::{Audit, Auth, Cipher, Encryption, NewSession};
use tpm2::template::SRK_P256;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Hierarchy, SensitiveCreate, SessionType};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    let (srk, _) = create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, empty)?;
    // Salted to a key of the TPM: only this TPM can answer, and the random bytes are encrypted on the bus.
    // cookbook: salted
    let salt = srk.salt_key()?;
    let mut salted = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    let random = GetRandom { bytes_requested: 32 };
    tpm.secured(&mut salted).run(&random, [])?;
    tpm.end(salted)?;
    // cookbook: end

    // Bound to the owner hierarchy, encrypting with XOR.
    // cookbook: bound
    let plan = NewSession::hmac(HashAlg::Sha256).bound(owner, b"").encrypting(Cipher::Xor);
    tpm.with_session(&plan, |tpm, session| {
        tpm.run_with(&random, [], [session.ride().audited(Audit::Never)]).map(drop)
    })?;
    // cookbook: end

    // cookbook: audit
    let plan = NewSession::hmac(HashAlg::Sha256);
    let digest = tpm.with_session(&plan, |tpm, session| {
        tpm.run_with(&ReadClock {}, [], [session.ride().audited(Audit::Extend)])?;
        Ok::<_, tpm2::Error<T::Error>>(session.audit_digest())
    })?;
    // cookbook: end
    digest.ok_or("not audited")?;
    Ok(tpm.flush_all()?)
}
