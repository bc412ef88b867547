//! Whom the ends believe, and whom not.

use std::slice::from_ref;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConnection, Error, ServerConnection};
use testkit::forge::DIGITAL_SIGNATURE;

use super::pki::{AUTHORITY, BOT, CA, Key, Kind, Pki, Template};
use super::{Refusal, converse};
use crate::{
    AUTHORITY_NAME, CaPin, ConfigError, PinError, Roots, ServerTrust, authority_name,
    client_config, identity, server_config,
};

pub(super) fn meet(
    trust: &ServerTrust,
    name: ServerName<'static>,
    presented: Arc<SingleCertAndKey>,
) -> Result<(), Refusal> {
    let client = client_config(trust, None).unwrap();
    // The server asks for certificates of a CA that plays no part.
    let other = Pki::new(Kind::Ed25519).ca;
    let server = server_config(presented, &[other]).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    converse(&mut client, &mut server)
}

fn pin_error(result: Result<(), Refusal>) -> String {
    match result {
        Err(Refusal::Client(Error::InvalidCertificate(CertificateError::Other(error)))) => {
            error.0.downcast_ref::<PinError>().unwrap().to_string()
        }
        other => panic!("not a pin's refusal: {other:?}"),
    }
}

pub(super) fn certificate_error(result: Result<(), Refusal>) -> CertificateError {
    match result {
        Err(Refusal::Client(Error::InvalidCertificate(error))) => error,
        other => panic!("not a certificate's refusal: {other:?}"),
    }
}

/// A chain under a CA certificate other than the usual one, of the same key.
fn chain(pki: &Pki, ca: &Template, leaf: &Template) -> Arc<SingleCertAndKey> {
    let ca = ca.issue(&pki.ca_key, &pki.ca_key);
    let leaf = leaf.issue(&pki.authority_key, &pki.ca_key);
    identity(vec![leaf, ca], pki.authority_key.signing()).unwrap()
}

fn both_trusts(pki: &Pki) -> [ServerTrust; 2] {
    [ServerTrust::Pins(vec![pki.pin()]), ServerTrust::Certificates(vec![pki.ca.clone()])]
}

#[test]
fn the_authority_is_believed_by_pin_and_by_certificate() {
    let pki = Pki::new(Kind::P256);
    for trust in both_trusts(&pki) {
        assert_eq!(meet(&trust, authority_name(), pki.authority_identity()), Ok(()));
    }
    let other = Pki::new(Kind::P256);
    let one_of_two = ServerTrust::Pins(vec![other.pin(), pki.pin()]);
    assert_eq!(meet(&one_of_two, authority_name(), pki.authority_identity()), Ok(()));
    let one_of_two = ServerTrust::Certificates(vec![other.ca, pki.ca.clone()]);
    assert_eq!(meet(&one_of_two, authority_name(), pki.authority_identity()), Ok(()));
}

#[test]
fn another_ca_is_refused_and_named() {
    let (pki, other) = (Pki::new(Kind::P256), Pki::new(Kind::P256));
    let trust = ServerTrust::Pins(vec![other.pin()]);
    let text = pin_error(meet(&trust, authority_name(), pki.authority_identity()));
    assert!(text.contains(&pki.pin().to_string()), "{text}");
    assert!(text.contains("`authority status`"), "{text}");

    let trust = ServerTrust::Certificates(vec![other.ca]);
    let result = meet(&trust, authority_name(), pki.authority_identity());
    // Same names, other key.
    assert_eq!(certificate_error(result), CertificateError::BadSignature);
}

#[test]
fn other_cas_are_named_however_many_are_presented() {
    let (pki, other) = (Pki::new(Kind::P256), Pki::new(Kind::P256));
    for count in [1, 4, 5, 100] {
        let mut chain = vec![pki.ca.clone(); count + 1];
        chain[0] = pki.authority.clone();
        let presented = identity(chain, pki.authority_key.signing()).unwrap();
        let trust = ServerTrust::Pins(vec![other.pin()]);
        let text = pin_error(meet(&trust, authority_name(), Arc::clone(&presented)));
        assert_eq!(text.matches(&pki.pin().to_string()).count(), count.min(4), "{text}");
        let trust = ServerTrust::Pins(vec![pki.pin()]);
        let result = meet(&trust, authority_name(), presented);
        assert_eq!(result.is_ok(), count <= 4, "{count}: {result:?}");
    }
}

