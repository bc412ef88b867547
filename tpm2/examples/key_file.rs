//! `key_file [TCTI]`: a key as a file that OpenSSL reads, and back.

use std::error::Error;

use tpm2::Tpm;
use tpm2::commands::Sign;
use tpm2::crypto::HashAlg;
use tpm2::key_file::{KeyAuth, KeyFile, KeyParent, Kind};
use tpm2::object::{create, create_primary};
use tpm2::session::Auth;
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Alg, AuthValue, Curve, Handle, Hierarchy, Public, SensitiveCreate};
use tpm2::wire::Unmarshal as _;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let empty = SensitiveCreate::EMPTY;
    let (srk, _) = create_primary(tpm, Hierarchy::Owner, Auth::EMPTY, &SRK_P256, empty)?;
    // cookbook: write
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let with_pin = SensitiveCreate { user_auth: AuthValue::from(b"PIN"), ..empty };
    let (made, _) = create(tpm, srk.object(), Auth::EMPTY, &template, with_pin)?;
    tpm.flush_all()?;
    let public = Public::from_bytes(&made.public)?;
    let parent = KeyParent::P256(Handle::OWNER);
    let mut file = KeyFile::new(Kind::Loadable, parent, &public, &made.private)?;
    file.auth = KeyAuth::Value;
    let pem = file.to_pem()?;
    // cookbook: end

    // cookbook: load
    let key = KeyFile::from_pem(&pem)?.load(tpm, b"")?;
    let digest = HashAlg::Sha256.digest(&[b"a message"]);
    let sign = Sign::digest(key.object(), (&digest).into());
    tpm.run(&sign, [Auth::password(b"PIN")])?;
    // cookbook: end
    Ok(tpm.flush_all()?)
}
