//! Whom a certificate of Teleport was issued to. Its subject has attributes of Teleport's own, of which the agent needs three.

use base16ct::lower::encode_string as hex;
use x509_cert::Certificate;
use x509_cert::attr::AttributeValue;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::name::Name;

use super::Names;

/// `id-at-organizationName`, RFC 4519; of an issuer the cluster, of a subject the roles.
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const GENERATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.1.14");
const BOT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.18");
const INSTANCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.9999.2.20");

/// The names in a certificate, DER. Nothing is verified.
///
/// # Errors
/// What is missing.
pub(crate) fn names(der: &[u8]) -> Result<Names, &'static str> {
    let certificate = Certificate::from_der(der).map_err(|_| "a malformed certificate")?;
    let tbs = certificate.tbs_certificate();
    let (subject, issuer) = (tbs.subject(), tbs.issuer());
    let generation = only(subject, GENERATION).ok_or("a certificate without a generation")?;
    Ok(Names {
        cluster: first(issuer, ORGANIZATION)
            .ok_or("a certificate without the name of the cluster in its issuer")?,
        bot: only(subject, BOT).ok_or("a certificate without the name of a bot")?,
        instance: only(subject, INSTANCE).ok_or("a certificate without a bot instance")?,
        generation: generation.parse().map_err(|_| "a generation that is not a number")?,
    })
}

/// The roles in a certificate, DER: its organizations. Nothing is verified.
///
/// # Errors
/// It is malformed.
pub(crate) fn roles(der: &[u8]) -> Result<Vec<String>, &'static str> {
    let certificate = Certificate::from_der(der).map_err(|_| "a malformed certificate")?;
    let roles = values(certificate.tbs_certificate().subject(), ORGANIZATION).collect();
    Option::ok_or(roles, "a role that is not text")
}

/// The serial number of a certificate, DER: its bytes in lowercase hexadecimal, joined by colons.
///
/// # Errors
/// It is malformed.
pub(crate) fn serial(der: &[u8]) -> Result<String, &'static str> {
    let certificate = Certificate::from_der(der).map_err(|_| "a malformed certificate")?;
    // A positive number whose first bit is set begins with a zero.
    let bytes = certificate.tbs_certificate().serial_number().as_bytes();
    let magnitude = bytes.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(bytes);
    let bytes: Vec<_> = magnitude.iter().map(|&byte| hex(&[byte])).collect();
    Ok(bytes.join(":"))
}

/// The value of an attribute that must not be repeated.
fn only(name: &Name, attribute: ObjectIdentifier) -> Option<String> {
    let mut values = values(name, attribute);
    values.next().filter(|_| values.next().is_none())?
}

/// The first value of an attribute.
fn first(name: &Name, attribute: ObjectIdentifier) -> Option<String> {
    values(name, attribute).next()?
}

fn values(name: &Name, attribute: ObjectIdentifier) -> impl Iterator<Item = Option<String>> {
    name.iter().filter(move |one| one.oid == attribute).map(|one| text(&one.value))
}

/// A string in one of the types that Go writes.
fn text(value: &AttributeValue) -> Option<String> {
    let is_text = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    let text = std::str::from_utf8(value.value()).ok().filter(|_| is_text)?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A certificate by OpenSSL whose issuer and subject are these.
    fn certificate(subject: &str, issuer: &str) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let names = [("ca", issuer), ("leaf", subject)].map(|(name, dn)| {
            let conf = format!("[req]\ndistinguished_name=d\nprompt=no\n[d]\n{dn}\n");
            std::fs::write(directory.path().join(format!("{name}.cnf")), conf).unwrap();
            name
        });
        let openssl = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            let output = command.current_dir(directory.path()).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        for name in names {
            let (conf, out) = (format!("{name}.cnf"), format!("{name}.key"));
            let config = ["-config", &conf, "-keyout", &out, "-out"];
            let [request, end]: [&[&str]; 2] = match name {
                "ca" => [&["req", "-x509"], &["ca.pem"]],
                _ => [&["req"], &["leaf.csr"]],
            };
            openssl(&[request, &key[..], &config[..], end].concat());
        }
        let sign = ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key"];
        openssl(&[&sign[..], &["-outform", "DER"]].concat())
    }

    const SUBJECT: &str =
        "O=r\nCN=bot-web\n1.1.3.9999.1.14=7\n1.1.3.9999.2.18=web\n1.1.3.9999.2.20=i";

    #[test]
    fn names_are_read_from_the_attributes_of_teleport() {
        let expected = Names {
            cluster: "c.example".into(),
            bot: "web".into(),
            instance: "i".into(),
            generation: 7,
        };
        assert_eq!(names(&certificate(SUBJECT, "O=c.example\nCN=c")), Ok(expected));
    }

    #[test]
    fn roles_and_serial_are_those_that_openssl_shows() {
        let leaf = certificate(&format!("1.O=q\n{SUBJECT}"), "O=c.example");
        assert_eq!(roles(&leaf), Ok(vec!["q".to_owned(), "r".to_owned()]));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("leaf.der");
        std::fs::write(&file, &leaf).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-inform", "DER", "-noout", "-serial", "-in"]).arg(&file);
        let shown = String::from_utf8(openssl.output().unwrap().stdout).unwrap();
        let digits = shown.trim().trim_start_matches("serial=").to_lowercase();
        assert_eq!(serial(&leaf).unwrap().replace(':', ""), digits);
        assert!(roles(b"0").is_err() && serial(b"0").is_err());
    }

    #[test]
    fn missing_or_repeated_names_are_refused() {
        let refused = |subject: &str, issuer| names(&certificate(subject, issuer)).unwrap_err();
        let issuer = "O=c.example";
        for (attribute, said) in [
            ("1.1.3.9999.1.14=7", "a certificate without a generation"),
            ("1.1.3.9999.2.18=web", "a certificate without the name of a bot"),
            ("1.1.3.9999.2.20=i", "a certificate without a bot instance"),
        ] {
            assert_eq!(refused(&SUBJECT.replace(attribute, "L=l"), issuer), said);
            let twice = format!("{SUBJECT}\n2.{}", attribute.strip_prefix("1.").unwrap());
            assert_eq!(refused(&twice, issuer), said, "{twice}");
        }
        let number = SUBJECT.replace("14=7", "14=x");
        assert_eq!(refused(&number, issuer), "a generation that is not a number");
        assert!(refused(SUBJECT, "CN=c").contains("name of the cluster"));
        assert_eq!(names(b"0"), Err("a malformed certificate"));
    }
}