#[test]
fn a_chain_without_the_ca_says_so() {
    let pki = Pki::new(Kind::P256);
    let alone = identity(vec![pki.authority.clone()], pki.authority_key.signing()).unwrap();
    let trust = ServerTrust::Pins(vec![pki.pin()]);
    let text = pin_error(meet(&trust, authority_name(), alone));
    assert!(text.starts_with("the server presented no CA certificate"), "{text}");
}

#[test]
fn a_pinned_leaf_is_no_ca() {
    let pki = Pki::new(Kind::P256);
    let trust = ServerTrust::Pins(vec![CaPin::of_certificate(&pki.authority).unwrap()]);
    // As the leaf itself, where a pin is not looked for ...
    let text = pin_error(meet(&trust, authority_name(), pki.authority_identity()));
    assert!(text.contains("than the pinned one"), "{text}");
    // ... and above another leaf that it has signed.
    let text = pin_error(meet(&trust, authority_name(), under(&pki.authority, &pki, AUTHORITY)));
    assert!(text.contains("is not a CA certificate"), "{text}");
}

/// A leaf signed with the authority's leaf key, below `above`.
fn under(above: &CertificateDer<'static>, pki: &Pki, leaf: Template) -> Arc<SingleCertAndKey> {
    let key = Key::new(Kind::P256);
    let leaf = Template { issuer: "CN=authority", ..leaf }.issue(&key, &pki.authority_key);
    identity(vec![leaf, above.clone()], key.signing()).unwrap()
}

#[test]
fn a_pinned_ca_certificate_is_the_keys_own_word() {
    let pki = Pki::new(Kind::P256);
    let trust = ServerTrust::Pins(vec![pki.pin()]);
    for not_ca in [Template { ca: false, ..CA }, Template { usage: DIGITAL_SIGNATURE, ..CA }] {
        let text = pin_error(meet(&trust, authority_name(), chain(&pki, &not_ca, &AUTHORITY)));
        assert!(text.contains("is not a CA certificate"), "{text}");
    }

    // The pinned key in a certificate made by another party.
    let forged = CA.issue(&pki.ca_key, &Key::new(Kind::P256));
    let chain_of =
        |ca| identity(vec![pki.authority.clone(), ca], pki.authority_key.signing()).unwrap();
    let text = pin_error(meet(&trust, authority_name(), chain_of(forged)));
    assert!(text.contains("not signed with that key"), "{text}");

    let over = Template { validity: (-120, -60), ..CA };
    let result = meet(&trust, authority_name(), chain(&pki, &over, &AUTHORITY));
    assert_eq!(certificate_error(result), CertificateError::Expired);
    let early = Template { validity: (60, 120), ..CA };
    let result = meet(&trust, authority_name(), chain(&pki, &early, &AUTHORITY));
    assert_eq!(certificate_error(result), CertificateError::NotValidYet);
}

#[test]
fn a_leaf_of_another_ca_with_the_same_names_is_refused() {
    let (pki, other) = (Pki::new(Kind::P256), Pki::new(Kind::P256));
    let mixed =
        identity(vec![other.authority.clone(), pki.ca.clone()], other.authority_key.signing());
    let mixed = mixed.unwrap();
    for trust in both_trusts(&pki) {
        let result = meet(&trust, authority_name(), mixed.clone());
        assert_eq!(certificate_error(result), CertificateError::BadSignature);
    }
    // Nor when both CAs are presented.
    let chain = vec![other.authority.clone(), pki.ca.clone(), other.ca.clone()];
    let mixed = identity(chain, other.authority_key.signing()).unwrap();
    for trust in both_trusts(&pki) {
        assert!(meet(&trust, authority_name(), mixed.clone()).is_err());
    }
}

