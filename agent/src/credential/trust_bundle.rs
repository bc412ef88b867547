//! The CAs that a host trusts. The operator's pins authenticate the authority for the join; afterwards the bundle does, as
//! the last answer of the authority had it. So a cluster can replace its CA without a new configuration on any host.

use rustls::pki_types::{CertificateDer, TrustAnchor};
use tls::CaPin;
use webpki::anchor_from_trusted_cert;

use super::validity::Validity;

/// CAs that an answer may have.
const MAX_CAS: usize = 16;

/// What authenticated the connection that an answer came over.
#[derive(Clone, Copy, Debug)]
pub enum Voucher<'a> {
    /// CAs of the cluster, with these keys.
    ClusterCas(&'a [CaPin]),
    /// A certificate of a public CA. It says nothing about the CAs of the cluster: they are those of the answer.
    PublicName,
}

/// The CA certificates of a trust domain, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    certificates: Vec<Vec<u8>>,
    pins: Vec<CaPin>,
}

impl TrustBundle {
    /// Reads CA certificates, DER.
    ///
    /// # Errors
    /// The list is empty or too long, or a certificate cannot be read.
    pub fn new<'d>(certificates: impl IntoIterator<Item = &'d [u8]>) -> Result<Self, String> {
        let certificates = certificates.into_iter().take(MAX_CAS.saturating_add(1));
        let certificates: Vec<_> = certificates.map(<[u8]>::to_vec).collect();
        if certificates.is_empty() {
            return Err("no X.509 CA".into());
        }
        if certificates.len() > MAX_CAS {
            return Err("too many X.509 CAs".into());
        }
        let pin = |der: &Vec<u8>| CaPin::of_certificate(&CertificateDer::from(der.as_slice()));
        let pins = certificates.iter().map(pin).collect::<Result<_, _>>();
        Ok(Self { pins: pins.map_err(|error| error.to_string())?, certificates })
    }

    /// Accepts the bundle of an answer. If CAs of the cluster authenticated the connection that it came over, it must have
    /// one of them, or the agent would refuse the next connection.
    ///
    /// # Errors
    /// As [`Self::new`]; or the bundle has none of these CAs.
    pub fn vouched<'d>(
        certificates: impl IntoIterator<Item = &'d [u8]>,
        voucher: Voucher<'_>,
    ) -> Result<Self, String> {
        let bundle = Self::new(certificates)?;
        let is_vouched = match voucher {
            Voucher::ClusterCas(trusted) => bundle.pins.iter().any(|pin| trusted.contains(pin)),
            Voucher::PublicName => true,
        };
        match is_vouched {
            true => Ok(bundle),
            false => Err("only X.509 CAs that this host does not trust".into()),
        }
    }

    /// The CAs by their keys.
    #[must_use]
    pub fn pins(&self) -> &[CaPin] {
        &self.pins
    }

    /// Each CA: its key, and from when to when it is valid if the certificate says so.
    pub fn cas(&self) -> impl Iterator<Item = (CaPin, Option<Validity>)> {
        let validities = self.certificates.iter().map(|der| super::validity(der));
        self.pins.iter().copied().zip(validities)
    }

    /// The CA certificates, DER.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// The CAs as what certificates are verified with.
    pub(super) fn anchors(&self) -> Result<Vec<TrustAnchor<'static>>, webpki::Error> {
        let anchor = |der: &Vec<u8>| {
            Ok(anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))?.to_owned())
        };
        self.certificates.iter().map(anchor).collect()
    }
}
