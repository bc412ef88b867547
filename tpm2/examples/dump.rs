//! `dump FILE`: annotates a recorded stream, in which each command and its answer follow one another, as they were on the bus.

use std::error::Error;
use std::io::Write as _;

use tpm2::commands::frame;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: dump FILE")?;
    Ok(std::io::stdout().write_all(dump(&std::fs::read(path)?)?.as_bytes())?)
}

// cookbook: dump
/// Names, values, authorizations and refusals, and no secrets.
pub fn dump(mut stream: &[u8]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    while !stream.is_empty() {
        let command = message(&mut stream).ok_or("the stream ends in a command")?;
        let answer = message(&mut stream).ok_or("the stream ends in an answer")?;
        text += &format!("{}\n", frame::show(command, answer));
    }
    Ok(text)
}
// cookbook: end

/// The next message, which begins with its tag and its size.
fn message<'s>(stream: &mut &'s [u8]) -> Option<&'s [u8]> {
    let size = stream.get(2..).and_then(<[u8]>::first_chunk)?;
    let size = usize::try_from(u32::from_be_bytes(*size)).ok().filter(|size| *size >= 10)?;
    let (message, rest) = stream.split_at_checked(size)?;
    *stream = rest;
    Some(message)
}
