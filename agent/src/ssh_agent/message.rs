//! The messages of the SSH agent protocol, RFC 9987, and of OpenSSH's extensions, `PROTOCOL.agent`. Each is behind its length.

use crate::ssh::wire::{Packed, Strings};

/// Bytes of a message, as OpenSSH limits them.
pub const MAX_MESSAGE: u32 = 256 * 1024;

const SSH_AGENT_FAILURE: u8 = 5;
const SSH_AGENT_SUCCESS: u8 = 6;
const SSH_AGENTC_REQUEST_IDENTITIES: u8 = 11;
const SSH_AGENT_IDENTITIES_ANSWER: u8 = 12;
const SSH_AGENTC_SIGN_REQUEST: u8 = 13;
const SSH_AGENT_SIGN_RESPONSE: u8 = 14;
const SSH_AGENTC_EXTENSION: u8 = 27;
const SSH_AGENT_EXTENSION_FAILURE: u8 = 28;
const SSH_AGENT_EXTENSION_RESPONSE: u8 = 29;

const QUERY: &[u8] = b"query";
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// A request. Requests to add, remove and lock keys are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'b> {
    /// Which keys there are.
    Identities,
    /// A signature of a key over data.
    Sign(Sign<'b>),
    /// Which extensions there are.
    Query,
    /// The session that the connection is used for from now on; `None` if what is said of it is malformed.
    SessionBind(Option<SessionBind<'b>>),
}

/// What to sign, and with which key. The flags are about RSA, of which there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign<'b> {
    /// A key, or its certificate.
    pub key: &'b [u8],
    /// What to sign.
    pub data: &'b [u8],
}

/// A session of SSH, proven by its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionBind<'b> {
    /// The server's key, or its certificate.
    pub host_key: &'b [u8],
    /// The exchange hash of the first key exchange.
    pub session_id: &'b [u8],
    /// The host key's signature of it.
    pub signature: &'b [u8],
    /// Whether the agent is forwarded to that server, rather than used to log in there.
    pub is_forwarding: bool,
}

