//! The world that the targets know: one manufacturer, one cluster, one join, recorded once by `examples/record.rs`.

use std::str::FromStr;

use tls::CaPin;
use verifier::{CaCertificate, JoinKey, ServiceKey, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

/// EK certificates of software TPMs, by the same manufacturer.
pub const EK_CERTIFICATES: [&[u8]; 3] = [
    include_bytes!("../fixtures/ek-rsa2048.der"),
    include_bytes!("../fixtures/ek-p256.der"),
    include_bytes!("../fixtures/ek-p384.der"),
];

/// The public area of the P-256 endorsement key, as its TPM tells it.
pub const EK_PUBLIC: &[u8] = include_bytes!("../fixtures/ek-p256.public");

/// The public area of a join key.
pub const JOIN_KEY: &[u8] = include_bytes!("../fixtures/join-key.public");

/// The public area of a service's key that is on record as one in the TPM.
pub const SERVICE_KEY: &[u8] = include_bytes!("../fixtures/service-key.public");

/// The certificate that the cluster issued for [`JOIN_KEY`].
pub const HOST_CERTIFICATE: &[u8] = include_bytes!("../fixtures/host.der");

const ISSUER: &str = include_str!("../fixtures/ek-issuer.pem");
const ROOT: &str = include_str!("../fixtures/ek-root.pem");
const PIN: &str = include_str!("../fixtures/pin");
const NOW: &str = include_str!("../fixtures/now");

/// The certificate of the manufacturer's authority that issued [`EK_CERTIFICATES`].
#[must_use]
pub fn issuer() -> CaCertificate {
    one(ISSUER)
}

/// The certificate of the manufacturer's root.
#[must_use]
pub fn root() -> CaCertificate {
    one(ROOT)
}

/// The join key, appraised.
#[must_use]
pub fn join_key() -> JoinKey {
    JoinKey::appraise(JOIN_KEY).expect("it was when it was recorded")
}

/// The service's key, appraised.
#[must_use]
pub fn service_key() -> ServiceKey {
    ServiceKey::appraise(SERVICE_KEY).expect("it was when it was recorded")
}

/// The EK with which the host joined: SubjectPublicKeyInfo, DER.
#[must_use]
pub fn ek_spki() -> Vec<u8> {
    let [_, p256, _] = EK_CERTIFICATES;
    let certificate = Certificate::from_der(p256).expect("it was when it was recorded");
    certificate.tbs_certificate().subject_public_key_info().to_der().expect("it was read")
}

/// The pin of the cluster's authority.
#[must_use]
pub fn pin() -> CaPin {
    CaPin::from_str(PIN.trim_end()).expect("it was when it was recorded")
}

/// When the join was.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::from_seconds(NOW.trim_end().parse().expect("seconds"))
}

/// The bytes that a certificate's issuer signed: the first element of the outer sequence, header included.
#[must_use]
pub fn signed_part(certificate: &[u8]) -> &[u8] {
    let [0x30, 0x82, _, _, rest @ ..] = certificate else { panic!("not of the usual size") };
    let [0x30, 0x82, high, low, ..] = rest else { panic!("not of the usual size") };
    &rest[..4 + usize::from(u16::from_be_bytes([*high, *low]))]
}

/// Whether one of these certificates has its signed part in `bytes`.
pub(crate) fn was_signed(bytes: &[u8], certificates: &[&[u8]]) -> bool {
    certificates.iter().any(|certificate| {
        let signed = signed_part(certificate);
        bytes.windows(signed.len()).any(|window| window == signed)
    })
}

fn one(pem: &str) -> CaCertificate {
    CaCertificate::from_pem(pem).expect("it was when it was recorded").remove(0)
}
