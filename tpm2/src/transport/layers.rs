use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use std::vec::Vec;

use super::Transport;
use crate::commands::frame;
use crate::crypto::NoRandomness;
use crate::types::ResponseCode;

/// Sends a command again, octet for octet, while the TPM says that it did not execute. Part 1 §11.4: no nonce has moved,
/// so that the HMACs are still right.
#[derive(Debug)]
pub struct Retry<T> {
    inner: T,
    limit: Duration,
}

impl<T> Retry<T> {
    /// Pauses are 20 ms, and then doubled, as the kernel's are.
    const FIRST_PAUSE: Duration = Duration::from_millis(20);
    const LIMIT: Duration = Duration::from_millis(20 * ((1 << 9) - 1));

    /// A layer over `inner`, whose pauses are about ten seconds together.
    pub const fn new(inner: T) -> Self {
        Self { inner, limit: Self::LIMIT }
    }

    /// Sets how long all pauses of a command may be together.
    #[must_use]
    pub const fn for_at_most(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl<T: Transport> Transport for Retry<T> {
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
        let (mut left, mut pause) = (self.limit, Self::FIRST_PAUSE);
        loop {
            let len = self.inner.exchange(command, response)?;
            let answer = response.get(..len).unwrap_or_default();
            let retry = frame::response_code(answer).is_some_and(ResponseCode::is_retry);
            if !retry || left.is_zero() {
                return Ok(len);
            }
            pause = pause.min(left);
            thread::sleep(pause);
            left = left.saturating_sub(pause);
            pause = pause.saturating_mul(2);
        }
    }

    fn is_managed(&self) -> bool {
        self.inner.is_managed()
    }

    fn random(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        self.inner.random(octets)
    }
}

/// A command and its answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What was sent.
    pub command: Vec<u8>,
    /// What came back.
    pub response: Vec<u8>,
}

/// As [`frame::show`] shows it: without passwords and other secrets.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&frame::show(&self.command, &self.response), f)
    }
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
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
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

    fn random(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        self.inner.random(octets)
    }
}

/// Plays a recording back, to a client that sends the same commands. One with sessions does so if it draws the same randomness
/// again: see [`Tpm::with_random`](crate::Tpm::with_random).
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
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let differs = || io::Error::new(io::ErrorKind::InvalidData, "not the recorded command");
        let exchange = self.exchanges.pop_front().filter(|next| next.command == command);
        let recorded = exchange.ok_or_else(differs)?.response;
        response.get_mut(..recorded.len()).ok_or_else(differs)?.copy_from_slice(&recorded);
        Ok(recorded.len())
    }
}