impl<'b> Request<'b> {
    /// Reads a message without its length; `None` if it is malformed, or no request that is served.
    #[must_use]
    pub fn read(message: &'b [u8]) -> Option<Self> {
        let (&number, contents) = message.split_first()?;
        let mut rest = Strings(contents);
        match number {
            SSH_AGENTC_REQUEST_IDENTITIES if contents.is_empty() => Some(Self::Identities),
            SSH_AGENTC_SIGN_REQUEST => {
                let (key, data) = (rest.string()?, rest.string()?);
                let _flags = rest.number::<4>()?;
                rest.0.is_empty().then_some(Self::Sign(Sign { key, data }))
            }
            SSH_AGENTC_EXTENSION => match rest.string()? {
                QUERY if rest.0.is_empty() => Some(Self::Query),
                SESSION_BIND => Some(Self::SessionBind(SessionBind::read(rest))),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'b> SessionBind<'b> {
    fn read(mut rest: Strings<'b>) -> Option<Self> {
        let (host_key, session_id, signature) = (rest.string()?, rest.string()?, rest.string()?);
        let [is_forwarding] = rest.number()?;
        let is_forwarding = is_forwarding != 0;
        let bind = Self { host_key, session_id, signature, is_forwarding };
        rest.0.is_empty().then_some(bind)
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The request is refused, malformed or unknown.
    Failure,
    /// Done.
    Success,
    /// An extension that there is has failed.
    ExtensionFailure,
    /// Keys and certificates, each with a comment.
    Identities(Vec<Identity>),
    /// A signature, with its algorithm.
    Signature(Vec<u8>),
    /// The extensions that there are.
    Extensions,
}

/// A key or a certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// In SSH's wire format.
    pub blob: Vec<u8>,
    /// For people.
    pub comment: String,
}

impl Response {
    /// The message, behind its length.
    #[must_use]
    pub fn to_message(&self) -> Vec<u8> {
        let message = Packed::default();
        let message = match self {
            Self::Failure => message.byte(SSH_AGENT_FAILURE),
            Self::Success => message.byte(SSH_AGENT_SUCCESS),
            Self::ExtensionFailure => message.byte(SSH_AGENT_EXTENSION_FAILURE),
            Self::Identities(identities) => {
                let message = message.byte(SSH_AGENT_IDENTITIES_ANSWER);
                let message = message.number(u32::try_from(identities.len()).unwrap_or(u32::MAX));
                identities.iter().fold(message, |message, identity| {
                    message.string(&identity.blob).string(identity.comment.as_bytes())
                })
            }
            Self::Signature(signature) => message.byte(SSH_AGENT_SIGN_RESPONSE).string(signature),
            Self::Extensions => {
                message.byte(SSH_AGENT_EXTENSION_RESPONSE).string(QUERY).string(SESSION_BIND)
            }
        };
        Packed::default().string(&message.into_vec()).into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_no_other_bytes_are() {
        let sign = Packed::default().byte(13).string(b"key").string(b"data").number(6).into_vec();
        let bind = |flag: u8| {
            let bind = Packed::default().byte(27).string(SESSION_BIND);
            bind.string(b"host").string(b"id").string(b"signature").byte(flag).into_vec()
        };
        let bound = |is_forwarding| {
            let (host_key, session_id, signature) = (&b"host"[..], &b"id"[..], &b"signature"[..]);
            let bind = SessionBind { host_key, session_id, signature, is_forwarding };
            Request::SessionBind(Some(bind))
        };
        let query = Packed::default().byte(27).string(b"query").into_vec();
        for (message, request) in [
            (vec![11], Request::Identities),
            (sign, Request::Sign(Sign { key: b"key", data: b"data" })),
            (bind(0), bound(false)),
            (bind(1), bound(true)),
            (query, Request::Query),
        ] {
            assert_eq!(Request::read(&message), Some(request));
            for length in 0..message.len() {
                let cut = Request::read(&message[..length]);
                assert!(matches!(cut, None | Some(Request::SessionBind(None))), "{cut:?}");
            }
            let longer = [message, vec![0]].concat();
            let longer = Request::read(&longer);
            assert!(matches!(longer, None | Some(Request::SessionBind(None))), "{longer:?}");
        }
    }

    /// Adding, removing, locking and smartcards; requests of SSH 1; responses; what has no meaning.
    #[test]
    fn other_messages_are_no_requests() {
        for number in (0..=255).filter(|number| ![11, 13, 27].contains(number)) {
            assert_eq!(Request::read(&[number]), None, "{number}");
        }
        let unknown = Packed::default().byte(27).string(b"a@b").string(b"contents").into_vec();
        assert_eq!(Request::read(&unknown), None);
        let long = [&[13], &[0xff; 64][..]].concat();
        assert_eq!(Request::read(&long), None);
    }

    #[test]
    fn responses_are_as_the_protocol_has_them() {
        let identity = |blob: &[u8]| Identity { blob: blob.to_vec(), comment: "c".into() };
        for (response, message) in [
            (Response::Failure, &b"\0\0\0\x01\x05"[..]),
            (Response::Success, b"\0\0\0\x01\x06"),
            (Response::ExtensionFailure, b"\0\0\0\x01\x1c"),
            (Response::Identities(vec![]), b"\0\0\0\x05\x0c\0\0\0\0"),
            (
                Response::Identities(vec![identity(b"a"), identity(b"b")]),
                b"\0\0\0\x19\x0c\0\0\0\x02\0\0\0\x01a\0\0\0\x01c\0\0\0\x01b\0\0\0\x01c",
            ),
            (Response::Signature(b"s".to_vec()), b"\0\0\0\x06\x0e\0\0\0\x01s"),
            (
                Response::Extensions,
                b"\0\0\0\x26\x1d\0\0\0\x05query\0\0\0\x18session-bind@openssh.com",
            ),
        ] {
            assert_eq!(response.to_message(), message);
        }
    }
}
