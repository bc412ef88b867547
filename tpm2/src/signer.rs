//! Keys in a TPM for software that signs by the traits of the crate `signature`.

use core::cell::RefCell;
use core::fmt;

use der::asn1::{Any, Null, ObjectIdentifier};
use signature::{Error, Keypair, Signer};
use spki::{AlgorithmIdentifierOwned, Document, DynSignatureAlgorithmIdentifier, EncodePublicKey};

use crate::client::Tpm;
use crate::commands::Sign;
use crate::crypto::{ConversionError, HashAlg};
use crate::object::Loaded;
use crate::session::Auth;
use crate::transport::Transport;
use crate::types::{AsymScheme, Curve, HashScheme, Id, ObjectAttributes, Public, Signature};

/// A key in a TPM as a [`Signer`] of the crate `signature`: ECDSA on P-256, P-384 and P-521 (features `p384`, `p521`) and RSASSA
/// (feature `rsa`). It is what the crate `x509-cert` and others sign with:
///
/// ```
/// # use tpm2::{Tpm, object::Loaded, signer::TpmSigner, transport::Transport};
/// use p256::ecdsa::DerSignature;
/// use x509_cert::builder::{Builder, RequestBuilder};
///
/// # fn csr<T: Transport>(tpm: &mut Tpm<T>, key: &Loaded) -> Result<(), Box<dyn std::error::Error>> {
/// let signer = TpmSigner::new(tpm, key, b"the key's password")?;
/// let request = RequestBuilder::new("CN=host.example".parse()?)?;
/// let request = request.build::<_, DerSignature>(&signer)?;
/// # let _ = request;
/// # Ok(())
/// # }
/// ```
///
/// The message is hashed here. A key with a scheme signs by that, one without by ECDSA or RSASSA with the hash that is as strong
/// as the key. The password goes to the TPM as it is.
pub struct TpmSigner<'t, T: Transport> {
    tpm: RefCell<&'t mut Tpm<T>>,
    key: Loaded,
    scheme: AsymScheme,
    hash: HashAlg,
    public: PublicKey,
    password: &'t [u8],
}

/// The public key of a [`TpmSigner`], as a `SubjectPublicKeyInfo`.
#[derive(Clone, Debug)]
pub struct PublicKey(Document);

impl<'t, T: Transport> TpmSigner<'t, T> {
    /// A signer with this key, which stays loaded, and its authorization value.
    ///
    /// # Errors
    /// A key that does not sign, is restricted, or uses another scheme or curve.
    pub fn new(
        tpm: &'t mut Tpm<T>,
        key: &Loaded,
        password: &'t [u8],
    ) -> Result<Self, ConversionError> {
        let public = key.public().map_err(|_| ConversionError::Value)?;
        let (scheme, hash) = scheme(&public)?;
        let document = public.to_public_key_der().map_err(|_| ConversionError::Value)?;
        let (tpm, public) = (RefCell::new(tpm), PublicKey(document));
        Ok(Self { tpm, key: key.clone(), scheme, hash, public, password })
    }

