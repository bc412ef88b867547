//! `rsa [TCTI]`: signs by RSA-PSS, and decrypts by OAEP.

use std::error::Error;

use tpm2::Tpm;
use tpm2::commands::{RsaDecrypt, RsaEncrypt, Sign, VerifySignature};
use tpm2::crypto::HashAlg;
use tpm2::object::create_primary;
use tpm2::session::Auth;
use tpm2::template::{rsa_decryption, rsa_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{
    Alg, AsymScheme, Digest, HashScheme, Hierarchy, PublicKeyRsa, SensitiveCreate, Signature,
};
use tpm2::wire::{Marshal as _, Unmarshal as _};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    let sha256 = HashScheme { hash: Alg::SHA256 };

    // cookbook: pss
    let template = rsa_signing(2048, AsymScheme::Rsapss(sha256));
    let (key, _) = create_primary(tpm, owner, Auth::EMPTY, &template, empty)?;
    let digest = HashAlg::Sha256.digest(&[b"a message"]);
    let digest = Digest::from(&digest);
    let answer = tpm.run(&Sign::digest(key.object(), digest), [Auth::EMPTY])?;
    let signature = answer.signature.to_vec()?;
    let signature = Signature::from_bytes(&signature)?;
    tpm.run(&VerifySignature { key_handle: key.object(), digest, signature }, [])?;
    // cookbook: end
    tpm.flush(key.handle())?;

    // cookbook: oaep
    let template = rsa_decryption(2048, AsymScheme::Oaep(sha256));
    let (key, _) = create_primary(tpm, owner, Auth::EMPTY, &template, empty)?;
    let encrypt = RsaEncrypt::of(key.object(), PublicKeyRsa::from(b"a secret"));
    let cipher_text = tpm.run(&encrypt, [])?.out_data.octets().to_vec();
    let decrypt = RsaDecrypt::of(key.object(), PublicKeyRsa::new(&cipher_text)?);
    // cookbook: end
    if tpm.run(&decrypt, [Auth::EMPTY])?.message.octets() != b"a secret" {
        return Err("another message".into());
    }
    Ok(tpm.flush_all()?)
}
