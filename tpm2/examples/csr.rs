//! `csr [TCTI]`: a certificate request for a key in the TPM, made with the crate `x509-cert`.

use std::error::Error;
use std::io::{self, Write};

use p256::ecdsa::DerSignature;
use tpm2::Tpm;
use tpm2::object::create_primary;
use tpm2::session::Auth;
use tpm2::signer::TpmSigner;
use tpm2::template::ecc_signing;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Alg, Curve, Hierarchy, SensitiveCreate};
use x509_cert::builder::{Builder, RequestBuilder};
use x509_cert::der::EncodePem;
use x509_cert::der::pem::LineEnding;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    // cookbook: csr
    let (auth, empty) = (Auth::EMPTY, SensitiveCreate::EMPTY);
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let (key, _) = create_primary(tpm, Hierarchy::Owner, auth, &template, empty)?;
    let signer = TpmSigner::new(tpm, &key, b"")?;
    let request = RequestBuilder::new("CN=host.example".parse()?)?;
    let request = request.build::<_, DerSignature>(&signer)?;
    // cookbook: end
    write!(io::stdout(), "{}", request.to_pem(LineEnding::LF)?)?;
    Ok(tpm.flush_all()?)
}
