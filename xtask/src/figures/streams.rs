//! Workloads that watch their identities: as much of HTTP/2 (RFC 9113) and gRPC as a stream of the Workload API needs, without a thread
//! for each.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How long a message may take. Renewals are half a minute apart.
const TIMEOUT: Duration = Duration::from_secs(90);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, RFC 9113 section 6, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const REQUEST: [(&str, &str); 7] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("workload.spiffe.io", "true"),
];

/// A call of FetchX509SVID, on a connection of its own.
#[derive(Debug)]
struct Stream {
    socket: UnixStream,
    /// What was received of the next message.
    received: Vec<u8>,
}

impl Stream {
    fn open(path: &Path) -> Result<Self> {
        let socket = UnixStream::connect(path).context("connecting to the Workload API")?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let mut block = Vec::new();
        for (name, value) in REQUEST {
            // A literal that is not indexed, with a new name, RFC 7541 section 6.2.2.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len())?);
                block.extend(text.as_bytes());
            }
        }
        let mut stream = Self { socket, received: Vec::new() };
        stream.socket.write_all(PREFACE)?;
        stream.send(SETTINGS, 0, 0, &[])?;
        stream.send(HEADERS, END_HEADERS, 1, &block)?;
        // An empty message that is not compressed.
        stream.send(DATA, END_STREAM, 1, &[0; 5])?;
        Ok(stream)
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let [_, length @ ..] = u32::try_from(payload.len())?.to_be_bytes();
        let frame = [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        Ok(self.socket.write_all(&frame)?)
    }

    /// Waits for the next message, and returns its length.
    fn message(&mut self) -> Result<usize> {
        loop {
            // Whether it is compressed, its length, and so many bytes.
            if let &[_, a, b, c, d, ref rest @ ..] = self.received.as_slice() {
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
                if rest.len() >= length {
                    self.received.drain(..5 + length);
                    return Ok(length);
                }
            }
            self.frame()?;
        }
    }

    fn frame(&mut self) -> Result<()> {
        let mut header = [0; 9];
        self.socket.read_exact(&mut header).context("reading a frame")?;
        let [a, b, c, kind, flags, ..] = header;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        self.socket.read_exact(&mut payload).context("reading a frame")?;
        match kind {
            DATA => self.received.extend(payload),
            SETTINGS | PING if flags & ACK == 0 => {
                let content = if kind == PING { payload.as_slice() } else { &[] };
                self.send(kind, ACK, 0, content)?;
            }
            HEADERS if flags & END_STREAM != 0 => {
                bail!("the stream has ended: {}", String::from_utf8_lossy(&payload))
            }
            RST_STREAM | GOAWAY => bail!("the agent has ended the stream: {payload:?}"),
            _ => {}
        }
        Ok(())
    }
}

/// Many streams, each of which has received its identities.
#[derive(Debug)]
pub struct Streams(Vec<Stream>);

impl Streams {
    pub fn open(path: &Path, count: usize) -> Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
        let streams = (0..count).map(|_| Stream::open(path)).collect::<Result<Vec<_>>>()?;
        let mut streams = Self(streams);
        streams.messages()?;
        Ok(streams)
    }

    fn messages(&mut self) -> Result<()> {
        for stream in &mut self.0 {
            ensure!(stream.message()? > 0, "a message without identities");
        }
        Ok(())
    }

    /// Waits for the next rotation, and returns the time from its first message to its last.
    pub fn rotation(&mut self) -> Result<Duration> {
        // What comes before is about the connections alone.
        while self.0.iter().all(|stream| stream.received.is_empty()) {
            self.frames()?;
        }
        let begun = Instant::now();
        self.messages()?;
        Ok(begun.elapsed())
    }

    /// Waits until there are frames, and reads one of each stream that has any.
    fn frames(&mut self) -> Result<()> {
        let waiting = self.0.iter().map(|stream| PollFd::new(&stream.socket, PollFlags::IN));
        let mut waiting: Vec<PollFd<'_>> = waiting.collect();
        let timeout = Timespec { tv_sec: i64::try_from(TIMEOUT.as_secs())?, tv_nsec: 0 };
        ensure!(poll(&mut waiting, Some(&timeout))? > 0, "there was no rotation");
        let is_ready: Vec<bool> = waiting.iter().map(|one| !one.revents().is_empty()).collect();
        let streams = self.0.iter_mut().zip(is_ready);
        streams.filter(|(_, is_ready)| *is_ready).try_for_each(|(stream, _)| stream.frame())
    }
}
