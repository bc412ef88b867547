//! What a load balancer answers to a connection upgrade, and the frames that follow, as the agent reads them.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use agent::ceremony::upgrade::is_accepted;
use agent::ceremony::upgrade::websocket::WebSocket;
use host::budget::Budget;
use tokio::io::AsyncReadExt;

use crate::{Verdict, assert_harmless};

/// The example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What frames may cost in addition to their bytes.
const BUDGET: usize = 16 * 1024;

const END: &[u8] = b"\r\n\r\n";

/// The input is the head of a response, up to the empty line, and frames of a WebSocket.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let end = data.windows(END.len()).position(|bytes| bytes == END);
    let (head, frames) = data.split_at(end.map_or(data.len(), |end| end + END.len()));
    let is_accepted = end.is_some() && is_accepted(head, KEY);
    if is_accepted {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        assert!(text.contains(" 101") && text.contains("upgrade"), "{text}");
        let knows_key = head.windows(ACCEPT.len()).any(|bytes| bytes == ACCEPT);
        assert!(knows_key || text.contains("alpn"), "{text}");
    }
    match read(frames) {
        Ok(bytes) => {
            assert_eq!(bytes, expected(frames), "not the payload of the data frames");
            if is_accepted { Verdict::Accepted } else { Verdict::Refused }
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}

/// All data of the frames; what is sent for them is discarded.
fn read(frames: &[u8]) -> io::Result<Vec<u8>> {
    let stream = tokio::io::join(frames, tokio::io::sink());
    let mut socket = WebSocket::new(stream, Budget::new(BUDGET));
    let mut bytes = Vec::new();
    let done = pin!(socket.read_to_end(&mut bytes)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(done) = done else { panic!("it waits for bytes that are there") };
    done.map(|_| bytes)
}

/// The same from frames without a fault, read once more and simply.
fn expected(mut frames: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, length, rest @ ..] = frames {
        let (extended, rest) = match length {
            126 => rest.split_at(2),
            127 => rest.split_at(8),
            _ => rest.split_at(0),
        };
        let length = match extended {
            [] => usize::from(*length),
            _ => extended.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        };
        let (payload, rest) = rest.split_at(length);
        match first & 0x0f {
            8 => break,
            0 | 2 => bytes.extend_from_slice(payload),
            _ => {}
        }
        frames = rest;
    }
    bytes
}
