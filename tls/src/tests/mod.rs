//! Whole connections: in memory, against OpenSSL, and under attack.

mod handshake;
mod hostile;
mod openssl;
mod pki;
mod public;
mod trust;

use rustls::{ClientConnection, ConnectionCommon, Error, ServerConnection, SideData};

/// Who refused.
#[derive(Debug, PartialEq)]
enum Refusal {
    Client(Error),
    Server(Error),
}

/// Carries bytes both ways until neither side has more to say.
fn converse(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Refusal> {
    while client.wants_write() || server.wants_write() {
        deliver(&flight(client), server).map_err(Refusal::Server)?;
        deliver(&flight(server), client).map_err(Refusal::Client)?;
    }
    Ok(())
}

/// All that one side has to send now.
fn flight<Side: SideData>(from: &mut ConnectionCommon<Side>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn deliver<Side: SideData>(mut bytes: &[u8], to: &mut ConnectionCommon<Side>) -> Result<(), Error> {
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}
