//! `dump FILE`: annotates a recorded stream, in which each command and its answer follow one another, as they were on the bus.
//! `dump --to TCTI`: passes on to a TPM what a client sends, and annotates it on standard error. tpm2-tools run it as their TPM:
//!
//!     tpm2_getrandom --hex 8 --tcti "cmd:target/debug/examples/dump --to device:/dev/tpmrm0"

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};

use tpm2::commands::frame;
use tpm2::transport::{Tcti, Transport};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [option, address] if option == "--to" => {
            let mut tpm = address.parse::<Tcti>()?.open()?;
            proxy(io::stdin(), io::stdout(), &mut tpm, &mut io::stderr())
        }
        [path] => dump(&std::fs::read(path)?, &mut io::stdout()),
        _ => Err("usage: dump FILE, or dump --to TCTI".into()),
    }
}

// cookbook: dump
/// Writes names, values, authorizations and refusals, and no secrets. Of a stream that is cut off, what is there.
pub fn dump(mut stream: &[u8], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    while let Some(command) = message(&mut stream)? {
        let answer = message(&mut stream);
        let octets = answer.as_ref().ok().and_then(Option::as_ref).map_or(&[][..], Vec::as_slice);
        writeln!(out, "{}", frame::show(&command, octets))?;
        answer?.ok_or("the stream ends before the answer to its last command")?;
    }
    Ok(())
}

/// Passes on what one client sends, until it closes the connection.
pub fn proxy<T: Transport>(
    mut from: impl Read,
    mut to: impl Write,
    tpm: &mut T,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let mut answer = [0; 4096];
    while let Some(command) = message(&mut from)? {
        let len = tpm.exchange(&command, &mut answer)?;
        let answer = answer.get(..len).ok_or("an answer that is too long")?;
        writeln!(out, "{}", frame::show(&command, answer))?;
        to.write_all(answer)?;
        to.flush()?;
    }
    Ok(())
}

/// The next message: its tag, its size, and the rest. `None` at the end.
fn message(stream: &mut impl Read) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let cut = |error: io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => "the stream ends within a message".into(),
        _ => Box::<dyn Error>::from(error),
    };
    let mut message = vec![0; 6];
    if stream.read(&mut message[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut message[1..]).map_err(cut)?;
    let size = message.get(2..).and_then(<[u8]>::first_chunk).copied().map(u32::from_be_bytes);
    let size = size.filter(|size| (10..=4096).contains(size)).ok_or("no size of a message")?;
    message.resize(size.try_into()?, 0);
    stream.read_exact(&mut message[6..]).map_err(cut)?;
    Ok(Some(message))
}
// cookbook: end
