//! Requests that make no sense, and requests that are too long.

use std::sync::Arc;

use prost::Message;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::join_request::Step;
use proto::v1::{JoinAnswer, JoinInit, JoinRequest, RenewRequest};
use testkit::forge::Ca;
use testkit::simulated::{Bytes, SoftwareTpm, TIMEOUT};
use tokio::io::AsyncWriteExt;
use tonic::Code;

use super::harness::Harness;

#[tokio::test]
async fn malformed_requests_are_refused() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let init = tpm.init("t").encode_to_vec();
    let request = |step: Step| JoinRequest { step: Some(step) }.encode_to_vec();
    let whole = request(Step::Init(init.clone()));
    let cases = [
        Vec::new(),
        vec![0x1a, 0x00],
        vec![0xff; 40],
        whole[..whole.len() - 1].to_vec(),
        request(Step::Init(init[..init.len() - 1].to_vec())),
        request(Step::Init(vec![0x0a, 0x05, 0xff])),
        request(Step::Answer(JoinAnswer::default())),
    ];
    for (count, bytes) in cases.into_iter().enumerate() {
        let wire = harness.wire().await;
        let mut join = wire.join().await;
        join.send(bytes).await;
        assert_eq!(join.reply().await.unwrap_err().code(), Code::InvalidArgument);
        harness.assert_refused_after(count, "malformed").await;
    }
    let before = harness.audit().len();
    let (_, mut join, init, _) = harness.challenged(&tpm).await;
    join.send(request(Step::Init(init))).await;
    join.reply().await.unwrap_err();
    harness.assert_refused_after(before, "malformed").await;
}

#[tokio::test]
async fn oversized_requests_are_refused() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let wire = harness.wire().await;
    let mut join = wire.join().await;
    join.init(&JoinInit { hostname: "x".repeat(32 * 1024), ..tpm.init("t") }).await;
    assert_eq!(join.reply().await.unwrap_err().code(), Code::InvalidArgument);
    harness.assert_refused("oversized").await;

    // Long, and yet not too long: the log keeps only the beginning.
    let mut join = harness.wire().await.join().await;
    join.init(&JoinInit { hostname: "x".repeat(30_000), token: "u".into(), ..tpm.init("t") }).await;
    join.reply().await.unwrap_err();
    let line = harness.assert_refused_after(1, "token_unknown").await;
    assert_eq!(line["hostname"].as_str().unwrap().len(), 255);
}

#[tokio::test]
async fn many_certificates_beside_the_ek_are_refused_where_they_would_be_looked_at() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let manufacturer = Ca::new("Some TPM CA");
    tpm.certify(&manufacturer, &[1]);
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    harness.token("t", &rules, &[&manufacturer.root().pem()]).await;
    let wire = harness.wire().await;
    let mut join = wire.join().await;
    join.init(&JoinInit { ek_chain: vec![vec![0; 10]; 17], ..tpm.init("t") }).await;
    join.reply().await.unwrap_err();
    harness.assert_refused("ek_chain_too_long").await;
}

#[tokio::test]
async fn every_truncation_and_every_changed_byte_of_an_init_is_refused_or_harmless() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let init = tpm.init("t").encode_to_vec();
    let truncated = (0..init.len()).map(|length| init[..length].to_vec());
    let changed = (0..init.len()).map(|at| {
        let mut init = init.clone();
        init[at] ^= 0x55;
        init
    });
    let mut count = 0;
    for init in truncated.chain(changed) {
        let wire = harness.wire().await;
        let mut join = wire.join().await;
        join.send(JoinRequest { step: Some(Step::Init(init)) }.encode_to_vec()).await;
        // A challenge can still come, for another key or with another host name; without its answer
        // it is nothing.
        let _ = join.reply().await;
        join.finish();
        count += 1;
    }
    let refused = || {
        let text = harness.authority.metrics_text();
        let joins = text.lines().filter_map(|line| line.strip_prefix("endorse_joins_total{"));
        joins.filter_map(|line| line.split(' ').next_back()?.parse::<usize>().ok()).sum::<usize>()
    };
    let done = async {
        while refused() < count {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, done).await.unwrap();
    let recorded = harness.audit();
    assert!(recorded.iter().all(|line| line["outcome"] == "refused"));
    assert!(recorded.len() < 100, "{} of {count} are recorded in full", recorded.len());
    assert_eq!(harness.instances().await, []);
}