    /// Signs the message and converts the signature.
    fn made<S>(
        &self,
        message: &[u8],
        convert: impl FnOnce(&Signature<'_>) -> Result<S, ConversionError>,
    ) -> Result<S, Error> {
        let digest = self.hash.digest(&[message]);
        let command =
            Sign { in_scheme: self.scheme, ..Sign::digest(self.key.object(), (&digest).into()) };
        let mut tpm = self.tpm.try_borrow_mut().map_err(Error::from_source)?;
        let auth = Auth::password(self.password);
        let answer = tpm.run(&command, [auth]).map_err(Error::from_source)?;
        convert(&answer.signature).map_err(Error::from_source)
    }
}

/// The scheme to sign by, and its hash.
fn scheme(public: &Public<'_>) -> Result<(AsymScheme, HashAlg), ConversionError> {
    if !public.attributes.contains(ObjectAttributes::SIGN) {
        return Err(ConversionError::Kind);
    }
    if public.attributes.contains(ObjectAttributes::RESTRICTED) {
        return Err(ConversionError::Restricted);
    }
    let own = match &public.id {
        Id::Ecc(ecc) => ecc.scheme,
        Id::Rsa(rsa) => rsa.scheme,
        _ => return Err(ConversionError::Kind),
    };
    let scheme = match (own, &public.id) {
        (AsymScheme::Null, Id::Ecc(ecc)) => {
            let hash = match ecc.curve {
                Curve::NIST_P256 => HashAlg::Sha256,
                Curve::NIST_P384 => HashAlg::Sha384,
                Curve::NIST_P521 => HashAlg::Sha512,
                other => return Err(ConversionError::Curve(other)),
            };
            AsymScheme::Ecdsa(HashScheme { hash: hash.alg() })
        }
        (AsymScheme::Null, _) => AsymScheme::Rsassa(HashScheme { hash: HashAlg::Sha256.alg() }),
        (own, _) => own,
    };
    let (AsymScheme::Ecdsa(HashScheme { hash }) | AsymScheme::Rsassa(HashScheme { hash })) = scheme
    else {
        return Err(ConversionError::Scheme(scheme));
    };
    let hash = HashAlg::try_from(hash).map_err(|_| ConversionError::Scheme(scheme))?;
    Ok((scheme, hash))
}

macro_rules! curve {
    ($feature:literal, $name:ident) => {
        #[cfg(feature = $feature)]
        impl<T: Transport> Signer<$name::ecdsa::DerSignature> for TpmSigner<'_, T> {
            fn try_sign(&self, message: &[u8]) -> Result<$name::ecdsa::DerSignature, Error> {
                let signature: $name::ecdsa::Signature = self.try_sign(message)?;
                Ok(signature.to_der())
            }
        }

        #[cfg(feature = $feature)]
        impl<T: Transport> Signer<$name::ecdsa::Signature> for TpmSigner<'_, T> {
            fn try_sign(&self, message: &[u8]) -> Result<$name::ecdsa::Signature, Error> {
                let public = self.key.public().map_err(Error::from_source)?;
                $name::PublicKey::try_from(&public).map_err(Error::from_source)?;
                self.made(message, |signature| signature.try_into())
            }
        }
    };
}

curve!("p256", p256);
curve!("p384", p384);
curve!("p521", p521);

#[cfg(feature = "rsa")]
impl<T: Transport> Signer<rsa::pkcs1v15::Signature> for TpmSigner<'_, T> {
    fn try_sign(&self, message: &[u8]) -> Result<rsa::pkcs1v15::Signature, Error> {
        self.made(message, |signature| match signature {
            Signature::Rsassa(rsassa) => {
                let octets = rsassa.signature.octets();
                rsa::pkcs1v15::Signature::try_from(octets).map_err(|_| ConversionError::Value)
            }
            _ => Err(ConversionError::Kind),
        })
    }
}

impl<T: Transport> Keypair for TpmSigner<'_, T> {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        self.public.clone()
    }
}

impl EncodePublicKey for PublicKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(self.0.clone())
    }
}

impl<T: Transport> EncodePublicKey for TpmSigner<'_, T> {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        self.public.to_public_key_der()
    }
}

/// RFC 5758 §3.2, RFC 4055 §5.
impl<T: Transport> DynSignatureAlgorithmIdentifier for TpmSigner<'_, T> {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        let is_rsa = matches!(self.scheme, AsymScheme::Rsassa(_));
        let oid = ObjectIdentifier::new_unwrap(match (is_rsa, self.hash) {
            (false, HashAlg::Sha1) => "1.2.840.10045.4.1",
            (false, HashAlg::Sha256) => "1.2.840.10045.4.3.2",
            (false, HashAlg::Sha384) => "1.2.840.10045.4.3.3",
            (false, HashAlg::Sha512) => "1.2.840.10045.4.3.4",
            (true, HashAlg::Sha1) => "1.2.840.113549.1.1.5",
            (true, HashAlg::Sha256) => "1.2.840.113549.1.1.11",
            (true, HashAlg::Sha384) => "1.2.840.113549.1.1.12",
            (true, HashAlg::Sha512) => "1.2.840.113549.1.1.13",
        });
        let parameters = is_rsa.then(|| Any::encode_from(&Null)).transpose()?;
        Ok(AlgorithmIdentifierOwned { oid, parameters })
    }
}

impl<T: Transport> fmt::Debug for TpmSigner<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmSigner").field("key", &self.key).finish_non_exhaustive()
    }
}
