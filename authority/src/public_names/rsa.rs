//! RSA keys of public names in TLS 1.3: RSASSA-PSS alone, RFC 8446 section 4.2.3.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::PrivateKeyDer;
use verifier::EkPublicKey;

use crate::rsa_key::{RsaKeyError, RsaScheme, RsaSigningKey};

/// What a client may offer, in our order of preference.
const SCHEMES: [(SignatureScheme, RsaScheme); 3] = [
    (SignatureScheme::RSA_PSS_SHA256, RsaScheme::PssSha256),
    (SignatureScheme::RSA_PSS_SHA384, RsaScheme::PssSha384),
    (SignatureScheme::RSA_PSS_SHA512, RsaScheme::PssSha512),
];

/// Reads an RSA key; `None` if it is of another algorithm.
pub(super) fn rsa_key(der: &PrivateKeyDer<'_>) -> Option<Result<Arc<dyn SigningKey>, RsaKeyError>> {
    let key = match der {
        PrivateKeyDer::Pkcs1(der) => RsaSigningKey::from_pkcs1(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            let info = pkcs8::PrivateKeyInfoRef::try_from(der).ok()?;
            if info.algorithm.oid != const_oid::db::rfc5912::RSA_ENCRYPTION {
                return None;
            }
            RsaSigningKey::from_pkcs8(der)
        }
        _ => return None,
    };
    Some(key.map(|key| Arc::new(RsaTlsKey(Arc::new(key))) as Arc<dyn SigningKey>))
}

struct RsaTlsKey(Arc<RsaSigningKey>);

impl SigningKey for RsaTlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let (name, scheme) = SCHEMES.into_iter().find(|(name, _)| offered.contains(name))?;
        Some(Box::new(RsaSigner { key: Arc::clone(&self.0), name, scheme }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let spki = EkPublicKey::Rsa(self.0.public().clone()).spki_der();
        Some(SubjectPublicKeyInfoDer::from(spki))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl fmt::Debug for RsaTlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RsaTlsKey").field(self.0.public()).finish()
    }
}

#[derive(Debug)]
struct RsaSigner {
    key: Arc<RsaSigningKey>,
    name: SignatureScheme,
    scheme: RsaScheme,
}

impl Signer for RsaSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.sign(self.scheme, message).map_err(|cause| Error::General(cause.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.name
    }
}
