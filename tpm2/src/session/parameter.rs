//! Parameter encryption. Part 1 §21.

use super::{Cipher, Direction, Session, without_trailing_zeros};
use crate::crypto::cfb::Aes;
use crate::crypto::{kdfa, xor};
use crate::error::{Fault, Protection};
use crate::wire::{Malformed, Why};

/// Encrypts the first parameter of a command, or decrypts that of an answer. The authorization value of what the session
/// authorizes is part of this key, even where it is not part of the HMAC's: KDFa(hash, sessionKey ‖ authValue, "CFB", nonceNewer, nonceOlder). Part 1 §21.2 and §21.3.
pub(super) fn crypt(
    session: &Session,
    secret: &[u8],
    [newer, older]: [&[u8]; 2],
    content: &mut [u8],
    way: Direction,
) -> Result<(), Fault> {
    let value = [session.key.expose(), without_trailing_zeros(secret)];
    let aes = match session.cipher.ok_or(Fault::Unprotectable(Protection::Idle))? {
        Cipher::Aes128 => Aes::Aes128,
        Cipher::Aes192 => Aes::Aes192,
        Cipher::Aes256 => Aes::Aes256,
        Cipher::Xor => {
            return xor(session.hash, &value, newer, older, content).map_err(|_| Fault::TooLarge);
        }
    };
    let bits = aes.key_bits().saturating_add(128);
    let derived =
        kdfa(session.hash, &value, b"CFB", newer, older, bits).map_err(|_| Fault::TooLarge)?;
    let (key, iv) = derived
        .expose()
        .split_at_checked(aes.key_len())
        .ok_or(Fault::Unprotectable(Protection::Idle))?;
    match way {
        Direction::Answer => aes.decrypt(key, iv, content),
        Direction::Command | Direction::Both | Direction::Neither => aes.encrypt(key, iv, content),
    }
    .map_err(|_| Fault::Unprotectable(Protection::Idle))
}

/// The content of the first parameter, without its size, which is never encrypted.
pub(super) fn first_parameter(parameters: &mut [u8]) -> Result<&mut [u8], Fault> {
    let (size, rest) =
        parameters.split_first_chunk_mut().ok_or(Malformed::new(Why::Truncated, 0))?;
    rest.get_mut(..usize::from(u16::from_be_bytes(*size)))
        .ok_or_else(|| Malformed::new(Why::Truncated, 2).named("encrypted parameter").into())
}
