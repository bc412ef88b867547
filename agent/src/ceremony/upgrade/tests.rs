use tokio::io::duplex;

use super::*;

/// The example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                    Sec-WebSocket-Protocol: alpn\r\n\r\n";

fn refused(head: &str, kind: Kind) -> String {
    check(head.as_bytes(), kind, KEY).unwrap_err().to_string()
}

#[test]
fn accepted_response_is_of_this_request() {
    assert_eq!(accept(KEY), ACCEPT);
    check(GOOD.as_bytes(), Kind::WebSocket, KEY).unwrap();
    let other = check(GOOD.as_bytes(), Kind::WebSocket, "AAAAAAAAAAAAAAAAAAAAAA==").unwrap_err();
    assert!(other.to_string().contains("of another request"), "{other}");
    for (kind, token) in [(Kind::AlpnPing, "alpn-ping"), (Kind::Alpn, "alpn")] {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {token}\r\n\r\n");
        check(head.as_bytes(), kind, KEY).unwrap();
        assert!(refused(&head, Kind::WebSocket).contains("does not upgrade to websocket"));
    }
}

#[test]
fn response_that_is_no_upgrade_is_refused_by_its_fault() {
    for (from, to, words) in [
        ("HTTP/1.1 101", "HTTP/1.1 302", "status 302"),
        ("HTTP/1.1 101", "HTTP/1.1 200", "status 200"),
        ("HTTP/1.1 101", "SSH-2.0-x", "malformed"),
        ("\r\nConnection", "\n\nConnection", "first empty line"),
        ("Upgrade: WebSocket", "Upgrade: h2c", "does not upgrade to websocket"),
        ("Upgrade: WebSocket\r\n", "", "does not upgrade to websocket"),
        ("Sec-WebSocket-Accept: s", "Sec-WebSocket-Accept: t", "of another request"),
        ("Protocol: alpn", "Protocol: chat", "subprotocol is not alpn"),
        ("Sec-WebSocket-Protocol: alpn\r\n", "", "subprotocol is not alpn"),
        ("Connection", "Sec-WebSocket-Extensions: x\r\nConnection", "not offered"),
        // A second one is ambiguous.
        ("Connection", "Upgrade: websocket\r\nConnection", "does not upgrade to websocket"),
    ] {
        let head = GOOD.replacen(from, to, 1);
        assert_ne!(head, GOOD);
        let why = refused(&head, Kind::WebSocket);
        assert!(why.contains(words), "{head}\n{why}");
    }
    let many = format!("Connection: Upgrade\r\n{}", "X: y\r\n".repeat(MAX_FIELDS));
    assert!(
        refused(&GOOD.replace("Connection: Upgrade\r\n", &many), Kind::WebSocket)
            .contains("too many")
    );
}

#[tokio::test]
async fn head_without_end_is_refused_and_nothing_behind_it_is_read() {
    let (mut client, mut server) = duplex(64 * 1024);
    server.write_all(&[b'x'; 2 * MAX_HEAD]).await.unwrap();
    let error = read_head(&mut client).await.unwrap_err();
    assert!(error.to_string().contains("longer than 8192 bytes"), "{error}");

    let (mut client, mut server) = duplex(64 * 1024);
    server.write_all(format!("{GOOD}behind").as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut client).await.unwrap(), GOOD.as_bytes());
    let mut behind = [0; 6];
    client.read_exact(&mut behind).await.unwrap();
    assert_eq!(&behind, b"behind");

    let (mut client, server) = duplex(16);
    drop(server);
    assert_eq!(read_head(&mut client).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// What is read of these frames, in parts of `cut` bytes, and what was sent for them.
async fn read(frames: &[u8], budget: usize, cut: usize) -> (io::Result<Vec<u8>>, Vec<u8>) {
    let (client, mut server) = duplex(cut);
    let frames = frames.to_vec();
    let other = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(&mut server);
        let mut sent = Vec::new();
        let write = async {
            let _ = writer.write_all(&frames).await;
            let _ = writer.shutdown().await;
        };
        let (_, _) = tokio::join!(write, reader.read_to_end(&mut sent));
        sent
    });
    let mut socket = WebSocket::new(client, Budget::new(budget));
    let mut data = Vec::new();
    let result = socket.read_to_end(&mut data).await;
    // A fault ends the connection, answered or not.
    if result.is_ok() {
        socket.flush().await.unwrap();
    }
    drop(socket);
    (result.map(|_| data), other.await.unwrap())
}

const PLENTY: usize = 1024 * 1024;