#[tokio::test]
async fn an_unknown_service_is_said_to_be_unknown() {
    let harness = Harness::new().await;
    let wire = harness.wire().await;
    let mut client = proto::v1::admin_service_client::AdminServiceClient::new(wire.channel.clone());
    let status = client.status(proto::v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_join_under_way_comes_to_its_end_when_the_authority_stops() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let (wire, mut join, init, challenge) = harness.challenged(&tpm).await;
    harness.stop();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(tokio::net::TcpStream::connect(harness.address).await.is_err(), "no new connections");
    assert!(!harness.served.is_finished());
    join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
    join.result().await;
    drop((wire, join));
    tokio::time::timeout(TIMEOUT, harness.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn non_tls_client_does_not_affect_others() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(harness.address).await.unwrap());
    }
    let mut plain = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // An alert or a reset, and no HTTP.
    let _ = plain.read_to_end(&mut said).await;
    assert!(said.len() < 100, "{said:?}");
    harness.join(&tpm, "t").await.unwrap();
}

/// A connection without a certificate, after its handshake.
async fn stranger(harness: &Harness) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let trust = tls::ServerTrust::Certificates(vec![harness.ca()]);
    let config = tls::client_config(&trust, None).unwrap();
    let stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    connector.connect(tls::authority_name(), stream).await.unwrap()
}

#[tokio::test]
async fn silent_connection_after_the_handshake_is_closed() {
    use tokio::io::AsyncReadExt;
    let harness = Harness::new().await;
    let mut stream = stranger(&harness).await;
    let mut said = Vec::new();
    // That the end comes without TLS's own is an error here.
    let end = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut said)).await;
    assert!(end.is_ok(), "still open");
    assert_eq!(said, b"");
    let closed = |reason: &str| {
        let line = format!("endorse_connections_closed_total{{reason=\"{reason}\"}} 1\n");
        harness.authority.metrics_text().contains(&line)
    };
    // The end of the connection may be seen before it is counted.
    let counted = async {
        while !closed("no_request") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, counted).await.expect("not counted");
    assert!(!closed("handshake_failed"));
}

#[tokio::test]
async fn request_that_never_ends_is_ended() {
    let harness = Harness::new().await;
    let mut client = tonic::client::Grpc::new(harness.wire().await.channel);
    client.ready().await.unwrap();
    let request = tonic::Request::new(tokio_stream::pending::<Vec<u8>>());
    let path = "/endorse.v1.IdentityService/WhoAmI".parse().unwrap();
    let answer = client.streaming(request, path, Bytes);
    let answer = tokio::time::timeout(2 * TIMEOUT, answer).await.expect("no answer");
    // The connection is closed, since there is no join on it.
    answer.unwrap_err();
}

#[tokio::test]
async fn connection_without_certificate_makes_few_calls() {
    let harness = Harness::new().await;
    let wire = harness.wire().await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(client.renew(RenewRequest::default()).await.unwrap_err().code());
    }
    // As many as an agent makes: a join, and another one with the TPM's certificates.
    assert_eq!(codes[..2], [Code::Unauthenticated; 2]);
    assert!(!codes[2..].contains(&Code::Unauthenticated), "closed: {codes:?}");
    assert_eq!(harness.audit().len(), 2, "what is not handled is not recorded either");
}

#[tokio::test]
async fn join_that_has_not_begun_takes_no_place_of_those_under_way() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let wire = harness.wire().await;
    let _parked = (wire.join().await, wire.join().await);
    let line = "endorse_joins_under_way 0";
    let text = harness.authority.metrics_text();
    assert!(text.lines().any(|have| have == line), "{text}");
    let _challenged = harness.challenged(&tpm).await;
    assert!(harness.authority.metrics_text().contains("endorse_joins_under_way 1"));
}

#[tokio::test]
async fn connection_without_certificate_sends_few_bytes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let harness = Harness::new().await;
    let stream = stranger(&harness).await;
    let (mut answers, mut frames) = tokio::io::split(stream);
    let pings = [&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..]; 1000].concat();
    let flood = async {
        frames.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        while frames.write_all(&pings).await.is_ok() {}
    };
    let mut said = Vec::new();
    let read = answers.read_to_end(&mut said);
    let both = async { tokio::join!(flood, read) };
    tokio::time::timeout(TIMEOUT, both).await.expect("closed").1.unwrap_err();
}

