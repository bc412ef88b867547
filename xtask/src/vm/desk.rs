//! Where a script in the guest asks for something on the host: a connection, one line, one line back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, bail};

use super::bus::Listener;

/// Answers until this process ends.
#[derive(Clone, Copy, Debug)]
pub struct Desk {
    port: u16,
}

impl Desk {
    /// Opens on a port of 127.0.0.1, for one guest's TPM.
    pub fn open(listener: &Listener) -> Result<Self> {
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = door.local_addr()?.port();
        let listener = listener.clone();
        thread::spawn(move || {
            for guest in door.incoming().flatten() {
                let listener = listener.clone();
                // Who asks has a time limit; what it gets, it shows.
                thread::spawn(move || serve(guest, &listener));
            }
        });
        Ok(Self { port })
    }

    /// The port; a guest finds it at 10.0.2.2.
    pub fn port(self) -> u16 {
        self.port
    }
}

fn serve(mut guest: TcpStream, listener: &Listener) -> Result<()> {
    let mut line = String::new();
    BufReader::new((&guest).take(100)).read_line(&mut line)?;
    let answer = answer(line.trim_end(), listener).unwrap_or_else(|error| format!("{error:#}"));
    Ok(writeln!(guest, "{answer}")?)
}

/// `hold CODE N`: hold back the nth command of this code from now. `held`: wait until it has come.
/// `release`: let it go. `heard`: the codes since this was asked last.
fn answer(line: &str, listener: &Listener) -> Result<String> {
    let words: Vec<_> = line.split(' ').collect();
    match words.as_slice() {
        ["hold", code, nth] => {
            let code = u32::from_str_radix(code, 16).with_context(|| format!("code {code}"))?;
            listener.hold(code, nth.parse().with_context(|| format!("number {nth}"))?)?;
            Ok("armed".into())
        }
        ["held"] => Ok(format!("held {:x}", listener.held()?)),
        ["release"] => {
            listener.release();
            Ok("released".into())
        }
        ["heard"] => {
            let codes = listener.heard();
            Ok(codes.iter().map(|code| format!("{code:x}")).collect::<Vec<_>>().join(" "))
        }
        _ => bail!("{line:?} is nothing that the host does"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_requests_are_reported() {
        let listener = Listener::default();
        for line in ["", "hold", "hold x 1", "hold 131 x", "held now", "open the door"] {
            answer(line, &listener).unwrap_err();
        }
        assert_eq!(answer("hold 131 1", &listener).unwrap(), "armed");
        answer("hold 131 1", &listener).unwrap_err();
        assert_eq!(answer("release", &listener).unwrap(), "released");
        assert_eq!(answer("heard", &listener).unwrap(), "");
    }
}
