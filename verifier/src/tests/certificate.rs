//! What one certificate may look like.

use super::forge::*;
use crate::der::{element, tag, unsigned};
use crate::pem::Bundle;
use crate::{
    CaCertificate, CertificateError, EkCertificate, EkPublicKey, Exponents, Fault, Hash, KeyError,
    SignatureAlgorithm, oid,
};

fn rsa() -> Template {
    Template::ek(&rsa_key("ek").spki_der())
}

fn ecc() -> Template {
    Template::ek(&ecc_key("ek").spki_der())
}

/// Accepted, and vouched for: what is borne must not disturb the chain.
fn borne(template: Template) -> EkCertificate {
    let certificate = template.certificate();
    let anchors = [template.issuer.anchor()];
    crate::chain::verify(&certificate, &[], &anchors, NOW, Default::default()).unwrap();
    certificate
}

fn refused(template: Template) -> CertificateError {
    EkCertificate::parse(&template.der()).unwrap_err()
}

fn serial(content: &[u8]) -> String {
    borne(rsa().with(|r| r.serial = element(tag::INTEGER, content))).serial()
}

#[test]
fn everything_that_a_certificate_says() {
    let certificate = borne(rsa());
    assert_eq!(certificate.public_key(), &rsa_key("ek"));
    assert_eq!(certificate.serial(), "5e:cd:5f:8e");
    assert_eq!(certificate.issuer_text(), "CN=issuer");
    assert_eq!(certificate.issuer(), named("issuer"));
    assert_eq!(certificate.subject(), [0x30, 0]);
    assert_eq!(certificate.not_before().to_string(), "2024-01-01T00:00:00Z");
    assert_eq!(certificate.not_after().to_string(), "2099-12-31T23:59:59Z");
    assert_eq!(certificate.signature_algorithm(), &SignatureAlgorithm::Ecdsa(Hash::Sha256));
    let tpm = certificate.tpm().unwrap();
    assert_eq!(tpm.manufacturer.as_deref(), Some("id:4E544300"));
    assert_eq!(tpm.vendor(), Some("Nuvoton"));
    assert_eq!(tpm.to_string(), "Nuvoton NPCT75x id:00070002");
    assert_eq!(borne(ecc()).public_key(), &ecc_key("ek"));
}

#[test]
fn serial_numbers_as_the_field_has_them() {
    assert_eq!(serial(&[0x00]), "00");
    assert_eq!(serial(&[0x00, 0x00]), "00");
    assert_eq!(serial(&[0x05]), "05");
    assert_eq!(serial(&[0x00, 0xff]), "ff");
    assert_eq!(serial(&[0x00, 0x00, 0x12, 0x34]), "12:34");
    assert_eq!(serial(&[0xff, 0x7f]), "81");
    for content in [&[][..], &[1; 65]] {
        let error = refused(rsa().with(|r| r.serial = element(tag::INTEGER, content)));
        assert_eq!(error.to_string(), "serialNumber at offset 13: is not of 1 to 64 bytes");
    }
}

#[test]
fn header_and_padding_in_nv_only() {
    let der = rsa().der();
    let wrapped = [&[0x10, 0x01, 0x00, 0x01, 0x00], &der[..], &[0xff; 300]].concat();
    let padded = [&der[..], &[0xff; 300]].concat();
    for content in [&wrapped[..], &padded, &[&der[..], &[0; 9000]].concat(), &der] {
        assert_eq!(EkCertificate::from_nv(content).unwrap().der(), der);
    }
    let trailing = EkCertificate::parse(&[&der[..], &[0]].concat()).unwrap_err();
    assert_eq!(trailing, CertificateError::TrailingBytes { offset: der.len() });
    assert!(EkCertificate::parse(&wrapped).is_err());
    for content in [&[][..], &[0xff; 1000], &[0x10, 0x01, 0x00], &[0x10, 0x01, 0x00, 0, 0]] {
        let error = EkCertificate::from_nv(content).unwrap_err();
        assert_eq!(error.fault(), Fault::Malformed, "{error}");
    }
    let beyond = EkCertificate::from_nv(&der[..der.len() - 1]).unwrap_err().to_string();
    assert_eq!(beyond, "certificate at offset 4: is cut short");
    let indefinite = [&[0x30, 0x80], &der[4..], &[0, 0]].concat();
    let indefinite = EkCertificate::from_nv(&indefinite).unwrap_err().to_string();
    assert_eq!(indefinite, "certificate at offset 1: has an indefinite length");
}

