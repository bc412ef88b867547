//! The TPM's part in software: a P-256 endorsement key and a join key, and the mathematics of
//! TPM2_ActivateCredential, written a second time from the formulas of Part 1.

use std::sync::Arc;

use aes::Aes128;
use cfb_mode::Decryptor;
use cfb_mode::cipher::KeyIvInit;
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::EncodePrivateKey;
use p256::{PublicKey, SecretKey, ecdh};
use proto::transcript::Transcript;
use proto::v1::join_init::Ek;
use proto::v1::{IssuedCredentials, JoinAnswer, JoinChallenge, JoinInit};
use rustls::client::ResolvesClientCert;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use spki::EncodePublicKey;

pub(crate) struct SoftwareTpm {
    pub(crate) ek: SecretKey,
    pub(crate) join_key: SigningKey,
    /// X.509 DER, if the TPM has one.
    pub(crate) ek_certificate: Option<Vec<u8>>,
}

impl SoftwareTpm {
    pub(crate) fn new() -> Self {
        Self { ek: SecretKey::generate(), join_key: SigningKey::generate(), ek_certificate: None }
    }

    pub(crate) fn ek_public(&self) -> Vec<u8> {
        self.ek.public_key().to_public_key_der().unwrap().into_vec()
    }

    pub(crate) fn ek_hash(&self) -> String {
        Sha256::digest(self.ek_public()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// TPMT_PUBLIC: ECC, SHA-256, 0x00040472, no policy, no cipher, ECDSA with SHA-256, P-256, no
    /// KDF, x, y.
    pub(crate) fn join_key_public(&self) -> Vec<u8> {
        let point = self.join_key.verifying_key().to_sec1_point(false);
        let mut public = hex("0023000b 00040472 0000 0010 0018000b 0003 0010");
        for coordinate in [point.x().unwrap(), point.y().unwrap()] {
            public.extend([0, 32]);
            public.extend(coordinate);
        }
        public
    }

    pub(crate) fn init(&self, token: &str) -> JoinInit {
        JoinInit {
            token: token.into(),
            ek: Some(match &self.ek_certificate {
                Some(der) => Ek::EkCertificate(der.clone()),
                None => Ek::EkPublic(self.ek_public()),
            }),
            ek_chain: Vec::new(),
            join_key: self.join_key_public(),
            hostname: "host-1".into(),
            agent_version: "test".into(),
            ttl_seconds: 0,
            ek_name_alg: 0,
        }
    }

    /// TPM2_ActivateCredential; None is its TPM_RC_INTEGRITY.
    pub(crate) fn activate(&self, challenge: &JoinChallenge, object: &[u8]) -> Option<Vec<u8>> {
        let name = [&[0x00, 0x0b], Sha256::digest(object).as_slice()].concat();
        let (x, rest) = sized(&challenge.encrypted_seed)?;
        let (y, rest) = sized(rest)?;
        assert!(rest.is_empty());
        let point = [&[0x04], x, y].concat();
        let ephemeral = PublicKey::from_sec1_bytes(&point).ok()?;
        let z = ecdh::diffie_hellman(self.ek.to_nonzero_scalar(), ephemeral.as_affine());
        let ek = self.ek.public_key().to_sec1_point(false);
        let seed = Sha256::new()
            .chain_update(1u32.to_be_bytes())
            .chain_update(z.raw_secret_bytes())
            .chain_update(b"IDENTITY\0")
            .chain_update(x)
            .chain_update(ek.x().unwrap())
            .finalize();
        let (tag, identity) = sized(&challenge.credential_blob)?;
        let integrity = kdfa(&seed, b"INTEGRITY\0", &[], 256);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&integrity).unwrap();
        mac.update(identity);
        mac.update(&name);
        mac.verify_slice(tag).ok()?;
        let key = kdfa(&seed, b"STORAGE\0", &name, 128);
        let mut secret = identity.to_vec();
        Decryptor::<Aes128>::new_from_slices(&key[..16], &[0; 16]).unwrap().decrypt(&mut secret);
        let (secret, rest) = sized(&secret)?;
        assert!(rest.is_empty());
        Some(secret.to_vec())
    }

    /// The answer of an honest agent.
    pub(crate) fn answer(
        &self,
        exporter: &[u8; 32],
        init: &[u8],
        challenge: &JoinChallenge,
    ) -> JoinAnswer {
        let secret = self.activate(challenge, &self.join_key_public()).expect("activation");
        let transcript =
            Transcript::new(exporter, init, &challenge.credential_blob, &challenge.encrypted_seed);
        JoinAnswer { mac: transcript.mac(&secret).to_vec(), signature: self.sign(&transcript) }
    }

    /// The join key with its certificate, for TLS.
    pub(crate) fn identity(&self, issued: &IssuedCredentials) -> Arc<dyn ResolvesClientCert> {
        identity(&self.join_key, issued)
    }

    pub(crate) fn sign(&self, transcript: &Transcript) -> Vec<u8> {
        let signature: DerSignature =
            self.join_key.sign_prehash(&transcript.signing_digest()).unwrap();
        signature.as_bytes().to_vec()
    }
}

/// A key with its certificate, for TLS.
pub(crate) fn identity(
    key: &SigningKey,
    issued: &IssuedCredentials,
) -> Arc<dyn ResolvesClientCert> {
    let key = key.to_pkcs8_der().unwrap();
    let key = PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into());
    let key = tls::provider().key_provider.load_private_key(key).unwrap();
    let chain = issued.certificates.iter().map(|der| CertificateDer::from(der.clone())).collect();
    tls::identity(chain, key).unwrap()
}

/// KDFa of Part 1 with SHA-256, for what fits into one block.
fn kdfa(key: &[u8], label: &[u8], context: &[u8], bits: u32) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(&1u32.to_be_bytes());
    mac.update(label);
    mac.update(context);
    mac.update(&bits.to_be_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A TPM2B and what follows it.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
