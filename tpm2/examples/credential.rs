//! `credential [TCTI]`: makes a credential for an attestation key, and opens it with the endorsement key.

use std::error::Error;

use tpm2::Tpm;
use tpm2::crypto::make_credential;
use tpm2::endorsement::{self, DEFAULT_KIND, Passwords};
use tpm2::object::create_primary;
use tpm2::session::Auth;
use tpm2::template::AK_P256;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Hierarchy, SensitiveCreate};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    // cookbook: keys
    let (kind, none) = (DEFAULT_KIND, Passwords::NONE);
    let ek = match endorsement::find(tpm, kind)? {
        Some(ek) => ek,
        None => endorsement::create(tpm, kind, None, none)?.ok_or("no endorsement key")?,
    };
    let hierarchy = Hierarchy::Endorsement;
    let (ak, _) = create_primary(tpm, hierarchy, Auth::EMPTY, &AK_P256, SensitiveCreate::EMPTY)?;
    // cookbook: end

    // What a verifier does, without a TPM, once it trusts the certificate of the endorsement key.
    // cookbook: make
    let credential = make_credential(&ek.public()?, ak.name(), b"a secret")?;
    // cookbook: end

    // cookbook: activate
    let opened =
        endorsement::activate(tpm, (kind, &ek), ak.object(), Auth::EMPTY, &credential, none)?;
    // cookbook: end
    if opened.expose() != b"a secret" {
        return Err("another secret".into());
    }
    Ok(tpm.flush_all()?)
}
