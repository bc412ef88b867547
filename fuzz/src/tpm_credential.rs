//! A credential for a key that a host named, as hostile as it likes; and a credential as it comes over the network.

use tpm2::commands::{ActivateCredential, Command};
use tpm2::crypto::{HashAlg, make_credential_with};
use tpm2::types::{
    Digest, EccPoint, EncryptedSecret, Entity, Id, IdObject, NameBuf, Object, Public,
};
use tpm2::wire::{Reader, Unmarshal, Writer};

use crate::{Verdict, assert_harmless, parts};

/// The input has the key's public area, the Name of the other object and the secret; after them blob and seed of a
/// credential that another party made.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let mut parts = parts(data);
    let mut part = || parts.next().unwrap_or_default();
    let (key, name, secret, blob, seed) = (part(), part(), part(), part(), part());
    given(blob, seed);
    let (Ok(key), Some(name)) = (Public::from_bytes(key), NameBuf::new(name)) else {
        return Verdict::Refused;
    };
    let mut constant = |octets: &mut [u8]| {
        octets.fill(7);
        Ok(())
    };
    match make_credential_with(&key, &name, secret, &mut constant) {
        Ok(credential) => {
            made(&key, secret, credential.blob(), credential.secret());
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}

/// An integrity as long as the key's digests and the encrypted secret with its size; a point of the key's curve, or as
/// much as the key's modulus.
fn made(key: &Public<'_>, secret: &[u8], blob: IdObject<'_>, seed: EncryptedSecret<'_>) {
    let hash = HashAlg::try_from(key.name_alg).expect("its digests were made");
    let mut reader = Reader::new(blob.octets());
    let integrity: Digest<'_> = reader.read("integrity").expect("it was made");
    assert_eq!(integrity.octets().len(), hash.digest_len());
    assert_eq!(reader.take_rest().len(), 2 + secret.len());
    assert!(secret.len() <= hash.digest_len());
    match key.id {
        Id::Rsa(rsa) => assert_eq!(seed.octets().len(), rsa.unique.octets().len()),
        Id::Ecc(ecc) => {
            let point = EccPoint::from_bytes(seed.octets()).expect("it was made");
            let field = ecc.curve.field_len().expect("a curve that was computed on");
            assert_eq!([point.x, point.y].map(|x| x.octets().len()), [field; 2]);
        }
        _ => panic!("no secret is shared through {:?}", key.id),
    }
    given(blob.octets(), seed.octets());
}

/// What has room in the TPM's command is in it as it was given.
fn given(blob: &[u8], seed: &[u8]) {
    let (Ok(blob), Ok(seed)) = (IdObject::new(blob), EncryptedSecret::new(seed)) else { return };
    let object = Object::unnamed(tpm2::types::Handle(0x8000_0000));
    let command = ActivateCredential {
        activate_handle: object,
        key_handle: object,
        credential_blob: blob,
        secret: seed,
    };
    let mut octets = [0; 2048];
    let mut writer = Writer::new(&mut octets);
    command.marshal_parameters(&mut writer).expect("there is room for both");
    let parameters = writer.into_written();
    let handles = [object.handle().0.to_be_bytes(); 2].concat();
    let again = Reader::all(parameters, |parameters| {
        ActivateCredential::unmarshal(&mut Reader::new(&handles), parameters)
    })
    .expect("it was written");
    assert_eq!((again.credential_blob, again.secret), (blob, seed));
}
