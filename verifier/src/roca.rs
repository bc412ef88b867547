//! The fingerprint of RSA keys made by the faulty library of CVE-2017-15361 (ROCA).
//!
//! Its primes are of the form k·M + (65537^a mod M) with M a product of small primes, so that the
//! modulus is, to each of those primes, a power of 65537. A sound key looks so once in 2^27.

/// The primes that divide M at every key size.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the modulus, big endian, carries the fingerprint.
pub(crate) fn has_fingerprint(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| is_power_of_65537(residue(modulus, prime), prime))
}

fn is_power_of_65537(residue: u32, prime: u32) -> bool {
    let generator = modulo(65537, prime);
    std::iter::successors(Some(1), |&power: &u32| {
        Some(modulo(u64::from(power).wrapping_mul(generator.into()), prime))
    })
    .take(usize::try_from(prime).unwrap_or(usize::MAX))
    .any(|power| power == residue)
}

fn residue(modulus: &[u8], prime: u32) -> u32 {
    let (words, tail) = modulus.as_chunks::<4>();
    let head = words.iter().fold(0, |rest: u32, word| {
        modulo(u64::from(rest) << 32 | u64::from(u32::from_be_bytes(*word)), prime)
    });
    tail.iter().fold(head, |rest, &byte| modulo(u64::from(rest) << 8 | u64::from(byte), prime))
}

/// The primes are not zero and fit 32 bits, so neither fallback is ever taken.
fn modulo(value: u64, prime: u32) -> u32 {
    value.checked_rem(prime.into()).and_then(|rest| rest.try_into().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, KeyError, RsaKey};

    /// Big endian, to one fixed length.
    type Number = [u8; 32];

    fn add(to: &mut Number, other: &Number) {
        let mut carry = 0;
        for (to, other) in to.iter_mut().zip(other).rev() {
            let sum = u16::from(*to) + u16::from(*other) + carry;
            *to = sum.to_be_bytes()[1];
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
    }

    fn multiply(number: &Number, factor: u32) -> Number {
        let mut product = [0; 32];
        (0..factor).for_each(|_| add(&mut product, number));
        product
    }

    /// A modulus that is 65537^exponent to every prime: sieved, then lengthened by a multiple of M.
    fn shaped(exponent: u32) -> Vec<u8> {
        let mut value = [0; 32];
        let mut product = [0; 32];
        product[31] = 1;
        for prime in PRIMES {
            let power = (0..exponent).fold(1, |power: u64, _| power * 65537 % u64::from(prime));
            while u64::from(residue(&value, prime)) != power {
                add(&mut value, &product);
            }
            product = multiply(&product, prime);
        }
        if value[31] & 1 == 0 {
            add(&mut value, &product);
        }
        // A multiple of M that begins with a one bit: 2048 bits in all.
        let multiples = (1..256).map(|factor| multiply(&product, factor));
        let mut high = multiples.map(|high| high.into_iter().skip_while(|&b| b == 0).collect());
        let mut modulus: Vec<u8> = high.find(|high: &Vec<u8>| high[0] >= 0x80).unwrap();
        modulus.resize(256 - 32, 0);
        modulus.extend(value);
        modulus
    }

    #[test]
    fn such_a_key_is_refused() {
        assert_eq!(RsaKey::new(&shaped(77), 65537), Err(KeyError::Roca));
        assert_eq!(KeyError::Roca.fault(), Fault::Weak);
    }

    #[test]
    fn found_in_what_is_shaped_so() {
        for exponent in [1, 2, 77, 1000] {
            assert!(has_fingerprint(&shaped(exponent)), "{exponent}");
        }
    }

    #[test]
    fn not_found_one_step_beside() {
        for exponent in [1, 2, 77, 1000] {
            let mut modulus = shaped(exponent);
            *modulus.last_mut().unwrap() ^= 2;
            assert!(!has_fingerprint(&modulus), "{exponent}");
        }
    }

    #[test]
    fn residues_do_not_depend_on_how_the_bytes_divide_into_words() {
        for length in 1..9 {
            let bytes: Vec<u8> = (1..=length).map(|n| n * 29).collect();
            let expected = bytes.iter().fold(0u128, |n, &b| n << 8 | u128::from(b)) % 167;
            assert_eq!(u128::from(residue(&bytes, 167)), expected);
        }
    }
}
