//! Object identifiers: the content octets of those that are understood, and the text of any.

/// Content octets of an OBJECT IDENTIFIER.
pub(crate) type Oid = &'static [u8];

// RFC 8017, appendix C: 1.2.840.113549.1.1
pub(crate) const RSA_ENCRYPTION: Oid = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub(crate) const SHA1_WITH_RSA: Oid = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
pub(crate) const RSAES_OAEP: Oid = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
pub(crate) const SHA256_WITH_RSA: Oid = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
pub(crate) const SHA384_WITH_RSA: Oid = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
pub(crate) const SHA512_WITH_RSA: Oid = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];

// RFC 5480: 1.2.840.10045 and 1.3.132.0
pub(crate) const EC_PUBLIC_KEY: Oid = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub(crate) const SECP256R1: Oid = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub(crate) const SECP384R1: Oid = &[0x2b, 0x81, 0x04, 0x00, 0x22];
pub(crate) const SECP521R1: Oid = &[0x2b, 0x81, 0x04, 0x00, 0x23];

// RFC 5758: 1.2.840.10045.4
pub(crate) const ECDSA_WITH_SHA1: Oid = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
pub(crate) const ECDSA_WITH_SHA256: Oid = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
pub(crate) const ECDSA_WITH_SHA384: Oid = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
pub(crate) const ECDSA_WITH_SHA512: Oid = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];

// RFC 5280 §4.2.1: 2.5.29
pub(crate) const SUBJECT_KEY_IDENTIFIER: Oid = &[0x55, 0x1d, 0x0e];
pub(crate) const KEY_USAGE: Oid = &[0x55, 0x1d, 0x0f];
pub(crate) const SUBJECT_ALT_NAME: Oid = &[0x55, 0x1d, 0x11];
pub(crate) const BASIC_CONSTRAINTS: Oid = &[0x55, 0x1d, 0x13];
pub(crate) const NAME_CONSTRAINTS: Oid = &[0x55, 0x1d, 0x1e];
pub(crate) const CERTIFICATE_POLICIES: Oid = &[0x55, 0x1d, 0x20];
pub(crate) const AUTHORITY_KEY_IDENTIFIER: Oid = &[0x55, 0x1d, 0x23];
pub(crate) const EXTENDED_KEY_USAGE: Oid = &[0x55, 0x1d, 0x25];
pub(crate) const ANY_EXTENDED_KEY_USAGE: Oid = &[0x55, 0x1d, 0x25, 0x00];

// TCG EK Credential Profile: 2.23.133
pub(crate) const TPM_MANUFACTURER: Oid = &[0x67, 0x81, 0x05, 0x02, 0x01];
pub(crate) const TPM_MODEL: Oid = &[0x67, 0x81, 0x05, 0x02, 0x02];
pub(crate) const TPM_VERSION: Oid = &[0x67, 0x81, 0x05, 0x02, 0x03];
pub(crate) const EK_CERTIFICATE: Oid = &[0x67, 0x81, 0x05, 0x08, 0x01];

// X.520 attribute types: 2.5.4
pub(crate) const COMMON_NAME: Oid = &[0x55, 0x04, 0x03];
pub(crate) const SERIAL_NUMBER: Oid = &[0x55, 0x04, 0x05];
pub(crate) const COUNTRY: Oid = &[0x55, 0x04, 0x06];
pub(crate) const LOCALITY: Oid = &[0x55, 0x04, 0x07];
pub(crate) const STATE: Oid = &[0x55, 0x04, 0x08];
pub(crate) const ORGANIZATION: Oid = &[0x55, 0x04, 0x0a];
pub(crate) const ORGANIZATIONAL_UNIT: Oid = &[0x55, 0x04, 0x0b];

/// Dotted text; hexadecimal if an arc is too large.
pub(crate) fn dotted(content: &[u8]) -> String {
    arcs(content).unwrap_or_else(|| format!("#{}", base16ct::lower::encode_string(content)))
}

fn arcs(content: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut arc = 0u32;
    let mut open = content.len() > 32 || content.is_empty();
    for &byte in content {
        arc = arc.checked_mul(0x80)?.checked_add(u32::from(byte & 0x7f))?;
        open = byte & 0x80 != 0;
        if open {
            continue;
        }
        if text.is_empty() {
            let (first, second) = match arc {
                0..40 => (0, arc),
                40..80 => (1, arc.checked_sub(40)?),
                _ => (2, arc.checked_sub(80)?),
            };
            text = format!("{first}.{second}");
        } else {
            text.push_str(&format!(".{arc}"));
        }
        arc = 0;
    }
    (!open).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        assert_eq!(dotted(EK_CERTIFICATE), "2.23.133.8.1");
        assert_eq!(dotted(RSAES_OAEP), "1.2.840.113549.1.1.7");
        assert_eq!(dotted(SECP384R1), "1.3.132.0.34");
        assert_eq!(dotted(ANY_EXTENDED_KEY_USAGE), "2.5.29.37.0");
        assert_eq!(dotted(&[0x2a, 0x86]), "#2a86");
        assert_eq!(dotted(&[]), "#");
        assert_eq!(dotted(&[0xff; 9]), "#ffffffffffffffffff");
    }
}