/// Each makes the other end derive new keys, in 27 bytes.
#[tokio::test]
async fn connection_without_certificate_sends_few_tls_records() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let harness = Harness::new().await;
    let mut stream = stranger(&harness).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // The server's settings.
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).await.unwrap();
    stream.read_exact(&mut vec![0; settings[2].into()]).await.unwrap();
    let pings = async {
        let mut answered = 0;
        loop {
            for byte in [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8] {
                if stream.write_all(&[byte]).await.is_err() {
                    return answered;
                }
            }
            // An acknowledgement of the settings, or of a ping.
            if stream.read_exact(&mut [0; 9]).await.is_err() {
                return answered;
            }
            answered += 1;
        }
    };
    let answered = tokio::time::timeout(TIMEOUT, pings).await.expect("closed");
    assert!((3..40).contains(&answered), "{answered}");
}

/// What is parsed of a ClientHello stays in memory while it waits for its turn.
#[tokio::test]
async fn long_client_hello_is_refused() {
    let harness = Harness::new().await;
    let trust = tls::ServerTrust::Certificates(vec![harness.ca()]);
    for (protocols, is_served) in [(10, true), (500, false)] {
        let mut config = (*tls::client_config(&trust, None).unwrap()).clone();
        let others = (0..protocols).map(|n| format!("protocol-{n}").into_bytes());
        config.alpn_protocols.extend(others);
        let stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let opened = connector.connect(tls::authority_name(), stream).await;
        assert_eq!(opened.is_ok(), is_served, "{protocols}");
    }
}

/// Those behind one address wait for each other's handshakes to be computed, and not for each other's TPMs.
#[tokio::test]
async fn waiting_handshakes_do_not_block_others_from_the_same_address() {
    let harness = Harness::new().await;
    let trust = tls::ServerTrust::Certificates(vec![harness.ca()]);
    let config = tls::client_config(&trust, None).unwrap();
    let mut client = rustls::ClientConnection::new(config, tls::authority_name()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..80 {
        let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let answered = tokio::time::timeout(TIMEOUT, stream.readable());
        answered.await.expect("an answer to the ClientHello").unwrap();
        waiting.push(stream);
    }
    let wire = tokio::time::timeout(TIMEOUT, harness.wire()).await;
    wire.expect("a connection");
}

/// What strangers cause on the disk is bounded; what was left out is counted and recorded.
#[tokio::test]
async fn flood_of_refusals_is_recorded_as_a_few_lines_and_a_count() {
    let harness = Harness::new().await;
    let hostile = "\u{1}".repeat(255);
    let flood = JoinInit {
        token: hostile.clone(),
        hostname: hostile.clone(),
        agent_version: hostile,
        ..JoinInit::default()
    };
    let flood = JoinRequest { step: Some(Step::Init(flood.encode_to_vec())) }.encode_to_vec();
    for _ in 0..50 {
        let wire = harness.wire().await;
        for _ in 0..2 {
            let mut join = wire.join().await;
            join.send(flood.clone()).await;
            assert_eq!(join.reply().await.unwrap_err().code(), Code::PermissionDenied);
        }
    }
    let lines = harness.audit();
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().all(|line| line.to_string().len() < 1500), "{lines:?}");
    harness.stop();
    let metrics = harness.authority.metrics_text();
    assert!(metrics.contains("endorse_joins_total{result=\"token_unknown\"} 100"), "{metrics}");
    let Harness { served, dir, .. } = harness;
    served.await.unwrap().unwrap();
    let text = std::fs::read_to_string(dir.path().join("data/audit.jsonl")).unwrap();
    let mut lines =
        text.lines().rev().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let (summary, last) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!((&summary["event"], summary["seq"].is_u64()), (&"calls.refused".into(), true));
    assert_eq!(summary["refusals"], serde_json::json!({"bot.join": {"token_unknown": 100}}));
    assert_eq!(summary["sources"], serde_json::json!({"127.0.0.1": 100}));
    assert_eq!(
        (&last["more"], &last["refusal"]),
        (&90.into(), &"token_unknown".into()),
        "{last:#}"
    );
    assert_eq!(last["addr.remote"], "127.0.0.1");
}
