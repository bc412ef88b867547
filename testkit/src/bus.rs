//! Who can stand between a client and its TPM.

use std::collections::VecDeque;
use std::io;

use tpm2::transport::Transport;
use tpm2::types::{CommandCode, ResponseCode};

/// As large as any answer.
const MAX_MESSAGE: usize = 4096;

/// An attacker on the bus that sees every command, decides whether the TPM gets it, and what is answered.
pub struct Interposer<T, F> {
    inner: T,
    between: F,
}

impl<T, F> Interposer<T, F>
where
    T: Transport<Error = io::Error>,
    F: FnMut(&[u8], &mut dyn Transport<Error = io::Error>) -> io::Result<Vec<u8>>,
{
    /// Puts `between` before `inner`. It can [`forward`] a command.
    pub fn new(inner: T, between: F) -> Self {
        Self { inner, between }
    }
}

impl<T, F> Transport for Interposer<T, F>
where
    T: Transport<Error = io::Error>,
    F: FnMut(&[u8], &mut dyn Transport<Error = io::Error>) -> io::Result<Vec<u8>>,
{
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let answer = (self.between)(command, &mut self.inner)?;
        put(&answer, response)
    }
}

/// What the TPM itself says.
pub fn forward(tpm: &mut dyn Transport<Error = io::Error>, command: &[u8]) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; MAX_MESSAGE];
    let len = tpm.exchange(command, &mut answer)?;
    answer.truncate(len);
    Ok(answer)
}

/// Gives its answers in turn, whatever it is asked, and then hangs up.
pub struct Scripted(VecDeque<Vec<u8>>);

impl Scripted {
    /// Will give these answers.
    pub fn new(answers: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(answers.into_iter().collect())
    }
}

impl Transport for Scripted {
    type Error = io::Error;

    fn exchange(&mut self, _: &[u8], response: &mut [u8]) -> io::Result<usize> {
        put(&self.0.pop_front().ok_or(io::ErrorKind::BrokenPipe)?, response)
    }
}

fn put(answer: &[u8], response: &mut [u8]) -> io::Result<usize> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "an answer that is too long");
    response.get_mut(..answer.len()).ok_or_else(too_long)?.copy_from_slice(answer);
    Ok(answer.len())
}

/// The command that some bytes are.
pub fn command_code(command: &[u8]) -> CommandCode {
    CommandCode(word(command))
}

/// The code in an answer.
pub fn response_code(answer: &[u8]) -> ResponseCode {
    ResponseCode(word(answer))
}

fn word(message: &[u8]) -> u32 {
    message.get(6..10).map_or(0, |bytes| bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
}

/// A TPM's no.
pub fn refusal(code: ResponseCode) -> Vec<u8> {
    [&[0x80, 0x01, 0, 0, 0, 10], &code.0.to_be_bytes()[..]].concat()
}

/// Every message that is `whole` with one byte changed, some ways each, and where.
pub fn changed(whole: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..whole.len()).flat_map(move |at| {
        [0x01, 0x02, 0x10, 0x80, 0xff].into_iter().map(move |mask| {
            let mut message = whole.to_vec();
            message[at] ^= mask;
            (at, message)
        })
    })
}
