//! CA pins, by which an operator configures the CA that a host trusts.

use std::fmt;
use std::str::FromStr;

use base16ct::HexDisplay;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

const PREFIX: &str = "sha256:";

/// A CA, identified by its key: the SHA-256 of its SubjectPublicKeyInfo in DER.
///
/// The text form is `sha256:` and 64 hexadecimal digits, written in lower case and read in either.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaPin([u8; 32]);

impl CaPin {
    /// The pin of the key that a certificate is about.
    ///
    /// This does not check that it is a CA certificate; the use of the pin does.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, UnreadableCertificate> {
        let anchor =
            webpki::anchor_from_trusted_cert(certificate).map_err(UnreadableCertificate)?;
        Ok(Self(Sha256::digest(webpki::spki_for_anchor(&anchor)).into()))
    }
}

/// The SHA-256 itself.
impl From<[u8; 32]> for CaPin {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl From<CaPin> for [u8; 32] {
    fn from(CaPin(digest): CaPin) -> Self {
        digest
    }
}

impl FromStr for CaPin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidPin::Prefix)?;
        if let Some((position, found)) =
            digits.chars().enumerate().find(|(_, digit)| !digit.is_ascii_hexdigit())
        {
            return Err(InvalidPin::Digit { position: PREFIX.len() + position + 1, found });
        }
        let mut digest = [0; 32];
        match base16ct::mixed::decode(digits, &mut digest) {
            Ok(all) if all.len() == 32 => Ok(Self(digest)),
            _ => Err(InvalidPin::Length { found: digits.len() }),
        }
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        write!(f, "{:x}", HexDisplay(&self.0))
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a CA pin, and what one looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPin {
    /// It does not begin with the name of the hash.
    Prefix,
    /// It has a character that is no hexadecimal digit, at this position counted from 1.
    Digit {
        /// Where, in characters from 1.
        position: usize,
        /// What stands there.
        found: char,
    },
    /// It has too few or too many digits.
    Length {
        /// How many there are.
        found: usize,
    },
}

impl fmt::Display for InvalidPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a CA pin: ")?;
        match self {
            Self::Prefix => write!(f, "it does not start with `{PREFIX}`"),
            Self::Digit { position, found } => {
                write!(f, "character {position} is {found:?}, not a hexadecimal digit")
            }
            Self::Length { found } => write!(f, "it has {found} hexadecimal digits, not 64"),
        }?;
        write!(f, "; copy the CA pin from `authority status`")
    }
}

impl std::error::Error for InvalidPin {}

/// A certificate from which no public key can be read.
#[derive(Debug)]
pub struct UnreadableCertificate(webpki::Error);

impl fmt::Display for UnreadableCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an X.509 certificate in DER: {}", self.0)
    }
}

impl std::error::Error for UnreadableCertificate {}

#[cfg(test)]
mod tests {
    use super::*;

    const LOWER: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn text_round_trips_and_upper_case_is_read() {
        let pin: CaPin = LOWER.parse().unwrap();
        assert_eq!(pin.0[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(pin.to_string(), LOWER);
        let upper = format!("sha256:{}", LOWER[7..].to_uppercase());
        assert_eq!(upper.parse::<CaPin>().unwrap(), pin);
    }

    #[test]
    fn malformed_pin_is_refused_by_name() {
        let refused = |text: &str| text.parse::<CaPin>().unwrap_err();
        for text in ["", "sha256", "SHA256:00", "sha512:00", &LOWER[7..], &format!(" {LOWER}")] {
            assert_eq!(refused(text), InvalidPin::Prefix, "{text:?}");
        }
        for length in 0..64 {
            assert_eq!(refused(&LOWER[..7 + length]), InvalidPin::Length { found: length });
        }
        assert_eq!(refused(&format!("{LOWER}0")), InvalidPin::Length { found: 65 });
        assert_eq!(refused(&LOWER.repeat(2)), InvalidPin::Digit { position: 72, found: 's' });
        assert_eq!(
            refused(&format!("{}\n", &LOWER[..70])),
            InvalidPin::Digit { position: 71, found: '\n' }
        );
        assert_eq!(
            refused(&LOWER.replacen("11", "é1", 1)),
            InvalidPin::Digit { position: 10, found: 'é' }
        );
        assert_eq!(
            refused("sha256:0g").to_string(),
            "not a CA pin: character 9 is 'g', not a hexadecimal digit; copy the CA pin from `authority status`"
        );
    }

    #[test]
    fn a_certificate_must_be_one() {
        let error = CaPin::of_certificate(&CertificateDer::from_slice(b"0\x03abc")).unwrap_err();
        assert!(error.to_string().starts_with("not an X.509 certificate in DER"), "{error}");
    }
}