#[test]
fn nv_header_with_the_tag_of_a_full_certificate_is_skipped() {
    let der = rsa().der();
    // The length counts the tag.
    let [high, low] = u16::try_from(der.len() + 2).unwrap().to_be_bytes();
    let header = [0x10, 0x01, 0x00, high, low, 0x10, 0x02];
    let stored = [&header[..], &der, &[0xff; 40]].concat();
    assert_eq!(EkCertificate::from_nv(&stored).unwrap().der(), der);
    assert_eq!(EkCertificate::from_nv(&header).unwrap_err().fault(), Fault::Malformed);
}

#[test]
fn ecdsa_with_null_parameters_is_ecdsa() {
    let null = seq(&[&identifier(oid::ECDSA_WITH_SHA256), &[tag::NULL, 0]]);
    let leaf = borne(rsa().with(|r| r.algorithm = null.clone()));
    assert_eq!(leaf.signature_algorithm(), &SignatureAlgorithm::Ecdsa(Hash::Sha256));
    let ca = Ca::new("issuer");
    let root = Template::ca(&ca).issued_by(&ca).with(|r| r.algorithm = null).ca_certificate();
    crate::chain::verify(&leaf, &[], &[root], NOW, Default::default()).unwrap();
}

#[test]
fn either_key_usage_of_encryption_fits_either_kind_of_key() {
    for key in [rsa(), ecc()] {
        for usage in [KEY_AGREEMENT, KEY_ENCIPHERMENT] {
            borne(key.clone().extension(key_usage(usage)));
        }
    }
}

#[test]
fn nothing_larger_than_a_certificate_is_looked_at() {
    let large = rsa().extension(extension(&[0x2a, 3], &[0; 9000])).der();
    let error = CertificateError::TooLarge { length: large.len() };
    assert_eq!(EkCertificate::parse(&large).unwrap_err(), error);
    assert_eq!(EkCertificate::from_nv(&large).unwrap_err(), error);
    assert_eq!(CaCertificate::parse(&large).unwrap_err(), error);
}

#[test]
fn an_oaep_key_is_an_rsa_key() {
    let key = seq(&[&unsigned(&modulus("ek", 256)), &unsigned(&[1, 0, 1])]);
    let bits = element(tag::BIT_STRING, &[&[0], &key[..]].concat());
    let oaep = identifier(oid::RSAES_OAEP);
    for parameters in [&b""[..], &[tag::NULL, 0], &seq(&[&element(0xa2, &seq(&[]))])] {
        let spki = seq(&[&seq(&[&oaep, parameters]), &bits]);
        let certificate = borne(rsa().with(|r| r.spki = spki.clone()));
        assert_eq!(certificate.public_key().spki_der(), rsa_key("ek").spki_der());
        assert!(matches!(EkPublicKey::from_spki(&spki), Err(KeyError::NotCanonical)));
    }
}

#[test]
fn sets_need_not_be_sorted() {
    let b = attribute(oid::TPM_MODEL, "b");
    let a = attribute(oid::TPM_MANUFACTURER, "id:49465800");
    let unsorted = element(tag::SET, &[b, a].concat());
    let mut issuer = Ca::new("issuer");
    issuer.name = seq(&[&unsorted]);
    let san = critical(oid::SUBJECT_ALT_NAME, &san(&unsorted));
    let tpm = borne(rsa().issued_by(&issuer).extension(san)).tpm().cloned().unwrap();
    assert_eq!((tpm.vendor(), tpm.model.as_deref()), (Some("Infineon"), Some("b")));
}

#[test]
fn other_names_beside_the_directory_name() {
    let directory = san(&element(tag::SET, &attribute(oid::TPM_MODEL, "m")));
    let uri = element(tag::context(6), b"urn:tpm");
    let names = seq(&[&uri, &directory[2..], &uri]);
    let certificate = borne(rsa().extension(extension(oid::SUBJECT_ALT_NAME, &names)));
    assert_eq!(certificate.tpm().unwrap().model.as_deref(), Some("m"));
    assert_eq!(borne(rsa().without(oid::SUBJECT_ALT_NAME)).tpm(), None);
    let uri_only = extension(oid::SUBJECT_ALT_NAME, &seq(&[&uri]));
    assert_eq!(borne(rsa().extension(uri_only)).tpm(), None);
}

