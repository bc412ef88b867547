//! `credential [TCTI]`: makes a credential for an attestation key, and opens it with the endorsement key: in one process, and
//! with a verifier that receives and sends bytes only.

use std::error::Error;

use tpm2::Tpm;
use tpm2::crypto::{Credential, make_credential, object_name};
use tpm2::endorsement::{self, DEFAULT_KIND, Passwords};
use tpm2::object::create_primary;
use tpm2::session::Auth;
use tpm2::template::AK_P256;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{EncryptedSecret, Hierarchy, IdObject, Public, SensitiveCreate};
use tpm2::wire::Unmarshal;

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

    let (blob, seed) = verifier(ek.public_area(), ak.public_area())?;
    // cookbook: receive
    let credential = Credential::new(IdObject::new(&blob)?, EncryptedSecret::new(&seed)?)?;
    let opened =
        endorsement::activate(tpm, (kind, &ek), ak.object(), Auth::EMPTY, &credential, none)?;
    // cookbook: end
    if opened.expose() != b"a secret" {
        return Err("another secret".into());
    }
    Ok(tpm.flush_all()?)
}

/// The verifier on another machine: two `TPMT_PUBLIC` come in, the two parts of a credential go out.
fn verifier(ek: &[u8], ak: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Box<dyn Error>> {
    // cookbook: send
    let (ek, ak) = (Public::from_bytes(ek)?, Public::from_bytes(ak)?);
    let credential = make_credential(&ek, &object_name(&ak)?, b"a secret")?;
    let blob = credential.blob().octets().to_vec();
    let seed = credential.secret().octets().to_vec();
    // cookbook: end
    Ok((blob, seed))
}
