//! Connections to the agent, and what is done on them. A caller waits for its own requests alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::clock;
use p256::ecdsa::Signature;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::message::{Identity, MAX_MESSAGE, Request, Response, Sign};
use super::session::Sessions;
use super::signable::{Purpose, Signable};
use super::{Offered, Offers};
use crate::attest::rule::Rules;
use crate::attest::{Attestor, Peer};
use crate::connections::{Limits, Places};
use crate::log::Log;
use crate::ssh::certificate::SshCertificate;
use crate::ssh::{key, signature};

/// How long the rest of a message may take, and the caller to take a response.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);

/// Who may use the agent, of those that the mode of its socket lets in.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What a caller has to be; without rules, it is not attested.
    pub rules: Rules,
    /// Attests callers.
    pub attestor: Attestor,
}

/// An agent on one socket, which ends when it is dropped.
#[derive(Debug)]
pub struct SshAgent {
    accepting: tokio::task::JoinHandle<()>,
}

/// What all connections of an agent have in common.
struct Served {
    /// What the log calls it.
    name: String,
    purpose: Purpose,
    offers: Offers,
    gate: Gate,
    log: Log,
}

impl SshAgent {
    /// Serves the connections of `listener`.
    #[must_use]
    pub fn serve(
        listener: UnixListener,
        (name, purpose): (String, Purpose),
        offers: Offers,
        gate: Gate,
        limits: Limits,
        log: Log,
    ) -> Self {
        let served = Served { name, purpose, offers, gate, log };
        let accepting = accept(listener, Arc::new(served), Places::new(limits));
        Self { accepting: tokio::spawn(accepting) }
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Never ends. The connections end with it.
async fn accept(listener: UnixListener, served: Arc<Served>, places: Places) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, say: connections that end make room.
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { continue };
        let Some(place) = places.take(uid) else {
            served.refuse(uid, &"too many connections");
            continue;
        };
        // Directly after accept(2), so that no other process is taken for the caller.
        let peer = match served.gate.rules.0.is_empty() {
            true => None,
            false => match served.gate.attestor.peer(&stream) {
                Ok(peer) => Some(peer),
                Err(refused) => {
                    served.refuse(uid, &refused);
                    continue;
                }
            },
        };
        let connection = Connection {
            served: Arc::clone(&served),
            peer,
            uid,
            sessions: Sessions::default(),
            shown: None,
        };
        connections.spawn(async move {
            // Whatever the caller did, the next one is not affected.
            let _ = connection.serve(stream).await;
            drop(place);
        });
    }
}

impl Served {
    fn refuse(&self, uid: u32, reason: &dyn std::fmt::Display) {
        let fields: [(&str, &dyn std::fmt::Display); 3] =
            [("name", &self.name), ("uid", &uid), ("reason", reason)];
        self.log.info("refused a caller of the SSH agent", &fields);
    }
}

/// One connection.
struct Connection {
    served: Arc<Served>,
    /// To be attested, if there are rules.
    peer: Option<Peer>,
    uid: u32,
    sessions: Sessions,
    /// The key that the caller was shown: it can be used also if another one is offered since.
    shown: Option<Arc<Offered>>,
}

impl Connection {
    /// Serves until the caller closes the connection, or breaks the protocol.
    async fn serve(mut self, mut stream: UnixStream) -> io::Result<()> {
        while let Some(message) = read(&mut stream).await? {
            if !self.is_admitted().await {
                return Ok(());
            }
            let response = self.answer(&message).await.to_message();
            timeout(TRANSFER_TIMEOUT, stream.write_all(&response)).await??;
        }
        Ok(())
    }

    /// Attests the caller, for each request: it may have executed another program since the last one.
    async fn is_admitted(&self) -> bool {
        let Some(peer) = &self.peer else { return true };
        match self.served.gate.attestor.attest_peer(peer).await {
            Ok(caller) if self.served.gate.rules.admit(&caller) => true,
            Ok(_) => {
                self.served.refuse(self.uid, &"it matches none of the rules");
                false
            }
            Err(refused) => {
                self.served.refuse(self.uid, &refused);
                false
            }
        }
    }

    async fn answer(&mut self, message: &[u8]) -> Response {
        match Request::read(message) {
            None => Response::Failure,
            Some(Request::Query) => Response::Extensions,
            Some(Request::Identities) => Response::Identities(self.identities()),
            Some(Request::Sign(sign)) => match self.sign(sign).await {
                Ok(signature) => Response::Signature(signature),
                Err(reason) => {
                    let fields: [(&str, &dyn std::fmt::Display); 3] =
                        [("name", &self.served.name), ("uid", &self.uid), ("reason", &reason)];
                    self.served.log.warn("refused to sign for SSH", &fields);
                    Response::Failure
                }
            },
            Some(Request::SessionBind(bind)) => {
                let bound = bind.ok_or("it is malformed");
                match bound.and_then(|bind| self.sessions.bind(&bind)) {
                    Ok(()) => Response::Success,
                    Err(reason) => {
                        self.served.refuse_binding(self.uid, reason);
                        Response::ExtensionFailure
                    }
                }
            }
        }
    }