#[test]
fn der_violations_of_real_chips_are_accepted() {
    borne(rsa().extension(key_usage(&[0, 0x20])));
    borne(rsa().extension(extension_saying(0x01, oid::BASIC_CONSTRAINTS, &seq(&[]))));
    let no_ca = seq(&[&element(tag::BOOLEAN, &[0])]);
    borne(rsa().extension(extension_saying(0x00, oid::BASIC_CONSTRAINTS, &no_ca)));
    borne(rsa().extension(extension_saying(0x00, &[0x2a, 3], b"not understood")));
    borne(rsa().with(|r| r.not_after = generalized("99991231235959Z")));
    borne(rsa().with(|r| r.subject = named("with a name")));
    borne(rsa().without(oid::KEY_USAGE).without(oid::EXTENDED_KEY_USAGE));
    borne(rsa().without(oid::BASIC_CONSTRAINTS));
    let purpose = seq(&[&identifier(oid::EK_CERTIFICATE)]);
    borne(rsa().extension(critical(oid::EXTENDED_KEY_USAGE, &purpose)));
    let qualifiers = seq(&[&seq(&[&identifier(&[0x2a, 3])])]);
    let policies = seq(&[&seq(&[&identifier(&[0x55, 0x1d, 0x20, 0]), &qualifiers])]);
    borne(rsa().extension(critical(oid::CERTIFICATE_POLICIES, &policies)));
    let boolean = refused(rsa().extension(extension_saying(2, oid::KEY_USAGE, &[])));
    assert!(boolean.to_string().starts_with("critical at offset"), "{boolean}");
}

#[test]
fn not_an_endorsement_key_s() {
    assert_eq!(refused(rsa().extension(ca_constraints(None))), CertificateError::IsCa);
    assert_eq!(
        refused(rsa().extension(key_usage(&[7, 0x80]))),
        CertificateError::KeyUsage("keyEncipherment")
    );
    assert_eq!(
        refused(rsa().extension(key_usage(&[0]))),
        CertificateError::KeyUsage("keyEncipherment")
    );
    assert_eq!(
        refused(ecc().extension(key_usage(&[7, 0x80]))),
        CertificateError::KeyUsage("keyAgreement")
    );
    for list in [&[][..], &[oid::ANY_EXTENDED_KEY_USAGE], &[&[0x67, 0x81, 0x05, 0x08, 0x03]]] {
        let error = refused(rsa().extension(purposes(list)));
        assert_eq!(error, CertificateError::ExtendedKeyUsage);
        assert_eq!(error.fault(), Fault::Untrusted);
    }
}

#[test]
fn extensions_that_are_refused() {
    assert_eq!(
        refused(rsa().extension(critical(&[0x55, 0x1d, 0x24], &seq(&[])))),
        CertificateError::CriticalExtension("2.5.29.36".to_owned())
    );
    for saying in [critical, extension] {
        let constraints = saying(oid::NAME_CONSTRAINTS, &seq(&[]));
        assert_eq!(refused(rsa().extension(constraints)), CertificateError::NameConstraints);
    }
    let twice = rsa().with(|r| r.extensions.push(key_usage(KEY_ENCIPHERMENT)));
    let error = CertificateError::DuplicateExtension("2.5.29.15".to_owned());
    assert_eq!(refused(twice), error);
    let no_ca = element(tag::BOOLEAN, &[0]);
    let length = critical(oid::BASIC_CONSTRAINTS, &seq(&[&no_ca, &unsigned(&[0])]));
    assert!(refused(rsa().extension(length)).to_string().contains("is there without cA"));
    let unused = refused(rsa().extension(key_usage(&[5, 0x21]))).to_string();
    assert!(unused.contains("unused bits that are set"), "{unused}");
}

