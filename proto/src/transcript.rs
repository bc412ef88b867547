//! What the proofs of a join and of an issue cover, the same for the agent that gives them and the
//! authority that checks them. Of a join:
//!
//! ```text
//! hash   = SHA-256( "endorse.v1 join" || B4(exporter) || B4(init)
//!                                     || B4(credential_blob) || B4(encrypted_seed) )
//! mac    = HMAC-SHA256( secret, "endorse.v1 join mac" || hash )
//! digest = SHA-256( "endorse.v1 join signature" || hash )
//! ```
//! `B4(x)` is the length of x in bytes, a 32-bit big-endian number, then x. Labels are their ASCII
//! bytes, without a length and without a NUL.
//!
//! - `exporter`: 32 bytes that the two ends of this TLS connection export (RFC 8446 section 7.5);
//!   no other connection has them, so an answer is worth nothing elsewhere.
//! - `init`: the `JoinInit` exactly as it travelled, never encoded a second time.
//! - `credential_blob`, `encrypted_seed`: the challenge, as in `JoinChallenge`.
//! - `secret`: what TPM2_ActivateCredential returns. Who knows it has the endorsement key and the
//!   join key in one TPM.
//!
//! The join key signs `digest`: its holder wants this join, and the certificate that ends it.
//!
//! Of the proof that a service's key is in the TPM, [`Transcript::of_service_key`]: the same, with `key` for `join` in each
//! label, and `ProveKeyInit` for `JoinInit`. The service's key signs `digest`. An answer to the one is not valid for the other.
//!
//! Of an issue, [`issue_digest`], which the key that is to be certified signs:
//! ```text
//! digest = SHA-256( "endorse.v1 issue" || B4(exporter) || B4(public_key) )
//! ```
//! Who calls has that key, now, on this connection.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What a proof is of.
#[derive(Debug)]
struct Labels {
    hash: &'static [u8],
    mac: &'static [u8],
    signature: &'static [u8],
}

static JOIN: Labels = Labels {
    hash: b"endorse.v1 join",
    mac: b"endorse.v1 join mac",
    signature: b"endorse.v1 join signature",
};

static SERVICE_KEY: Labels = Labels {
    hash: b"endorse.v1 key",
    mac: b"endorse.v1 key mac",
    signature: b"endorse.v1 key signature",
};

const ISSUE_LABEL: &[u8] = b"endorse.v1 issue";

/// The hash of all that both sides have said before the answer, and of the connection on which they
/// said it.
#[derive(Debug, Clone, Copy)]
pub struct Transcript {
    labels: &'static Labels,
    hash: [u8; 32],
}

/// The MAC of an answer is not the transcript's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongMac;

impl Transcript {
    /// Of a join. Takes the parts in the order in which they came to be.
    pub fn new(
        exporter: &[u8; 32],
        init: &[u8],
        credential_blob: &[u8],
        encrypted_seed: &[u8],
    ) -> Self {
        Self::labelled(&JOIN, [exporter, init, credential_blob, encrypted_seed])
    }

    /// Of the proof that a service's key is in the TPM.
    pub fn of_service_key(
        exporter: &[u8; 32],
        init: &[u8],
        credential_blob: &[u8],
        encrypted_seed: &[u8],
    ) -> Self {
        Self::labelled(&SERVICE_KEY, [exporter, init, credential_blob, encrypted_seed])
    }

    fn labelled(labels: &'static Labels, parts: [&[u8]; 4]) -> Self {
        Self { labels, hash: hash(labels.hash, &parts) }
    }

    /// The proof that `secret` was activated.
    pub fn mac(&self, secret: &[u8]) -> [u8; 32] {
        self.keyed(secret).finalize().into_bytes().into()
    }

    /// Compares in constant time. Refuses a MAC of any other length.
    pub fn verify_mac(&self, secret: &[u8], mac: &[u8]) -> Result<(), WrongMac> {
        self.keyed(secret).verify_slice(mac).map_err(|_| WrongMac)
    }

    /// What the key to prove signs.
    pub fn signed_message(&self) -> Vec<u8> {
        [self.labels.signature, &self.hash].concat()
    }

    /// What the key to prove signs, already hashed: the digest that TPM2_Sign takes.
    pub fn signing_digest(&self) -> [u8; 32] {
        Sha256::digest(self.signed_message()).into()
    }

    #[expect(clippy::expect_used, reason = "the invariant is HMAC's own")]
    fn keyed(&self, secret: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret)
            .expect("RFC 2104 takes a key of any length");
        mac.update(self.labels.mac);
        mac.update(&self.hash);
        mac
    }
}

/// What the key of an `IssueRequest` signs. `exporter` is the connection's, `public_key` the request's field as it travels.
pub fn issue_message(exporter: &[u8; 32], public_key: &[u8]) -> Vec<u8> {
    let mut message = ISSUE_LABEL.to_vec();
    for part in [exporter, public_key] {
        message.extend_from_slice(&length(part));
        message.extend_from_slice(part);
    }
    message
}

