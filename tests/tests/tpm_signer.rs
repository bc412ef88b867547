//! Keys in a TPM as keys of other crates: certificate requests that OpenSSL verifies, and public keys that tpm2-tools export.

use std::fs;

use anyhow::{Result, ensure};
use signature::{Keypair, Signer, Verifier};
use spki::{DecodePublicKey, EncodePublicKey, SignatureBitStringEncoding};
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{Way, client, start_tcp};
use tests::world::run;
use tpm2::crypto::ConversionError;
use tpm2::object::{self, Loaded};
use tpm2::session::Auth;
use tpm2::signer::TpmSigner;
use tpm2::template::{self, AK_P256, ecc_signing, rsa_decryption, rsa_signing};
use tpm2::types::{
    Alg, AsymScheme, AuthValue, Curve, HashScheme, Hierarchy, Id, Public, SensitiveCreate,
    SensitiveData,
};
use tpm2::{Fault, Tpm};
use verifier::EkPublicKey;
use x509_cert::builder::{Builder, RequestBuilder};
use x509_cert::der::EncodePem;
use x509_cert::der::pem::LineEnding;

const PIN: &[u8] = b"pin";

fn create(tpm: &mut Tpm<Way>, template: &Public<'_>) -> Result<Loaded> {
    let sensitive = SensitiveCreate { user_auth: AuthValue::new(PIN)?, data: SensitiveData::EMPTY };
    let auth = Auth::EMPTY;
    Ok(object::create_primary(tpm, Hierarchy::Owner, auth, template, sensitive)?.0)
}

/// The key with this template signs a request, which OpenSSL verifies.
fn request<S: SignatureBitStringEncoding>(swtpm: &Swtpm, template: &Public<'_>) -> Result<String>
where
    for<'t> TpmSigner<'t, Way>: Signer<S>,
{
    let mut tpm = client(swtpm)?;
    let key = create(&mut tpm, template)?;
    let signer = TpmSigner::new(&mut tpm, &key, PIN)?;
    let request = RequestBuilder::new("CN=host.example".parse()?)?.build::<_, S>(&signer)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("request.pem").display().to_string();
    fs::write(&file, request.to_pem(LineEnding::LF)?)?;
    run("openssl", &["req", "-verify", "-noout", "-text", "-in", &file])
}

const fn rsassa(hash: Alg) -> AsymScheme {
    AsymScheme::Rsassa(HashScheme { hash })
}

#[test]
fn certificate_request_of_each_kind_of_key_is_verified_by_openssl() -> Result<()> {
    use rsa::pkcs1v15;

    let swtpm = start_tcp(Kind::NoCertificates)?;
    let ecdsa = |curve, hash| ecc_signing(curve, hash);
    let p256 = ecdsa(Curve::NIST_P256, Alg::SHA256);
    let text = request::<p256::ecdsa::DerSignature>(&swtpm, &p256)?;
    ensure!(text.contains("ecdsa-with-SHA256") && text.contains("P-256"), "{text}");
    let p384 = ecdsa(Curve::NIST_P384, Alg::SHA384);
    let text = request::<p384::ecdsa::DerSignature>(&swtpm, &p384)?;
    ensure!(text.contains("ecdsa-with-SHA384") && text.contains("P-384"), "{text}");
    let text = request::<pkcs1v15::Signature>(&swtpm, &rsa_signing(2048, rsassa(Alg::SHA384)))?;
    ensure!(text.contains("sha384WithRSAEncryption") && text.contains("2048 bit"), "{text}");

    // Without a scheme of their own, keys sign as is usual for them.
    let mut any = p256;
    if let Id::Ecc(ecc) = &mut any.id {
        ecc.scheme = AsymScheme::Null;
    }
    let text = request::<p256::ecdsa::DerSignature>(&swtpm, &any)?;
    ensure!(text.contains("ecdsa-with-SHA256"), "{text}");
    let text = request::<pkcs1v15::Signature>(&swtpm, &rsa_signing(2048, AsymScheme::Null))?;
    ensure!(text.contains("sha256WithRSAEncryption"), "{text}");
    Ok(())
}

#[test]
fn public_key_is_the_one_that_tpm2_tools_export() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    for template in [
        ecc_signing(Curve::NIST_P256, Alg::SHA256),
        ecc_signing(Curve::NIST_P384, Alg::SHA384),
        rsa_signing(2048, rsassa(Alg::SHA256)),
    ] {
        let mut tpm = client(&swtpm)?;
        let key = create(&mut tpm, &template)?;
        fs::write(path("key.ctx"), tpm2::tools::save_context(&mut tpm, &key)?)?;
        let public = key.public()?;
        let der = public.to_public_key_der()?;
        drop(tpm);
        let export = ["-c", &path("key.ctx"), "-f", "der", "-o", &path("key.der")];
        swtpm.tool("tpm2_readpublic", &export)?;
        assert_eq!(der.as_bytes(), fs::read(path("key.der"))?);
        EkPublicKey::from_spki(der.as_bytes())?;

        let as_p256 = p256::PublicKey::try_from(&public);
        let as_p384 = p384::PublicKey::try_from(&public);
        let as_rsa = rsa::RsaPublicKey::try_from(&public);
        match public.id {
            Id::Ecc(ecc) if ecc.curve == Curve::NIST_P256 => {
                assert_eq!(as_p256?, p256::PublicKey::from_public_key_der(der.as_bytes())?);
                assert_eq!(as_p384, Err(ConversionError::Curve(Curve::NIST_P256)));
                assert_eq!(as_rsa, Err(ConversionError::Kind));
            }
            Id::Ecc(_) => {
                assert_eq!(as_p384?, p384::PublicKey::from_public_key_der(der.as_bytes())?);
                assert_eq!(as_p256, Err(ConversionError::Curve(Curve::NIST_P384)));
            }
            _ => {
                assert_eq!(as_rsa?, rsa::RsaPublicKey::from_public_key_der(der.as_bytes())?);
                assert_eq!(as_p256, Err(ConversionError::Kind));
            }
        }
    }
    Ok(())
}

