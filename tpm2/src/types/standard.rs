//! Keys and signatures in the forms that other software takes.

use super::{Curve, EccPoint, EccPublic, EccSignature, Owned, RsaPublic};

/// The most octets of a coordinate: of P-521.
const MAX_FIELD: usize = 66;

/// A point of a curve in the form of SEC 1.
pub type PointBuf = Owned<133>;

/// An ECDSA signature of fixed length.
pub type EcdsaBuf = Owned<132>;

impl EccPublic<'_> {
    /// The public key, uncompressed, in the form of SEC 1 §2.3.3: what `from_sec1_bytes` of the crates `p256`, `p384` and `p521`
    /// takes. `None` if the curve is unknown, or a coordinate longer than its field.
    #[must_use]
    pub fn to_sec1(&self) -> Option<PointBuf> {
        self.unique.to_sec1(self.curve)
    }
}

impl EccPoint<'_> {
    /// As [`EccPublic::to_sec1`], of a point of this curve.
    #[must_use]
    pub fn to_sec1(&self, curve: Curve) -> Option<PointBuf> {
        const UNCOMPRESSED: u8 = 4;
        let (x, y) = (padded(self.x.octets(), curve)?, padded(self.y.octets(), curve)?);
        PointBuf::concat(&[&[UNCOMPRESSED], x.octets(), y.octets()])
    }
}

impl EccSignature<'_> {
    /// r ‖ s, each as long as a number of this curve: what `from_slice` of the signatures of the crates `p256`, `p384` and `p521`
    /// takes, and JWTs have. `None` if the curve is unknown, or a number too long for it.
    #[must_use]
    pub fn to_fixed(&self, curve: Curve) -> Option<EcdsaBuf> {
        let (r, s) = (padded(self.r.octets(), curve)?, padded(self.s.octets(), curve)?);
        EcdsaBuf::concat(&[r.octets(), s.octets()])
    }
}

impl RsaPublic<'_> {
    /// The public exponent, which a TPM writes as 0 if it is 65537.
    #[must_use]
    pub const fn public_exponent(&self) -> u32 {
        const DEFAULT: u32 = 65537;
        if self.exponent == 0 { DEFAULT } else { self.exponent }
    }
}

/// A number with as many zeros before it as the curve's field asks for: a TPM may leave them out.
fn padded(octets: &[u8], curve: Curve) -> Option<Owned<MAX_FIELD>> {
    let len = curve.field_len()?;
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    let digits = octets.get(zeros..)?;
    let missing = [0; MAX_FIELD];
    Owned::concat(&[missing.get(..len.checked_sub(digits.len())?)?, digits])
}

#[cfg(test)]
mod tests {
    use super::super::{Alg, EccParameter};
    use super::*;

    #[test]
    fn numbers_are_as_long_as_the_field_of_their_curve() {
        let curve = Curve::NIST_P256;
        let point = EccPoint { x: EccParameter::from(&[7; 31]), y: EccParameter::from(&[9; 32]) };
        let sec1 = point.to_sec1(curve).unwrap();
        assert_eq!((sec1.octets().len(), &sec1.octets()[..3]), (65, &[4, 0, 7][..]));
        let long = [&[0; 2][..], &[9; 32]].concat();
        let r = EccParameter::new(&long).unwrap();
        let signature = EccSignature { hash: Alg::SHA256, r, s: EccParameter::from(&[1]) };
        let fixed = signature.to_fixed(curve).unwrap();
        assert_eq!((&fixed.octets()[..32], fixed.octets()[63]), (&[9; 32][..], 1));
        assert_eq!(signature.to_fixed(Curve::NIST_P384).unwrap().octets().len(), 96);
        let longer = EccPoint { x: EccParameter::from(&[7; 33]), ..point };
        assert_eq!(longer.to_sec1(curve), None);
        assert_eq!(point.to_sec1(Curve(0x7777)), None);
    }
}
