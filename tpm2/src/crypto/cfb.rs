//! AES in CFB mode, with which a TPM protects parameters and credentials. Part 1 §21.3 and §24.5.

#[cfg(feature = "std")]
use cfb_mode::Decryptor;
use cfb_mode::Encryptor;
use cfb_mode::cipher::KeyIvInit;

use crate::types::{Alg, BlockCipher, SymDefObject};
use crate::wire::{Malformed, Why};

/// The key sizes of AES that a TPM uses. Part 2 §11.1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aes {
    Aes128,
    Aes192,
    Aes256,
}

/// The octets given are not a key and an IV of the cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongKeyLength;

impl Aes {
    pub(crate) const IV_LEN: usize = 16;

    pub(crate) const fn key_bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes192 => 192,
            Self::Aes256 => 256,
        }
    }

    #[cfg(feature = "std")]
    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    pub(crate) fn encrypt(
        self,
        key: &[u8],
        iv: &[u8],
        data: &mut [u8],
    ) -> Result<(), WrongKeyLength> {
        match self {
            Self::Aes128 => {
                Encryptor::<aes::Aes128>::new_from_slices(key, iv).map(|c| c.encrypt(data))
            }
            Self::Aes192 => {
                Encryptor::<aes::Aes192>::new_from_slices(key, iv).map(|c| c.encrypt(data))
            }
            Self::Aes256 => {
                Encryptor::<aes::Aes256>::new_from_slices(key, iv).map(|c| c.encrypt(data))
            }
        }
        .map_err(|_| WrongKeyLength)
    }

    #[cfg(feature = "std")]
    pub(crate) fn decrypt(
        self,
        key: &[u8],
        iv: &[u8],
        data: &mut [u8],
    ) -> Result<(), WrongKeyLength> {
        match self {
            Self::Aes128 => {
                Decryptor::<aes::Aes128>::new_from_slices(key, iv).map(|c| c.decrypt(data))
            }
            Self::Aes192 => {
                Decryptor::<aes::Aes192>::new_from_slices(key, iv).map(|c| c.decrypt(data))
            }
            Self::Aes256 => {
                Decryptor::<aes::Aes256>::new_from_slices(key, iv).map(|c| c.decrypt(data))
            }
        }
        .map_err(|_| WrongKeyLength)
    }
}

impl TryFrom<SymDefObject> for Aes {
    type Error = Malformed;

    fn try_from(symmetric: SymDefObject) -> Result<Self, Malformed> {
        match symmetric {
            SymDefObject::Aes(BlockCipher { key_bits: 128, mode: Alg::CFB }) => Ok(Self::Aes128),
            SymDefObject::Aes(BlockCipher { key_bits: 192, mode: Alg::CFB }) => Ok(Self::Aes192),
            SymDefObject::Aes(BlockCipher { key_bits: 256, mode: Alg::CFB }) => Ok(Self::Aes256),
            _ => Err(Malformed::new(Why::Value, 0).named("symmetric cipher")),
        }
    }
}
