//! Record protection, RFC 8446 section 5.2: AES-GCM (SP 800-38D), ChaCha20-Poly1305 (RFC 8439).

use std::marker::PhantomData;

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce as AeadNonce, Tag};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion};

pub(super) static AES_128_GCM: Protection<Aes128Gcm> = Protection(PhantomData);
pub(super) static AES_256_GCM: Protection<Aes256Gcm> = Protection(PhantomData);
pub(super) static CHACHA20_POLY1305: Protection<ChaCha20Poly1305> = Protection(PhantomData);

/// Every AEAD of TLS 1.3 has a tag of 16 bytes.
const TAG_LEN: usize = 16;

/// The AEADs of TLS 1.3: a nonce of 12 bytes, a tag of 16, which follows the ciphertext.
pub(super) trait Cipher:
    AeadInOut<NonceSize = U12, TagSize = U16> + KeyInit + Send + Sync + 'static
{
}

impl<C> Cipher for C where
    C: AeadInOut<NonceSize = U12, TagSize = U16> + KeyInit + Send + Sync + 'static
{
}

pub(super) struct Protection<C>(PhantomData<C>);

impl<C: Cipher> Tls13AeadAlgorithm for Protection<C> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Direction::<C>::new(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Direction::<C>::new(&key, iv))
    }

    fn key_len(&self) -> usize {
        C::key_size()
    }

    /// Traffic keys do not leave this crate.
    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

/// The key and the IV of one direction of a connection.
struct Direction<C> {
    cipher: C,
    iv: Iv,
}

impl<C: Cipher> Direction<C> {
    #[expect(clippy::expect_used, reason = "rustls derives exactly the key_len() given above")]
    fn new(key: &AeadKey, iv: Iv) -> Self {
        let cipher = C::new_from_slice(key.as_ref()).expect("a key of key_len() bytes");
        Self { cipher, iv }
    }

    fn nonce(&self, sequence: u64) -> AeadNonce<C> {
        Nonce::new(&self.iv, sequence).0.into()
    }
}

impl<C: Cipher> MessageEncrypter for Direction<C> {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let length = self.encrypted_payload_len(message.payload.len());
        // TLSInnerPlaintext: content, then its type, no padding.
        let mut payload = PrefixedPayload::with_capacity(length);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &self.nonce(sequence),
                &make_tls13_aad(length),
                payload.as_mut().into(),
            )
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        // legacy_record_version is that of TLS 1.2, RFC 8446 section 5.2.
        Ok(OutboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            payload,
        ))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + TAG_LEN
    }
}

impl<C: Cipher> MessageDecrypter for Direction<C> {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let payload = &mut message.payload;
        let aad = make_tls13_aad(payload.len());
        let (body, tag) = payload.split_last_chunk_mut::<TAG_LEN>().ok_or(Error::DecryptError)?;
        let length = body.len();
        self.cipher
            .decrypt_inout_detached(&self.nonce(sequence), &aad, body.into(), &Tag::<C>::from(*tag))
            .map_err(|_| Error::DecryptError)?;
        payload.truncate(length);
        message.into_tls13_unpadded_message()
    }
}
