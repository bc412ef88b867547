//! `dump FILE`: annotates a recorded stream, in which each command and its answer follow one another, as they were on the bus.
//! `dump PORT TCTI`: passes on what a client on 127.0.0.1 sends to a TPM, and annotates it. For tpm2-tools the address is
//! `cmd:nc 127.0.0.1 PORT`.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;

use tpm2::commands::frame;
use tpm2::transport::{Tcti, Transport};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout();
    match &arguments[..] {
        [path] => Ok(out.write_all(dump(&std::fs::read(path)?)?.as_bytes())?),
        [port, address] => {
            let mut tpm = address.parse::<Tcti>()?.open()?;
            for client in TcpListener::bind(("127.0.0.1", port.parse()?))?.incoming() {
                proxy(client?, &mut tpm, &mut out)?;
            }
            Ok(())
        }
        _ => Err("usage: dump FILE, or dump PORT TCTI".into()),
    }
}

// cookbook: dump
/// Names, values, authorizations and refusals, and no secrets.
pub fn dump(mut stream: &[u8]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    while !stream.is_empty() {
        let command = message(&mut stream)?.ok_or("the stream has an end within a message")?;
        let answer = message(&mut stream)?.ok_or("the stream ends with a command")?;
        text += &format!("{}\n", frame::show(&command, &answer));
    }
    Ok(text)
}

/// Passes on what one client sends, until it closes the connection.
pub fn proxy<T: Transport>(
    mut client: impl Read + Write,
    tpm: &mut T,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let mut answer = [0; 4096];
    while let Some(command) = message(&mut client)? {
        let len = tpm.exchange(&command, &mut answer)?;
        let answer = answer.get(..len).ok_or("an answer that is too long")?;
        writeln!(out, "{}", frame::show(&command, answer))?;
        client.write_all(answer)?;
    }
    Ok(())
}

/// The next message: its tag, its size, and the rest. `None` at the end.
fn message(stream: &mut impl Read) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let mut message = vec![0; 6];
    if stream.read(&mut message[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut message[1..])?;
    let size = message.get(2..).and_then(<[u8]>::first_chunk).copied().map(u32::from_be_bytes);
    let size = size.filter(|size| (10..=4096).contains(size)).ok_or("no size of a message")?;
    message.resize(size.try_into()?, 0);
    stream.read_exact(&mut message[6..])?;
    Ok(Some(message))
}
// cookbook: end