#[test]
fn the_leaf_must_be_in_its_time() {
    let pki = Pki::new(Kind::P256);
    for (validity, late) in [((-120, -60), true), ((60, 120), false)] {
        let leaf = Template { validity, ..AUTHORITY };
        for trust in both_trusts(&pki) {
            let result = meet(&trust, authority_name(), chain(&pki, &CA, &leaf));
            match certificate_error(result) {
                CertificateError::ExpiredContext { .. } => assert!(late),
                CertificateError::NotValidYetContext { .. } => assert!(!late),
                error => panic!("{error:?}"),
            }
        }
    }
}

#[test]
fn the_name_is_the_authoritys() {
    let pki = Pki::new(Kind::P256);
    let wrong_name = |result| {
        let error = certificate_error(result);
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    };
    for trust in both_trusts(&pki) {
        for name in ["other.endorse.internal", "192.0.2.1"] {
            let name = ServerName::try_from(name).unwrap();
            wrong_name(meet(&trust, name, pki.authority_identity()));
        }
        // A bot cannot pose as the authority, with a wild card neither.
        let imposter = |dns| chain(&pki, &CA, &Template { dns, ..BOT });
        let wild = meet(&trust, authority_name(), imposter(Some("bot.endorse.internal")));
        wrong_name(wild);
        wrong_name(meet(&trust, authority_name(), imposter(None)));
    }
    assert_eq!(authority_name().to_str(), AUTHORITY_NAME);
}

fn knock(pki: &Pki, client: Option<Arc<dyn ResolvesClientCert>>) -> (Result<(), Refusal>, usize) {
    let trust = ServerTrust::Pins(vec![pki.pin()]);
    let client = client_config(&trust, client).unwrap();
    let server = server_config(pki.authority_identity(), from_ref(&pki.ca)).unwrap();
    let mut client = ClientConnection::new(client, authority_name()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let result = converse(&mut client, &mut server);
    (result, server.peer_certificates().map_or(0, <[_]>::len))
}

#[test]
fn a_client_certificate_is_optional_but_verified() {
    let pki = Pki::new(Kind::P256);
    assert_eq!(knock(&pki, None), (Ok(()), 0));
    assert_eq!(knock(&pki, Some(pki.bot_identity())), (Ok(()), 1));

    let refused = |resolver| match knock(&pki, Some(resolver)).0 {
        Err(Refusal::Server(Error::InvalidCertificate(error))) => error,
        other => panic!("{other:?}"),
    };
    let same_names = Pki::new(Kind::P256);
    assert_eq!(refused(same_names.bot_identity()), CertificateError::BadSignature);
    let bot = |template: Template| {
        let certificate = template.issue(&pki.bot_key, &pki.ca_key);
        identity(vec![certificate], pki.bot_key.signing()).unwrap()
    };
    let error = refused(bot(Template { validity: (-120, -60), ..BOT }));
    assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
    let error = refused(bot(Template { issuer: "CN=unknown", ..BOT }));
    assert_eq!(error, CertificateError::UnknownIssuer);
}

#[test]
fn no_trust_is_no_configuration() {
    let pki = Pki::new(Kind::P256);
    let no_roots = ServerTrust::PublicCas(Roots::new([]));
    for trust in [ServerTrust::Pins(vec![]), ServerTrust::Certificates(vec![]), no_roots] {
        assert!(matches!(client_config(&trust, None), Err(ConfigError::NoTrust)));
    }
    let server = server_config(pki.authority_identity(), &[]);
    assert!(matches!(server, Err(ConfigError::NoTrust)));
    let broken = CertificateDer::from(vec![0x30, 0x03, 1, 1, 0]);
    let error = server_config(pki.authority_identity(), &[pki.ca.clone(), broken]).unwrap_err();
    assert_eq!(error.to_string(), "CA certificate 2 cannot be read");
}
