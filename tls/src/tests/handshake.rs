//! In memory: every certificate algorithm with every suite and every group, and what goes with it.

use std::io::{Read, Write};
use std::slice::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::NamedGroup;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SigningKey;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
};
use signature::hazmat::PrehashSigner;

use super::pki::{KINDS, Key, Kind, Pki};
use super::{Refusal, converse, deliver, flight};
use crate::trust::roots;
use crate::{
    DigestSigner, RemoteKey, RemoteKeyError, ServerTrust, authority_name, client_config,
    count_tickets, identity, is_http2, join_exporter, provider, server_config, software_key,
};

fn pair(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (ClientConnection, ServerConnection) {
    let client = ClientConnection::new(client.clone(), authority_name()).unwrap();
    (client, ServerConnection::new(server.clone()).unwrap())
}

fn configs(pki: &Pki) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let trust = ServerTrust::Pins(vec![pki.pin()]);
    let client = client_config(&trust, Some(pki.bot_identity())).unwrap();
    (client, server_config(pki.authority_identity(), from_ref(&pki.ca)).unwrap())
}

/// One suite and one group, the rest as it is.
fn only(suite: usize, group: usize) -> Arc<CryptoProvider> {
    let all = provider();
    Arc::new(CryptoProvider {
        cipher_suites: vec![all.cipher_suites[suite]],
        kx_groups: vec![all.kx_groups[group]],
        ..(*all).clone()
    })
}

fn exchange(client: &mut ClientConnection, server: &mut ServerConnection, text: &[u8]) {
    client.writer().write_all(text).unwrap();
    server.writer().write_all(text).unwrap();
    converse(client, server).unwrap();
    let mut heard = vec![0; text.len()];
    server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(heard, text);
    client.reader().read_exact(&mut heard).unwrap();
    assert_eq!(heard, text);
}

#[test]
fn every_certificate_suite_and_group() {
    for kind in KINDS {
        let pki = Pki::new(kind);
        let server = server_config(pki.authority_identity(), from_ref(&pki.ca)).unwrap();
        for suite in 0..3 {
            for group in 0..3 {
                let limited = only(suite, group);
                let client = ClientConfig::builder_with_provider(limited.clone())
                    .with_protocol_versions(&[&TLS13])
                    .unwrap()
                    .with_root_certificates(roots(from_ref(&pki.ca)).unwrap())
                    .with_client_cert_resolver(pki.bot_identity());
                let (mut client, mut server) = pair(&Arc::new(client), &server);
                let agreed = converse(&mut client, &mut server);
                if limited.kx_groups[0].name() == NamedGroup::secp384r1 {
                    // Computed for any stranger, it costs too much.
                    assert!(agreed.is_err(), "{kind:?}");
                    continue;
                }
                agreed.unwrap();
                exchange(&mut client, &mut server, &[0x5A; 9_000]);
                let agreed = server.negotiated_cipher_suite().unwrap();
                assert_eq!(agreed, limited.cipher_suites[0], "{kind:?}");
                let agreed = client.negotiated_key_exchange_group().unwrap().name();
                assert_eq!(agreed, limited.kx_groups[0].name(), "{kind:?}");
                assert_eq!(server.peer_certificates(), Some(from_ref(&pki.bot)));
            }
        }
    }
}

#[test]
fn the_ready_configurations_fit_each_other() {
    for kind in KINDS {
        let pki = Pki::new(kind);
        let (client, server) = configs(&pki);
        let (mut client, mut server) = pair(&client, &server);
        assert!(join_exporter(&client).is_err(), "nothing is agreed on yet");
        converse(&mut client, &mut server).unwrap();
        for protocol in [client.alpn_protocol(), server.alpn_protocol()] {
            assert_eq!(protocol, Some(b"h2".as_slice()));
        }
        assert!(is_http2(&client) && is_http2(&server));
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(server.peer_certificates(), Some(from_ref(&pki.bot)));
        assert_eq!(join_exporter(&client).unwrap(), join_exporter(&server).unwrap());
    }
}

#[test]
fn server_without_a_word_on_http2_is_noticed() {
    let pki = Pki::new(Kind::P256);
    let (client, server) = configs(&pki);
    let mut server = Arc::unwrap_or_clone(server);
    server.alpn_protocols.clear();
    let (mut client, mut server) = pair(&client, &Arc::new(server));
    converse(&mut client, &mut server).unwrap();
    assert!(!is_http2(&client));
}

