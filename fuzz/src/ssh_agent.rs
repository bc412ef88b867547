//! What a client of the agent's SSH agent sends on one connection.

use agent::ssh_agent::message::{Request, SessionBind, Sign};
use agent::ssh_agent::session::Sessions;
use agent::ssh_agent::{Purpose, Signable};

use crate::{Verdict, parts};

/// Sessions of a connection, and bytes of the ID of one.
const MAX_SESSIONS: usize = 16;
const MAX_SESSION_ID: usize = 128;

/// The first octet chooses what the key is for; the rest is the messages, each a part.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((purpose, messages)) = data.split_first() else { return Verdict::Refused };
    let purpose = if purpose % 2 == 0 { Purpose::User } else { Purpose::Host };
    let mut connection = Connection::default();
    let mut verdict = Verdict::Refused;
    for message in parts(messages) {
        let accepted = match Request::read(message) {
            None => false,
            Some(Request::Identities) => message == [11],
            Some(Request::Query) => message == b"\x1b\0\0\0\x05query",
            Some(Request::SessionBind(None)) => false,
            Some(Request::SessionBind(Some(bind))) => connection.bind(bind),
            Some(Request::Sign(sign)) => connection.sign(purpose, sign, message),
        };
        if accepted {
            verdict = Verdict::Accepted;
        }
    }
    verdict
}

/// A connection, and the sessions that it was bound to, each with whether it is forwarded through.
#[derive(Default)]
struct Connection {
    sessions: Sessions,
    bound: Vec<(Vec<u8>, bool)>,
}

impl Connection {
    fn bind(&mut self, bind: SessionBind<'_>) -> bool {
        let is_known = self.bound.iter().any(|(id, _)| id == bind.session_id);
        match self.sessions.bind(&bind) {
            Ok(()) if is_known => true,
            Ok(()) => {
                assert!((1..=MAX_SESSION_ID).contains(&bind.session_id.len()));
                assert!(
                    self.bound.iter().all(|(_, is_forwarding)| *is_forwarding),
                    "after a login"
                );
                self.bound.push((bind.session_id.to_vec(), bind.is_forwarding));
                assert!(self.bound.len() <= MAX_SESSIONS);
                true
            }
            Err(why) => {
                assert!(!why.is_empty());
                false
            }
        }
    }

    /// What is signed has one meaning, which is in the data; a login is for the session that was bound last.
    fn sign(&self, purpose: Purpose, sign: Sign<'_>, message: &[u8]) -> bool {
        let Sign { key, data } = sign;
        assert_eq!(
            message.len(),
            1 + 4 + key.len() + 4 + data.len() + 4,
            "bytes that are not read"
        );
        let Some(signable) = Signable::read(purpose, key, data) else { return false };
        if self.sessions.permit(&signable).is_err() {
            assert!(!self.bound.is_empty(), "without a session, none is another");
            return false;
        }
        match signable {
            Signable::Login { session_id, user, .. } => {
                assert_eq!(purpose, Purpose::User);
                assert!(
                    data.windows(user.len().max(1)).any(|part| part == user.as_bytes())
                        || user.is_empty()
                );
                if let Some((last, is_forwarding)) = self.bound.last() {
                    assert!(last == session_id && !is_forwarding, "a login elsewhere");
                }
            }
            Signable::File { .. } => {
                assert_eq!(purpose, Purpose::User);
                assert!(data.starts_with(b"SSHSIG"));
            }
            Signable::KeyExchange | Signable::HostKeyProof => assert_eq!(purpose, Purpose::Host),
        }
        true
    }
}
