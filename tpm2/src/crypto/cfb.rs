//! AES in CFB mode, with which a TPM protects parameters and credentials. Part 1 §21.3 and §24.5.

#[cfg(feature = "client")]
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

/// Runs a cipher with the block cipher of this key size.
macro_rules! by_key_size {
    ($size:expr, $cipher:ident, $run:ident($key:expr, $iv:expr, $data:expr)) => {
        match $size {
            Aes::Aes128 => {
                $cipher::<aes::Aes128>::new_from_slices($key, $iv).map(|c| c.$run($data))
            }
            Aes::Aes192 => {
                $cipher::<aes::Aes192>::new_from_slices($key, $iv).map(|c| c.$run($data))
            }
            Aes::Aes256 => {
                $cipher::<aes::Aes256>::new_from_slices($key, $iv).map(|c| c.$run($data))
            }
        }
        .map_err(|_| WrongKeyLength)
    };
}

impl Aes {
    pub(crate) const IV_LEN: usize = 16;

    pub(crate) const fn key_bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes192 => 192,
            Self::Aes256 => 256,
        }
    }

    #[cfg(feature = "client")]
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
        by_key_size!(self, Encryptor, encrypt(key, iv, data))
    }

    #[cfg(feature = "client")]
    pub(crate) fn decrypt(
        self,
        key: &[u8],
        iv: &[u8],
        data: &mut [u8],
    ) -> Result<(), WrongKeyLength> {
        by_key_size!(self, Decryptor, decrypt(key, iv, data))
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