#[test]
fn structure_that_is_refused() {
    for (version, number) in [
        (vec![], 1),
        (element(tag::constructed(0), &unsigned(&[0])), 1),
        (element(tag::constructed(0), &unsigned(&[1])), 2),
        (element(tag::constructed(0), &unsigned(&[0xff, 0xff, 0xff, 0xff])), u32::MAX),
    ] {
        let error = refused(rsa().with(|r| r.version = version));
        assert_eq!(error, CertificateError::Version(number));
    }
    let differ = rsa().with(|r| r.outer_algorithm = Some(seq(&[&identifier(&[0x2a, 3])])));
    assert_eq!(refused(differ), CertificateError::AlgorithmsDiffer);
    let backwards = rsa().with(|r| r.not_after = utc("231231235959Z"));
    assert_eq!(refused(backwards), CertificateError::Validity);
    let mut nameless = Ca::new("issuer");
    nameless.name = seq(&[]);
    assert_eq!(refused(rsa().issued_by(&nameless)), CertificateError::NameMissing("issuer"));
    for parameters in
        [&[tag::OCTET_STRING, 0][..], &[tag::NULL, 1, 0], &[tag::NULL, 0, tag::NULL, 0]]
    {
        let algorithm = seq(&[&identifier(oid::ECDSA_WITH_SHA256), parameters]);
        let error = refused(rsa().with(|r| r.algorithm = algorithm)).to_string();
        assert!(error.contains("left over"), "{error}");
    }
}

#[test]
fn weak_and_unknown_keys() {
    let key = |spki: Vec<u8>| {
        let from_certificate = refused(rsa().with(|r| r.spki = spki.clone()));
        let alone = EkPublicKey::from_spki(&spki).unwrap_err();
        assert_eq!(from_certificate, CertificateError::from(alone.clone()));
        alone
    };
    let f4 = &[1, 0, 1][..];
    assert_eq!(key(rsa_spki(&modulus("k", 128), f4)), KeyError::ModulusSize(1024));
    assert_eq!(key(rsa_spki(&modulus("k", 513), f4)), KeyError::ModulusSize(4104));
    assert_eq!(key(rsa_spki(&modulus("k", 264), f4)), KeyError::ModulusSize(2112));
    let mut small = modulus("k", 256);
    small[0] = 0x7f;
    assert_eq!(key(rsa_spki(&small, f4)), KeyError::ModulusSize(2047));
    let mut even = modulus("k", 256);
    even[255] &= 0xfe;
    assert_eq!(key(rsa_spki(&even, f4)), KeyError::ModulusEven);
    for exponent in [&[0][..], &[1], &[3], &[17], &[1, 0, 0], &[1, 0, 2]] {
        let error = key(rsa_spki(&modulus("k", 256), exponent));
        assert!(matches!(error, KeyError::Exponent(_)), "{error}");
        assert_eq!(error.fault(), Fault::Weak);
    }
    let huge = EkPublicKey::from_spki(&rsa_spki(&modulus("k", 256), &[1, 0, 0, 0, 1]));
    let huge = huge.unwrap_err().to_string();
    assert!(huge.contains("larger than 32 bits"), "{huge}");

    let EkPublicKey::Ecc(point) = ecc_key("k") else { panic!("not ECC") };
    let mut off = point.sec1().to_vec();
    off[64] ^= 1;
    assert_eq!(key(ecc_spki(oid::SECP256R1, &off)), KeyError::PointOffCurve);
    assert_eq!(key(ecc_spki(oid::SECP256R1, &[&[4], &[0; 64][..]].concat())).fault(), Fault::Weak);
    let compressed = [&[2], point.x()].concat();
    for wrong in [&compressed[..], &[0], &[], point.x(), &off[..64], &[&off[..], &[0]].concat()] {
        assert_eq!(key(ecc_spki(oid::SECP256R1, wrong)), KeyError::PointForm);
    }
    assert_eq!(key(ecc_spki(oid::SECP384R1, point.sec1())), KeyError::PointForm);
    assert_eq!(key(ecc_spki(oid::SECP521R1, point.sec1())), KeyError::PointForm);
    let k256 = &[0x2b, 0x81, 0x04, 0x00, 0x0a];
    assert_eq!(key(ecc_spki(k256, point.sec1())), KeyError::Curve("1.3.132.0.10".to_owned()));
    let ed25519 = seq(&[&seq(&[&identifier(&[0x2b, 0x65, 0x70])]), &element(3, &[0; 33])]);
    assert_eq!(key(ed25519), KeyError::Algorithm("1.3.101.112".to_owned()));
}

#[test]
fn exponent_three_by_policy_only() {
    let der = rsa().with(|r| r.spki = rsa_spki(&modulus("k", 256), &[3])).der();
    let error = EkCertificate::parse(&der).unwrap_err();
    assert_eq!(error, CertificateError::Key(KeyError::Exponent(3)));
    assert!(EkCertificate::parse_under(&der, Exponents::AtLeast65537Or3).is_ok());
}

