use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use std::vec::Vec;

use super::Transport;
use crate::types::ResponseCode;

/// Sends a command again, octet for octet, while the TPM says that it did not execute. Part 1 §11.4: no nonce has moved,
/// so that the HMACs are still right.
#[derive(Debug)]
pub struct Retry<T> {
    inner: T,
}

impl<T> Retry<T> {
    /// Tries for about ten seconds: 20 ms, doubled nine times, as the kernel does.
    const TRIES: u32 = 10;
    const FIRST_PAUSE: Duration = Duration::from_millis(20);

    /// A layer over `inner`.
    pub const fn new(inner: T) -> Self {
        Self { inner }
    }
}

impl<T: Transport> Transport for Retry<T> {
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let mut pause = Self::FIRST_PAUSE;
        for _ in 1..Self::TRIES {
            let len = self.inner.exchange(command, response)?;
            let answer = response.get(..len).unwrap_or_default();
            if !response_code(answer).is_some_and(ResponseCode::is_retry) {
                return Ok(len);
            }
            thread::sleep(pause);
            pause = pause.saturating_mul(2);
        }
        self.inner.exchange(command, response)
    }

    fn is_managed(&self) -> bool {
        self.inner.is_managed()
    }
}

fn response_code(response: &[u8]) -> Option<ResponseCode> {
    response
        .get(6..)
        .and_then(<[u8]>::first_chunk)
        .map(|octets| ResponseCode(u32::from_be_bytes(*octets)))
}

/// A command and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What was sent.
    pub command: Vec<u8>,
    /// What came back.
    pub response: Vec<u8>,
}

/// Exchanges in their order. Clones share what was recorded.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Mutex<Vec<Exchange>>>);

impl Recording {
    /// What was recorded so far.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps a copy of everything that passes: what a listener on the bus would have.
#[derive(Debug)]
pub struct Record<T> {
    inner: T,
    recording: Recording,
}

impl<T> Record<T> {
    /// A layer over `inner` that adds to `recording`.
    pub const fn new(inner: T, recording: Recording) -> Self {
        Self { inner, recording }
    }
}

impl<T: Transport> Transport for Record<T> {
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.exchange(command, response)?;
        let exchange = Exchange {
            command: command.to_vec(),
            response: response.get(..len).unwrap_or_default().to_vec(),
        };
        self.recording.0.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
        Ok(len)
    }

    fn is_managed(&self) -> bool {
        self.inner.is_managed()
    }
}

/// Plays a recording back, to a client that sends the same commands.
#[derive(Debug)]
pub struct Replay {
    exchanges: VecDeque<Exchange>,
}

impl Replay {
    /// Will answer as recorded.
    pub fn new(exchanges: impl IntoIterator<Item = Exchange>) -> Self {
        Self { exchanges: exchanges.into_iter().collect() }
    }
}

impl Transport for Replay {
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let differs = || io::Error::new(io::ErrorKind::InvalidData, "not the recorded command");
        let exchange = self.exchanges.pop_front().filter(|next| next.command == command);
        let recorded = exchange.ok_or_else(differs)?.response;
        response.get_mut(..recorded.len()).ok_or_else(differs)?.copy_from_slice(&recorded);
        Ok(recorded.len())
    }
}