    /// The certificate, if it is valid, and the key.
    fn identities(&mut self) -> Vec<Identity> {
        let offered = self.served.offers.borrow().clone();
        self.shown.clone_from(&offered);
        let Some(offered) = offered else { return Vec::new() };
        let certificate = offered.certificate_now();
        let identity = |blob| Identity { blob, comment: self.served.name.clone() };
        certificate.into_iter().chain([offered.blob()]).map(identity).collect()
    }

    /// # Errors
    /// Why not.
    async fn sign(&self, sign: Sign<'_>) -> Result<Vec<u8>, String> {
        let wanted = key::plain(sign.key).ok_or("an unknown type of key")?;
        let current = self.served.offers.borrow().clone();
        let offered = [current, self.shown.clone()].into_iter().flatten();
        let offered = offered.into_iter().find(|offered| offered.blob() == wanted);
        let offered = offered.ok_or("the key is not offered")?;
        let signable = Signable::read(self.served.purpose, &wanted, sign.data);
        let signable = signable.ok_or("the data is not what this key signs")?;
        self.sessions.permit(&signable)?;
        let digest = Sha256::digest(sign.data).into();
        let signed = offered.key.sign(&digest).await.map_err(|failure| failure.message)?;
        let signed = Signature::from_der(&signed).map_err(|error| error.to_string())?;
        self.served.note(self.uid, &signable);
        Ok(signature::by_p256(&signed))
    }
}

impl Served {
    fn refuse_binding(&self, uid: u32, reason: &str) {
        let fields: [(&str, &dyn std::fmt::Display); 3] =
            [("name", &self.name), ("uid", &uid), ("reason", &reason)];
        self.log.info("refused to bind a session of SSH", &fields);
    }

    /// Logs a use of the key.
    fn note(&self, uid: u32, signable: &Signable<'_>) {
        let used = match signable {
            Signable::Login { user, .. } => format!("login as {user}"),
            Signable::File { namespace } => format!("signature of a file, {namespace}"),
            Signable::KeyExchange => "key exchange".to_owned(),
            Signable::HostKeyProof => "proof of a host key".to_owned(),
        };
        let fields: [(&str, &dyn std::fmt::Display); 3] =
            [("name", &self.name), ("uid", &uid), ("for", &used)];
        self.log.info("signed for SSH", &fields);
    }
}

impl Offered {
    /// The key in SSH's wire format.
    fn blob(&self) -> Vec<u8> {
        key::blob(&self.key.public())
    }

    /// The certificate in SSH's wire format, unless it is not valid now: a client that was refused with it would not try others.
    fn certificate_now(&self) -> Option<Vec<u8>> {
        let line = self.certificate.as_ref()?;
        let now = u64::try_from(clock::now().unix_timestamp()).ok()?;
        SshCertificate::read(line).filter(|certificate| certificate.is_valid_at(now))?;
        key::of_line(line)
    }
}

/// The next message, without its length; `None` at the end of the connection.
///
/// # Errors
/// The message is too long or empty, or does not come.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    // An agent that is forwarded may be silent for days.
    let mut first = [0];
    if stream.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let rest = async {
        let [first] = first;
        let mut rest = [0; 3];
        stream.read_exact(&mut rest).await?;
        let [second, third, fourth] = rest;
        let length = u32::from_be_bytes([first, second, third, fourth]);
        if length == 0 || length > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Grows with what comes, and not with what is announced.
        let mut message = Vec::new();
        let read = stream.take(length.into()).read_to_end(&mut message).await?;
        let is_whole = u32::try_from(read) == Ok(length);
        if is_whole { Ok(Some(message)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    timeout(TRANSFER_TIMEOUT, rest).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lengths_beyond_the_limit_are_not_waited_for() {
        for (length, expected) in [
            (0, io::ErrorKind::InvalidData),
            (MAX_MESSAGE, io::ErrorKind::UnexpectedEof),
            (MAX_MESSAGE + 1, io::ErrorKind::InvalidData),
            (u32::MAX, io::ErrorKind::InvalidData),
        ] {
            let (mut agent, mut caller) = UnixStream::pair().unwrap();
            caller.write_all(&length.to_be_bytes()).await.unwrap();
            caller.write_all(b"a").await.unwrap();
            caller.shutdown().await.unwrap();
            assert_eq!(read(&mut agent).await.unwrap_err().kind(), expected, "{length}");
        }
    }
}