#[tokio::test]
async fn messages_are_one_stream_wherever_they_are_cut() {
    let long = [&[0x82, 126, 0x01, 0x00][..], &[b'l'; 256]].concat();
    let longer = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[b'L'; 65_536]].concat();
    let frames = [
        &[0x82, 3][..],
        b"one",
        // A message of three frames, and a ping in between.
        &[0x02, 2],
        b"tw",
        &[0x89, 2],
        b"hi",
        &[0x00, 0],
        &[0x80, 1],
        b"o",
        &[0x8a, 4],
        b"pong",
        &long,
        &longer,
        &[0x88, 2, 3, 0xe8],
        b"after the end",
    ]
    .concat();
    let expected = [&b"onetwo"[..], &[b'l'; 256], &[b'L'; 65_536]].concat();
    for cut in [1, 2, 7, 64 * 1024] {
        let (data, sent) = read(&frames, PLENTY, cut).await;
        assert!(data.unwrap() == expected, "cut {cut}");
        // The pong, masked.
        let [0x8a, 0x82, mask @ .., h, i] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!([h ^ mask[0], i ^ mask[1]], *b"hi");
    }
}

#[tokio::test]
async fn each_violation_of_the_protocol_ends_the_stream() {
    for (frames, words) in [
        (&[0x82, 0x81, 1, 2, 3, 4, 5][..], "masked"),
        (&[0x81, 1, b'x'], "neither binary"),
        (&[0x83, 1, b'x'], "neither binary"),
        (&[0xc2, 1, b'x'], "reserved"),
        (&[0x80, 1, b'x'], "out of order"),
        (&[0x02, 1, b'x', 0x82, 1, b'x'], "out of order"),
        (&[0x09, 0], "fragmented"),
        (&[0x89, 126, 0, 126], "too long"),
        (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "63 bits"),
        (&[0x82, 5, b'x'], "unexpected end"),
        (&[0x82], "unexpected end"),
        (&[0x82, 1, b'x'], "unexpected end"),
    ] {
        let (data, _) = read(frames, PLENTY, 64 * 1024).await;
        let error = data.unwrap_err().to_string();
        assert!(error.contains(words), "{frames:x?}: {error}");
    }
}

#[tokio::test]
async fn pings_spend_the_budget() {
    let pings = [0x89, 0].repeat(1000);
    let (data, sent) = read(&pings, 100 * FRAME_COST, 64 * 1024).await;
    assert_eq!(data.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    // Each pong has six bytes.
    assert!(sent.len() <= 100 * 6, "{}", sent.len());
}

/// The frames of a client, unmasked, by the rules of RFC 6455, 5.2.
fn unmasked(mut frames: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let [0x82, second, rest @ ..] = frames {
        assert!(second & 0x80 != 0, "not masked");
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        data.extend(rest[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frames = &rest[length..];
    }
    assert!(frames.is_empty(), "{frames:?}");
    data
}

#[tokio::test]
async fn written_bytes_are_masked_frames_with_a_new_mask_each() {
    let all: Vec<u8> = (0..100_000_u32).map(|number| number.to_be_bytes()[3]).collect();
    let (client, mut server) = duplex(1000);
    let written = all.clone();
    let writer = tokio::spawn(async move {
        let mut socket = WebSocket::new(client, Budget::new(PLENTY));
        for part in [&written[..1], &written[1..126], &written[126..1000], &written[1000..]] {
            socket.write_all(part).await.unwrap();
        }
        socket.shutdown().await.unwrap();
    });
    let mut frames = Vec::new();
    server.read_to_end(&mut frames).await.unwrap();
    writer.await.unwrap();
    assert!(unmasked(&frames) == all);
    // First frame: a byte. Then the header of the second one.
    assert_ne!(frames[2..6], frames[9..13], "the same mask twice");
}

#[tokio::test]
async fn packets_and_pings_are_one_stream_both_ways() {
    let (client, mut server) = duplex(64);
    let mut stream = PingStream::new(client, Budget::new(PLENTY));
    server.write_all(b"\0\0\0\x03one\0\0\0\0\0\0\0\x02tw").await.unwrap();
    let mut five = [0; 5];
    stream.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"onetw");
    stream.write_all(b"three").await.unwrap();
    stream.flush().await.unwrap();
    let mut packet = [0; 9];
    server.read_exact(&mut packet).await.unwrap();
    assert_eq!(&packet, b"\0\0\0\x05three");
    server.write_all(b"\0\0\0\x05cu").await.unwrap();
    drop(server);
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

    let (client, mut server) = duplex(64 * 1024);
    let mut stream = PingStream::new(client, Budget::new(10 * FRAME_COST));
    server.write_all(&[0; 4 * 1000]).await.unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
}
