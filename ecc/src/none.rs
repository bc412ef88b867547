//! In place of graviola, where the program is built without it or it has no code for the processor.

use p256::SecretKey;
use p256::ecdsa::Signature;
use signature::Error;

use crate::types::{P256_POINT, Shared, VerifyingKey};

pub(crate) fn is_supported() -> bool {
    false
}

pub(crate) fn verify(_: &VerifyingKey<'_>, _: &[u8], _: &[u8]) -> Option<Result<(), Error>> {
    None
}

pub(crate) enum SigningKey {}

impl SigningKey {
    pub(crate) fn new(_: &SecretKey) -> Option<Self> {
        None
    }

    pub(crate) fn sign(&self, _: &[u8]) -> Result<Signature, Error> {
        match *self {}
    }
}

pub(crate) enum P256 {}

impl P256 {
    pub(crate) fn from_scalar(_: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(crate) fn point(&self) -> [u8; P256_POINT] {
        match *self {}
    }

    pub(crate) fn agree(self, _: &[u8; P256_POINT]) -> Option<Shared> {
        match self {}
    }
}

pub(crate) enum X25519 {}

impl X25519 {
    pub(crate) fn from_scalar(_: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(crate) fn point(&self) -> [u8; 32] {
        match *self {}
    }

    pub(crate) fn agree(self, _: &[u8; 32]) -> Option<Shared> {
        match self {}
    }
}
