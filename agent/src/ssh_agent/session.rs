//! The sessions of SSH that a connection to the agent is used for: `PROTOCOL.agent`, `session-bind@openssh.com`.

use super::message::SessionBind;
use super::signable::Signable;
use crate::ssh::{key, signature};

/// Sessions of one connection: one for each host that it is forwarded through, and the last one.
const MAX_SESSIONS: usize = 16;

/// Bytes of a session's ID.
const MAX_SESSION_ID: usize = 128;

/// The sessions that a connection is bound to, in order. As long as there are none, logins of any session are signed: not all
/// clients bind.
#[derive(Debug, Default)]
pub struct Sessions(Vec<Session>);

#[derive(Debug, PartialEq, Eq)]
struct Session {
    /// Without its certificate.
    host_key: Vec<u8>,
    id: Vec<u8>,
    is_forwarding: bool,
}

impl Sessions {
    /// Binds the connection to a further session, which its server has signed.
    ///
    /// # Errors
    /// Why it is not bound.
    pub fn bind(&mut self, bind: &SessionBind<'_>) -> Result<(), &'static str> {
        let SessionBind { host_key, session_id, signature, is_forwarding } = *bind;
        if session_id.is_empty() || session_id.len() > MAX_SESSION_ID {
            return Err("an invalid session ID");
        }
        let host_key = key::plain(host_key).ok_or("an unknown type of host key")?;
        if signature::verify(&host_key, session_id, signature).is_none() {
            return Err("a signature that is not the host key's, or of an unknown algorithm");
        }
        if let Some(known) = self.0.iter().find(|known| known.id == session_id) {
            let is_same = known.host_key == host_key;
            return if is_same { Ok(()) } else { Err("the session of another host key") };
        }
        if self.0.iter().any(|known| !known.is_forwarding) {
            return Err("the connection is bound to a login already");
        }
        if self.0.len() >= MAX_SESSIONS {
            return Err("too many sessions");
        }
        self.0.push(Session { host_key, id: session_id.to_vec(), is_forwarding });
        Ok(())
    }

    /// Whether this may be signed: a login only in the session that was bound last, and to its host.
    ///
    /// # Errors
    /// Why not.
    pub fn permit(&self, signable: &Signable<'_>) -> Result<(), &'static str> {
        let Signable::Login { session_id, host_key, .. } = signable else { return Ok(()) };
        let Some(last) = self.0.last() else { return Ok(()) };
        if last.id != *session_id {
            return Err("a login in another session than the one that the connection is bound to");
        }
        if last.is_forwarding {
            return Err("a login in a session that the agent is forwarded through");
        }
        match host_key.map(key::plain) {
            Some(named) if named.as_ref() != Some(&last.host_key) => {
                Err("a login to another host than the one that the connection is bound to")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::Signature;

    use super::*;
    use sha2::{Digest, Sha256};

    use crate::keys::{Key, SoftwareKey};

    /// A host.
    struct Host(SoftwareKey);

    /// What a host has signed.
    struct Signed {
        host_key: Vec<u8>,
        id: Vec<u8>,
        signature: Vec<u8>,
    }

    impl Host {
        fn new() -> Self {
            Self(SoftwareKey::generate().unwrap())
        }

        fn blob(&self) -> Vec<u8> {
            key::blob(&self.0.public())
        }

        async fn signs(&self, id: &[u8]) -> Signed {
            let signature = self.0.sign(&Sha256::digest(id).into()).await.unwrap();
            let signature = signature::by_p256(&Signature::from_der(&signature).unwrap());
            Signed { host_key: self.blob(), id: id.to_vec(), signature }
        }
    }

    impl Signed {
        fn bind(&self, is_forwarding: bool) -> SessionBind<'_> {
            let Self { host_key, id: session_id, signature } = self;
            SessionBind { host_key, session_id, signature, is_forwarding }
        }
    }

    fn login<'b>(session_id: &'b [u8], host_key: Option<&'b [u8]>) -> Signable<'b> {
        Signable::Login { session_id, user: "u", host_key }
    }

    #[tokio::test]
    async fn login_is_permitted_in_the_session_that_was_bound_last() {
        let (jump, goal) = (Host::new(), Host::new());
        let mut sessions = Sessions::default();
        sessions.permit(&login(b"any", None)).unwrap();
        sessions.bind(&jump.signs(b"1").await.bind(true)).unwrap();
        sessions.permit(&login(b"1", None)).unwrap_err();
        sessions.bind(&goal.signs(b"2").await.bind(false)).unwrap();
        sessions.bind(&goal.signs(b"2").await.bind(false)).unwrap();
        sessions.permit(&login(b"2", None)).unwrap();
        sessions.permit(&login(b"2", Some(&goal.blob()))).unwrap();
        sessions.permit(&login(b"2", Some(&jump.blob()))).unwrap_err();
        sessions.permit(&login(b"2", Some(b""))).unwrap_err();
        sessions.permit(&login(b"1", None)).unwrap_err();
        sessions.permit(&Signable::File { namespace: "git" }).unwrap();
        let after_login = sessions.bind(&jump.signs(b"3").await.bind(true));
        assert_eq!(after_login, Err("the connection is bound to a login already"));
    }

    #[tokio::test]
    async fn session_that_its_host_has_not_signed_is_not_bound() {
        let (host, other) = (Host::new(), Host::new());
        let mut sessions = Sessions::default();
        let signed = host.signs(b"1").await;
        for length in 0..signed.signature.len() {
            let signature = &signed.signature[..length];
            sessions.bind(&SessionBind { signature, ..signed.bind(true) }).unwrap_err();
        }
        sessions.bind(&SessionBind { session_id: b"2", ..signed.bind(true) }).unwrap_err();
        sessions.bind(&SessionBind { host_key: &other.blob(), ..signed.bind(true) }).unwrap_err();
        sessions.bind(&SessionBind { host_key: b"", ..signed.bind(true) }).unwrap_err();
        sessions.permit(&login(b"any", None)).unwrap();

        sessions.bind(&signed.bind(true)).unwrap();
        let same = sessions.bind(&other.signs(b"1").await.bind(true));
        assert_eq!(same, Err("the session of another host key"));
    }

    #[tokio::test]
    async fn number_of_sessions_and_length_of_their_ids_are_bounded() {
        let host = Host::new();
        let mut sessions = Sessions::default();
        for length in [0, MAX_SESSION_ID + 1] {
            let long = host.signs(&vec![1; length]).await;
            assert_eq!(sessions.bind(&long.bind(true)), Err("an invalid session ID"));
        }
        for number in 0..16 {
            sessions.bind(&host.signs(&[number]).await.bind(true)).unwrap();
        }
        let further = sessions.bind(&host.signs(b"further").await.bind(true));
        assert_eq!(further, Err("too many sessions"));
    }
}