#[test]
fn keys_without_certificate_are_canonical() {
    for key in [rsa_key("k"), ecc_key("k")] {
        let spki = key.spki_der();
        assert_eq!(EkPublicKey::from_spki(&spki).unwrap(), key);
        let trailing = [&spki[..], &[0]].concat();
        assert!(matches!(EkPublicKey::from_spki(&trailing), Err(KeyError::Der(_))));
        for end in 0..spki.len() {
            assert!(EkPublicKey::from_spki(&spki[..end]).is_err(), "{end}");
        }
    }
    assert_eq!(EkPublicKey::from_spki(&[0x30; 9000]), Err(KeyError::NotCanonical));
}

#[test]
fn authorities() {
    let ca = Ca::new("ca");
    let template = || Template::ca(&ca).issued_by(&ca);
    let refused = |template: Template| CaCertificate::parse(&template.der()).unwrap_err();
    let good = template().ca_certificate();
    assert_eq!((good.subject(), good.subject_text()), (&ca.name[..], "CN=ca".to_owned()));
    assert_eq!(good.fingerprint().len(), 64);
    template().without(oid::KEY_USAGE).ca_certificate();
    template().extension(key_usage(&[0, 0x06])).ca_certificate();

    assert_eq!(refused(template().without(oid::BASIC_CONSTRAINTS)), CertificateError::IsNotCa);
    assert_eq!(
        refused(template().extension(critical(oid::BASIC_CONSTRAINTS, &seq(&[])))),
        CertificateError::IsNotCa
    );
    assert_eq!(
        refused(template().extension(key_usage(KEY_ENCIPHERMENT))),
        CertificateError::KeyUsage("keyCertSign")
    );
    assert_eq!(
        refused(template().with(|r| r.subject = seq(&[]))),
        CertificateError::NameMissing("subject")
    );
    let constraints = critical(oid::NAME_CONSTRAINTS, &seq(&[]));
    assert_eq!(refused(template().extension(constraints)), CertificateError::NameConstraints);
    let three = template().with(|r| r.spki = rsa_spki(&modulus("k", 256), &[3])).der();
    assert!(CaCertificate::parse(&three).is_err());
    assert!(CaCertificate::parse_under(&three, Exponents::AtLeast65537Or3).is_ok());
    let odd_size = template().with(|r| r.spki = rsa_spki(&modulus("k", 320), &[1, 0, 1]));
    odd_size.ca_certificate();
}

#[test]
fn unreadable_certificate_in_a_bundle_is_named_and_the_rest_are_read() {
    let [one, other] = ["one", "other"].map(|name| Ca::new(name).anchor());
    let critical = critical(&[0x2a, 3], &[]);
    let odd = Ca::new("odd");
    let odd = Template::ca(&odd).issued_by(&odd).extension(critical).der();
    let block = |der: &[u8]| {
        let base64 = <base64ct::Base64 as base64ct::Encoding>::encode_string(der);
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    };
    let no_base64 = block(&[]).replace("\n\n", "\nM\n");
    let text =
        [block(one.der()), block(&odd), no_base64, block(&[0x30, 0]), block(other.der())].concat();
    let bundle = Bundle::read(&text).unwrap();
    let read: Vec<_> = bundle.cas.iter().map(CaCertificate::der).collect();
    assert_eq!(read, [one.der(), other.der()]);
    let line = block(one.der()).lines().count();
    let unreadable: Vec<_> = bundle.unreadable.iter().map(ToString::to_string).collect();
    assert_eq!(
        unreadable,
        [
            format!(
                "block 2 at line {}, \"CN=odd\": extension 1.2.3 is critical and not understood",
                line + 1
            ),
            format!("block 3 at line {}: not base64", line + 4),
            format!("block 4 at line {}: tbsCertificate at offset 2: is missing", line + 7),
        ]
    );
    assert_eq!(CaCertificate::from_pem(&text).unwrap_err(), bundle.unreadable[0]);
    assert_eq!(CaCertificate::from_pem(&block(one.der())).unwrap()[0].der(), one.der());
    // A text that is no bundle has nothing that could be used.
    Bundle::read(&text.replace("END CERTIFICATE", "END")).unwrap_err();
}