#[test]
fn each_connection_exports_its_own() {
    let pki = Pki::new(Kind::P256);
    let (client, server) = configs(&pki);
    let mut seen: Vec<[u8; 32]> = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = pair(&client, &server);
        converse(&mut client, &mut server).unwrap();
        let exported = join_exporter(&client).unwrap();
        assert_eq!(exported, join_exporter(&server).unwrap());
        let mut other = [0; 32];
        client.export_keying_material(&mut other, b"EXPORTER-other", None).unwrap();
        assert_ne!(exported, other);
        assert!(!seen.contains(&exported));
        seen.push(exported);
    }
}

#[test]
fn a_hello_retry_request_finds_the_common_group() {
    let pki = Pki::new(Kind::P256);
    let (client, _) = configs(&pki);
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(from_ref(&pki.ca)).unwrap()),
        provider(),
    );
    let server = ServerConfig::builder_with_provider(only(1, 2))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_cert_resolver(pki.authority_identity());
    let (mut client, mut server) = pair(&client, &Arc::new(server));
    converse(&mut client, &mut server).unwrap();
    assert_eq!(client.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    exchange(&mut client, &mut server, b"through P-384");
}

#[test]
fn keys_are_updated_when_asked() {
    let pki = Pki::new(Kind::P256);
    for suite in 0..3 {
        let client = ClientConfig::builder_with_provider(only(suite, 0))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots(from_ref(&pki.ca)).unwrap())
            .with_no_client_auth();
        let (mut client, mut server) = pair(&Arc::new(client), &configs(&pki).1);
        converse(&mut client, &mut server).unwrap();
        for round in 0..3 {
            exchange(&mut client, &mut server, format!("before {round}").as_bytes());
            client.refresh_traffic_keys().unwrap();
            server.refresh_traffic_keys().unwrap();
            exchange(&mut client, &mut server, format!("after {round}").as_bytes());
        }
    }
}

#[test]
fn nothing_is_resumed() {
    let pki = Pki::new(Kind::P256);
    let (_, server) = configs(&pki);
    // A client that would resume if it were given anything to resume from.
    let mut eager = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots(from_ref(&pki.ca)).unwrap())
        .with_client_cert_resolver(pki.bot_identity());
    eager.enable_early_data = true;
    let eager = Arc::new(eager);
    for _ in 0..3 {
        let (mut client, mut server) = pair(&eager, &server);
        assert!(client.early_data().is_none());
        converse(&mut client, &mut server).unwrap();
        exchange(&mut client, &mut server, b"and no ticket after it");
        assert_eq!(client.tls13_tickets_received(), 0);
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn session_tickets_are_counted_and_not_used() {
    let pki = Pki::new(Kind::P256);
    let (client, server) = configs(&pki);
    let mut generous = ServerConfig::clone(&server);
    generous.session_storage = ServerSessionMemoryCache::new(64);
    generous.send_tls13_tickets = 20;
    let generous = Arc::new(generous);
    let tickets = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tickets);
    let client = count_tickets(&client, move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    for connections in 1..=2 {
        let (mut client, mut server) = pair(&client, &generous);
        converse(&mut client, &mut server).unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(tickets.load(Ordering::Relaxed), connections * 20);
    }
}

#[test]
fn rsa_private_keys_are_refused() {
    let refused = |der: PrivateKeyDer<'static>| software_key(der).unwrap_err().to_string();
    let text = refused(PrivateKeyDer::Pkcs1(vec![0x30, 0x00].into()));
    assert!(text.contains("RSA"), "{text}");
    assert!(text.contains("use a P-256, P-384 or Ed25519 key"), "{text}");
    for damaged in [&[][..], &[0x30], &[0x30, 0x80], &[0xFF; 64]] {
        refused(PrivateKeyDer::Pkcs8(damaged.to_vec().into()));
        refused(PrivateKeyDer::Sec1(damaged.to_vec().into()));
    }
}

#[test]
fn a_key_is_not_taken_for_another_certificates() {
    let pki = Pki::new(Kind::P256);
    assert!(identity(vec![pki.bot.clone()], pki.authority_key.signing()).is_err());
    assert!(identity(vec![], pki.bot_key.signing()).is_err());
}

#[test]
fn debug_output_has_no_secret() {
    for kind in KINDS {
        let key = Key::new(kind).signing();
        let scheme =
            key.choose_scheme(&provider().signature_verification_algorithms.supported_schemes());
        assert_eq!(format!("{key:?}"), format!("SoftwareKey({:?})", scheme.unwrap().scheme()));
    }
}

/// A stand-in for a TPM, whose answers can be spoiled.
#[derive(Debug)]
struct Chip {
    key: p256::ecdsa::SigningKey,
    spoil: Mutex<Spoil>,
}

type Spoil = fn(Vec<u8>) -> Result<Vec<u8>, &'static str>;

impl DigestSigner for Chip {
    fn public_key(&self) -> SubjectPublicKeyInfoDer<'static> {
        Key::P256(self.key.clone()).spki()
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let signature: p256::ecdsa::DerSignature = self.key.sign_prehash(digest)?;
        let spoil = *self.spoil.lock().unwrap();
        Ok(spoil(signature.as_bytes().to_vec())?)
    }
}

