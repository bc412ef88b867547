//! What is signed: data that means nothing else than the protocols of SSH. A key that signed anything could be used for others, such
//! as TLS.

use crate::ssh::key;
use crate::ssh::wire::Strings;

const SSH_MSG_USERAUTH_REQUEST: u8 = 50;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A user's: it logs in, and signs files.
    User,
    /// A host's: it authenticates an sshd.
    Host,
}

/// What signing some data means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signable<'b> {
    /// A user logs in. RFC 4252 §7, and OpenSSH's `publickey-hostbound-v00@openssh.com`.
    Login {
        /// The session in which this is valid.
        session_id: &'b [u8],
        /// The user's name on the server.
        user: &'b str,
        /// The key by which the client knows the server, if the server was asked to compare.
        host_key: Option<&'b [u8]>,
    },
    /// A file or a message. OpenSSH's `PROTOCOL.sshsig`.
    File {
        /// What it is for, such as `git`.
        namespace: &'b str,
    },
    /// A key exchange, RFC 4253 §8, of which the data is the exchange hash.
    KeyExchange,
    /// A server proves another one of its keys to a client. OpenSSH's `hostkeys-prove-00@openssh.com`.
    HostKeyProof,
}

impl<'b> Signable<'b> {
    /// What signing `data` with a key for this purpose means; `None` if nothing that the key is for.
    #[must_use]
    pub fn read(purpose: Purpose, key: &[u8], data: &'b [u8]) -> Option<Self> {
        match purpose {
            Purpose::User => login(key, data).or_else(|| file(data)),
            // SHA-256, SHA-384 and SHA-512.
            Purpose::Host if matches!(data.len(), 32 | 48 | 64) => Some(Self::KeyExchange),
            Purpose::Host => host_key_proof(key, data),
        }
    }
}

/// Of this key, or with its certificate.
fn login<'b>(key: &[u8], data: &'b [u8]) -> Option<Signable<'b>> {
    let mut rest = Strings(data);
    let session_id = rest.string()?;
    let [number] = rest.number()?;
    let (user, service, method) = (rest.string()?, rest.string()?, rest.string()?);
    let [has_signature] = rest.number()?;
    let (_algorithm, named) = (rest.string()?, rest.string()?);
    let host_key = match method {
        b"publickey" => None,
        b"publickey-hostbound-v00@openssh.com" => Some(rest.string()?),
        _ => return None,
    };
    let is_login = number == SSH_MSG_USERAUTH_REQUEST
        && service == b"ssh-connection"
        && has_signature != 0
        && rest.0.is_empty()
        && key::plain(named)? == key;
    let user = std::str::from_utf8(user).ok()?;
    is_login.then_some(Signable::Login { session_id, user, host_key })
}

fn file(data: &[u8]) -> Option<Signable<'_>> {
    let mut rest = Strings(data.strip_prefix(b"SSHSIG")?);
    let namespace = rest.string()?;
    let (_reserved, _hash_algorithm, _hash) = (rest.string()?, rest.string()?, rest.string()?);
    let namespace = std::str::from_utf8(namespace).ok()?;
    let is_file = !namespace.is_empty() && rest.0.is_empty();
    is_file.then_some(Signable::File { namespace })
}

fn host_key_proof<'b>(key: &[u8], data: &'b [u8]) -> Option<Signable<'b>> {
    let mut rest = Strings(data);
    let name = rest.string()?;
    let (_session_id, proven) = (rest.string()?, rest.only()?);
    let is_proof = name == b"hostkeys-prove-00@openssh.com" && key::plain(proven)? == key;
    is_proof.then_some(Signable::HostKeyProof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::wire::Packed;

    const KEY: &[u8] = b"\0\0\0\x01k";

    fn user(data: &[u8]) -> Option<Signable<'_>> {
        Signable::read(Purpose::User, KEY, data)
    }

    fn login_data(method: &[u8], key: &[u8]) -> Packed {
        let data = Packed::default().string(b"id").byte(50).string(b"git");
        let data = data.string(b"ssh-connection").string(method).byte(1);
        data.string(b"algorithm").string(key)
    }

    #[test]
    fn logins_and_files_are_what_users_keys_sign() {
        let plain = login_data(b"publickey", KEY).into_vec();
        let login = |host_key| Signable::Login { session_id: b"id", user: "git", host_key };
        assert_eq!(user(&plain), Some(login(None)));
        let bound = login_data(b"publickey-hostbound-v00@openssh.com", KEY).string(b"h").into_vec();
        assert_eq!(user(&bound), Some(login(Some(b"h"))));
        let sshsig = [b"SSHSIG", &*Packed::default().string(b"git").into_vec()].concat();
        let rest = Packed::default().string(b"").string(b"sha512").string(&[7; 64]).into_vec();
        let file = [sshsig, rest].concat();
        assert_eq!(user(&file), Some(Signable::File { namespace: "git" }));
        for whole in [plain, bound, file] {
            for length in 0..whole.len() {
                assert_eq!(user(&whole[..length]), None, "{length} bytes");
            }
            assert_eq!(user(&[&*whole, &[0]].concat()), None);
            assert_eq!(Signable::read(Purpose::Host, KEY, &whole), None);
        }
    }

    #[test]
    fn data_of_other_keys_and_protocols_is_not_signed() {
        let other_key = login_data(b"publickey", b"\0\0\0\x01l").into_vec();
        let other_method = login_data(b"hostbased", KEY).into_vec();
        let tls = [&[0x20; 64][..], b"TLS 1.3, client CertificateVerify\0", &[7; 32]].concat();
        for data in [&*other_key, &other_method, &tls, b"", &[7; 32]] {
            assert_eq!(user(data), None, "{data:?}");
        }
        let namespace = [b"SSHSIG", &*Packed::default().string(b"").into_vec()].concat();
        let rest = Packed::default().string(b"").string(b"sha512").string(&[7; 64]).into_vec();
        assert_eq!(user(&[namespace, rest].concat()), None);
    }

    #[test]
    fn hosts_keys_sign_key_exchanges_and_proofs_of_themselves() {
        fn host(data: &[u8]) -> Option<Signable<'_>> {
            Signable::read(Purpose::Host, KEY, data)
        }
        for length in 0..200 {
            let is_hash = [32, 48, 64].contains(&length);
            let expected = is_hash.then_some(Signable::KeyExchange);
            assert_eq!(host(&vec![7; length]), expected, "{length} bytes");
        }
        let proof = |key: &[u8]| {
            let data = Packed::default().string(b"hostkeys-prove-00@openssh.com");
            data.string(&[7; 32]).string(key).into_vec()
        };
        assert_eq!(host(&proof(KEY)), Some(Signable::HostKeyProof));
        assert_eq!(host(&proof(b"\0\0\0\x01l")), None);
    }
}
