//! Verifiers for certificates issued directly by a CA, as all of a cluster's are.
//!
//! webpki parses every certificate that a peer presents at every node of its path search, so a peer
//! could use seconds of processor time with hundreds of small ones before it has proven anything. No path of ours has an
//! intermediate: the number is limited before anything is parsed, and the path search gets none.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Certificates that a peer may present above its leaf: the CA, and those of a rotation.
const MAX_ABOVE_LEAF: usize = 4;

/// Refuses a peer that presents more certificates than any path of ours needs.
pub(crate) fn check_count(above_leaf: &[CertificateDer<'_>]) -> Result<(), Error> {
    if above_leaf.len() > MAX_ABOVE_LEAF {
        return Err(CertificateError::UnknownIssuer.into());
    }
    Ok(())
}

/// The certificates above the leaf that may be parsed, however many a peer presents.
pub(crate) fn within_count<'c, 'd>(
    above_leaf: &'c [CertificateDer<'d>],
) -> &'c [CertificateDer<'d>] {
    above_leaf.get(..MAX_ABOVE_LEAF).unwrap_or(above_leaf)
}

/// The wrapped verifier verifies signatures of the handshake.
macro_rules! forward_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    };
}

/// Signatures of the handshake are verified as TLS 1.3 has them.
macro_rules! tls13_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(rustls::PeerIncompatible::Tls12NotOffered.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &ALGORITHMS)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            ALGORITHMS.supported_schemes()
        }
    };
}

pub(crate) use tls13_signatures;

/// Verifies a client's certificate without intermediates.
#[derive(Debug)]
pub(crate) struct DirectClientVerifier(pub(crate) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for DirectClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_count(intermediates)?;
        self.0.verify_client_cert(end_entity, &[], now)
    }

    forward_signatures!();
}

/// Verifies a server's certificate without intermediates.
#[derive(Debug)]
pub(crate) struct DirectServerVerifier(pub(crate) Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for DirectServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_count(intermediates)?;
        self.0.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    forward_signatures!();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses everything, and fails the test if it is handed intermediates.
    #[derive(Debug)]
    struct NoIntermediates;

    impl ServerCertVerifier for NoIntermediates {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            assert!(intermediates.is_empty());
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("not used".into()))
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("not used".into()))
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    #[test]
    fn presented_certificates_are_counted_and_never_searched() {
        let verify = |count: usize| {
            let certificate = CertificateDer::from(vec![0x30, 0]);
            let above = vec![certificate.clone(); count];
            DirectServerVerifier(Arc::new(NoIntermediates)).verify_server_cert(
                &certificate,
                &above,
                &crate::authority_name(),
                &[],
                UnixTime::since_unix_epoch(std::time::Duration::ZERO),
            )
        };
        verify(0).unwrap();
        verify(MAX_ABOVE_LEAF).unwrap();
        assert_eq!(verify(MAX_ABOVE_LEAF + 1).unwrap_err(), CertificateError::UnknownIssuer.into());
    }
}