fn chip(pki: &Pki) -> Arc<Chip> {
    let Key::P256(key) = pki.bot_key.clone() else { panic!("the bot's key is on P-256") };
    Arc::new(Chip { key, spoil: Mutex::new(Ok) })
}

#[test]
fn a_remote_key_authenticates_clients_and_servers() {
    let pki = Pki::new(Kind::P256);
    let key = Arc::new(RemoteKey::new(chip(&pki)).unwrap());
    let remote = identity(vec![pki.bot.clone()], key).unwrap();

    let trust = ServerTrust::Certificates(vec![pki.ca.clone()]);
    let client = client_config(&trust, Some(remote.clone())).unwrap();
    let (mut client, mut server) = pair(&client, &configs(&pki).1);
    converse(&mut client, &mut server).unwrap();
    assert_eq!(server.peer_certificates(), Some(from_ref(&pki.bot)));

    // As a server it is a bot and not the authority: the name is what is refused, not the key.
    let server = server_config(remote, from_ref(&pki.ca)).unwrap();
    let (mut client, mut server) = pair(&configs(&pki).0, &server);
    let refusal = converse(&mut client, &mut server).unwrap_err();
    assert!(matches!(refusal, Refusal::Client(_)), "{refusal:?}");
}

#[test]
fn a_spoiled_signature_does_not_leave() {
    let pki = Pki::new(Kind::P256);
    let chip = chip(&pki);
    let key = Arc::new(RemoteKey::new(chip.clone()).unwrap());
    let remote = identity(vec![pki.bot.clone()], key).unwrap();
    let trust = ServerTrust::Pins(vec![pki.pin()]);
    let client = client_config(&trust, Some(remote)).unwrap();
    type Expected = fn(&RemoteKeyError) -> bool;
    let cases: [(Spoil, Expected); 5] = [
        (|_| Err("the bus is gone"), |error| matches!(error, RemoteKeyError::Signer(_))),
        (|_| Ok(vec![]), |error| matches!(error, RemoteKeyError::NotASignature)),
        (|der| Ok([der, vec![0]].concat()), |error| matches!(error, RemoteKeyError::NotASignature)),
        (
            |mut der| {
                *der.last_mut().unwrap() ^= 1;
                Ok(der)
            },
            |error| matches!(error, RemoteKeyError::WrongSignature),
        ),
        (
            |_| {
                let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
                let other: p256::ecdsa::DerSignature = key.sign_prehash(&[0; 32]).unwrap();
                Ok(other.as_bytes().to_vec())
            },
            |error| matches!(error, RemoteKeyError::WrongSignature),
        ),
    ];
    for (number, (spoil, expected)) in cases.into_iter().enumerate() {
        *chip.spoil.lock().unwrap() = spoil;
        let (mut client, mut server) = pair(&client, &configs(&pki).1);
        deliver(&flight(&mut client), &mut server).unwrap();
        let Err(rustls::Error::Other(error)) = deliver(&flight(&mut server), &mut client) else {
            panic!("case {number} was not noticed")
        };
        let error = error.0.downcast_ref::<RemoteKeyError>().unwrap();
        assert!(expected(error), "case {number}: {error}");
        assert!(client.is_handshaking());
    }
    *chip.spoil.lock().unwrap() = Ok;
    let (mut client, mut server) = pair(&client, &configs(&pki).1);
    converse(&mut client, &mut server).unwrap();
}

#[derive(Debug)]
struct Claims(SubjectPublicKeyInfoDer<'static>);

impl DigestSigner for Claims {
    fn public_key(&self) -> SubjectPublicKeyInfoDer<'static> {
        self.0.clone()
    }

    fn sign(&self, _: &[u8; 32]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        Err("never asked".into())
    }
}

#[test]
fn a_remote_key_is_on_p256() {
    for claim in [Key::new(Kind::P384).spki(), Key::new(Kind::Ed25519).spki(), vec![0x30].into()] {
        let error = RemoteKey::new(Arc::new(Claims(claim))).unwrap_err();
        assert!(matches!(error, RemoteKeyError::NotP256), "{error}");
    }
    let key = RemoteKey::new(Arc::new(Claims(Key::new(Kind::P256).spki()))).unwrap();
    assert!(key.choose_scheme(&[rustls::SignatureScheme::ED25519]).is_none());
}