#[test]
fn signature_is_verified_by_the_crate_of_the_curve() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = create(&mut tpm, &ecc_signing(Curve::NIST_P256, Alg::SHA256))?;
    let public = p256::PublicKey::try_from(&key.public()?)?;
    let signer = TpmSigner::new(&mut tpm, &key, PIN)?;
    let made: p256::ecdsa::Signature = signer.try_sign(b"a message")?;
    p256::ecdsa::VerifyingKey::from(public).verify(b"a message", &made)?;
    assert!(p256::ecdsa::VerifyingKey::from(public).verify(b"another", &made).is_err());
    let spki = signer.verifying_key().to_public_key_der()?;
    assert_eq!(spki.as_bytes(), signer.to_public_key_der()?.as_bytes());

    let other: Result<p384::ecdsa::Signature, _> = signer.try_sign(b"a message");
    assert!(other.is_err(), "a key of P-256 makes no signature of P-384");
    let other: Result<rsa::pkcs1v15::Signature, _> = signer.try_sign(b"a message");
    assert!(other.is_err(), "a key of P-256 makes no signature of RSA");
    Ok(())
}

#[test]
fn key_that_cannot_sign_so_is_refused_and_so_is_a_wrong_password() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    for (template, why) in [
        (AK_P256, ConversionError::Restricted),
        (rsa_decryption(2048, AsymScheme::Null), ConversionError::Kind),
        (template::hmac(Alg::SHA256), ConversionError::Kind),
        (
            rsa_signing(2048, AsymScheme::Rsapss(HashScheme { hash: Alg::SHA256 })),
            ConversionError::Scheme(AsymScheme::Rsapss(HashScheme { hash: Alg::SHA256 })),
        ),
    ] {
        let key = create(&mut tpm, &template)?;
        assert_eq!(TpmSigner::new(&mut tpm, &key, PIN).map(drop).unwrap_err(), why);
        tpm.flush(key.handle())?;
    }
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let template =
        template.with_attributes(template.attributes | tpm2::types::ObjectAttributes::NO_DA);
    let key = create(&mut tpm, &template)?;
    let signer = TpmSigner::new(&mut tpm, &key, b"wrong")?;
    let signed: Result<p256::ecdsa::DerSignature, _> = signer.try_sign(b"a message");
    let error = signed.map(drop).unwrap_err();
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
    let source: Option<&tpm2::Error> = source;
    assert!(source.is_some_and(|source| matches!(source.fault(), Fault::Refused(_))), "{error}");
    Ok(())
}