/// [`issue_message`], already hashed.
pub fn issue_digest(exporter: &[u8; 32], public_key: &[u8]) -> [u8; 32] {
    hash(ISSUE_LABEL, &[exporter, public_key])
}

/// SHA-256 of the label, then each part behind its length.
fn hash(label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(label);
    for part in parts {
        hash.update(length(part));
        hash.update(part);
    }
    hash.finalize().into()
}

/// B4: a gRPC message has a 32-bit length itself, so no part is longer.
fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use base16ct::lower::encode_string as hex;

    use super::*;

    fn transcript() -> Transcript {
        Transcript::new(&[0x45; 32], b"init", b"blob", b"seed")
    }

    /// Computed with `openssl dgst` and xxd, from the formulas of this module's documentation.
    #[test]
    fn agrees_with_openssl() {
        let transcript = transcript();
        assert_eq!(
            hex(&transcript.hash),
            "d03c9733d1ba6aacbb7e864437361d798af036aff59fc90098fcc95b4b7c309c"
        );
        assert_eq!(
            hex(&transcript.mac(b"secret")),
            "4de4bb57913e26e91bfd17f876ff6ebfb8d6cc325501876585787cc4ff491093"
        );
        assert_eq!(
            hex(&transcript.signing_digest()),
            "79b61ae34a7cacb52f6e05ce1bb6379b75284124ce0a1bd39c72550af6118eea"
        );
    }

    #[test]
    fn every_part_of_the_transcript_changes_the_hash() {
        let all = [
            transcript(),
            Transcript::new(&[0x46; 32], b"init", b"blob", b"seed"),
            Transcript::new(&[0x45; 32], b"inix", b"blob", b"seed"),
            Transcript::new(&[0x45; 32], b"init", b"blox", b"seed"),
            Transcript::new(&[0x45; 32], b"init", b"blob", b"seex"),
            Transcript::new(&[0x45; 32], b"initb", b"lob", b"seed"),
            Transcript::new(&[0x45; 32], b"init", b"blobs", b"eed"),
            Transcript::new(&[0x45; 32], b"", b"initblob", b"seed"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().map(|t| t.hash).collect();
        assert_eq!(distinct.len(), all.len());
    }

    /// Computed with `openssl dgst` and xxd, from the formulas of this module's documentation.
    #[test]
    fn proof_of_a_services_key_agrees_with_openssl() {
        let transcript = Transcript::of_service_key(&[0x45; 32], b"init", b"blob", b"seed");
        assert_eq!(
            hex(&transcript.hash),
            "c47425b051e010f7313347cab0a543f72907e9ddb11e8b9df65d3301dafea190"
        );
        assert_eq!(
            hex(&transcript.mac(b"secret")),
            "ecd749ad4a06463e93f305169a97ac9f1e2fdf5646ddf4451c730b5dbce92b7e"
        );
        assert_eq!(
            hex(&transcript.signing_digest()),
            "08b2cee7595934ed3cec589d2f3a19a52bf3f87760885007d3b4c607055bc6a0"
        );
        let join = self::transcript();
        assert_eq!(join.verify_mac(b"secret", &transcript.mac(b"secret")), Err(WrongMac));
        assert_ne!(join.signing_digest(), transcript.signing_digest());
    }

    #[test]
    fn refuses_a_mac_that_differs_in_any_bit_or_in_length() {
        let transcript = transcript();
        let mac = transcript.mac(b"secret");
        assert_eq!(transcript.verify_mac(b"secret", &mac), Ok(()));
        assert_eq!(transcript.verify_mac(b"Secret", &mac), Err(WrongMac));
        for bit in 0..256 {
            let mut wrong = mac;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(transcript.verify_mac(b"secret", &wrong), Err(WrongMac));
        }
        for length in 0..32 {
            assert_eq!(transcript.verify_mac(b"secret", &mac[..length]), Err(WrongMac));
        }
        let longer = [mac.as_slice(), &[0]].concat();
        assert_eq!(transcript.verify_mac(b"secret", &longer), Err(WrongMac));
    }

    #[test]
    fn the_signature_and_the_mac_cover_different_bytes() {
        assert_ne!(transcript().signing_digest(), transcript().hash);
        assert_ne!(transcript().signing_digest(), transcript().mac(b""));
    }

    /// Computed with `openssl dgst` and xxd, from the formula of this module's documentation.
    #[test]
    fn an_issue_is_of_its_connection_and_its_key() {
        let digest = issue_digest(&[0x45; 32], b"key");
        assert_eq!(
            hex(&digest),
            "f46287d008f084df4993d24229e83a976479bb7801099ca0b6bd120e65cdb4e0"
        );
        assert_ne!(digest, issue_digest(&[0x46; 32], b"key"));
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(issue_message(&[0x45; 32], b"key"))));
        assert_ne!(digest, issue_digest(&[0x45; 32], b"kex"));
        assert_ne!(digest, issue_digest(&[0x45; 32], b"key\0"));
    }
}
