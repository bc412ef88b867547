//! Public keys of SSH: RFC 4253 §6.6, RFC 5656 §3.1, and the keys in certificates, `PROTOCOL.certkeys`.

use base64ct::{Base64, Encoding};
use p256::ecdsa::VerifyingKey;
use zeroize::Zeroizing;

use super::wire::{Packed, Strings};

const P256: &str = "ecdsa-sha2-nistp256";

/// The curve of P-256 keys.
pub(super) const CURVE: &[u8] = b"nistp256";

/// The end of the type of each certificate.
const CERTIFICATE: &[u8] = b"-cert-v01@openssh.com";

/// A P-256 key in SSH's wire format. RFC 5656 §3.1.
pub(crate) fn blob(key: &VerifyingKey) -> Vec<u8> {
    let point = key.to_sec1_point(false);
    let strings = [P256.as_bytes(), CURVE, point.as_bytes()];
    strings.into_iter().fold(Packed::default(), Packed::string).into_vec()
}

/// A public key or a certificate as a line of `authorized_keys`; `None` if it does not begin with its type.
pub(crate) fn line(blob: &[u8]) -> Option<String> {
    let kind = std::str::from_utf8(Strings(blob).string()?).ok()?;
    let is_kind = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_graphic());
    is_kind.then(|| format!("{kind} {}", Base64::encode_string(blob)))
}

/// What is in a line of `authorized_keys`, which is of the type that the line names.
pub(crate) fn of_line(line: &str) -> Option<Vec<u8>> {
    let kind = line.split_ascii_whitespace().next()?;
    blob_of_line(line, kind).filter(|blob| Strings(blob).string() == Some(kind.as_bytes()))
}

/// What a line of this kind has in Base64.
pub(super) fn blob_of_line(line: &str, kind: &str) -> Option<Vec<u8>> {
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|word| *word == kind)?;
    Base64::decode_vec(words.next()?).ok()
}

/// A private key in the form of OpenSSH's files, `PROTOCOL.key`, without a passphrase.
pub(crate) fn private(
    public: &VerifyingKey,
    scalar: &[u8; 32],
    check: [u8; 4],
) -> Zeroizing<Vec<u8>> {
    let point = public.to_sec1_point(false);
    // Large enough from the start: growing would leave a copy of the key behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(256));
    secret.extend([check, check].as_flattened());
    let key = [P256.as_bytes(), CURVE, point.as_bytes()];
    secret.extend(key.into_iter().fold(Packed::default(), Packed::string).into_vec());
    // An mpint that always has the byte of its sign.
    secret.extend([0, 0, 0, 33, 0]);
    secret.extend(scalar);
    // No comment.
    secret.extend([0; 4]);
    let padding = secret.len().wrapping_neg() % 8;
    secret.extend((1..8).take(padding));

    let head = [&b"none"[..], b"none", b""].into_iter().fold(Packed::default(), Packed::string);
    let head = head.number(1).string(&blob(public)).into_vec();
    let length = u32::try_from(secret.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut file = Zeroizing::new(Vec::with_capacity(512));
    for part in [b"openssh-key-v1\0", &*head, &length, &secret] {
        file.extend_from_slice(part);
    }
    let base64 = Zeroizing::new(Base64::encode_string(&file));
    let mut text = Zeroizing::new(Vec::with_capacity(1024));
    text.extend(b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for line in base64.as_bytes().chunks(70) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend(b"-----END OPENSSH PRIVATE KEY-----\n");
    text
}

/// The key of a certificate; a plain key is its own. `None` if it is malformed, or of an unknown type.
pub(crate) fn plain(blob: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Strings(blob);
    let named = rest.string()?;
    let Some(kind) = named.strip_suffix(CERTIFICATE) else { return Some(blob.to_vec()) };
    let _nonce = rest.string()?;
    let parts = match kind {
        b"ssh-ed25519" => 1,
        b"ssh-rsa" => 2,
        _ if kind.starts_with(b"ecdsa-sha2-") => 2,
        _ => return None,
    };
    let mut key = Packed::default().string(kind);
    for _ in 0..parts {
        key = key.string(rest.string()?);
    }
    Some(key.into_vec())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn key_and_line_are_those_of_ssh_keygen() {
        let directory = tempfile::tempdir().unwrap();
        let key = crate::keys::SoftwareKey::generate().unwrap();
        let blob = super::blob(&crate::keys::Key::public(&key));
        let text = line(&blob).unwrap();
        std::fs::write(directory.path().join("key.pub"), &text).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.current_dir(directory.path()).args(["-l", "-f", "key.pub"]);
        let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(shown.starts_with("256 SHA256:") && shown.contains("(ECDSA)"), "{shown}");
        assert_eq!(of_line(&text), Some(blob));
        for wrong in [&b""[..], b"\0\0\0\0", b"\0\0\0\x01 ", b"\0\0\0\x02a\n", b"\0\0\0\x09a"] {
            assert_eq!(line(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn ssh_keygen_reads_private_keys() {
        use crate::keys::{Key, SoftwareKey};

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for _ in 0..8 {
            let key = SoftwareKey::generate().unwrap();
            let text = private(&key.public(), &key.scalar().unwrap(), [7; 4]);
            std::fs::write(&path, &*text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).unwrap();
            let mut command = Command::new("ssh-keygen");
            let shown = command.args(["-y", "-f"]).arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&shown.stderr);
            let shown = String::from_utf8_lossy(&shown.stdout);
            assert_eq!(shown.trim(), line(&super::blob(&key.public())).unwrap(), "{said}");
        }
    }

    #[test]
    fn key_of_a_certificate_of_any_type_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let keygen = |arguments: &[&str]| {
            let mut command = Command::new("ssh-keygen");
            let output = command.current_dir(directory.path()).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let read = |name: &str| {
            of_line(&std::fs::read_to_string(directory.path().join(name)).unwrap()).unwrap()
        };
        keygen(&["-q", "-N", "", "-f", "ca"]);
        for kind in ["ecdsa", "ed25519", "rsa"] {
            keygen(&["-q", "-N", "", "-t", kind, "-f", kind]);
            let public = format!("{kind}.pub");
            keygen(&["-q", "-s", "ca", "-I", "x", "-n", "x", &public]);
            let certificate = read(&format!("{kind}-cert.pub"));
            assert_eq!(plain(&certificate), Some(read(&public)), "{kind}");
            assert_eq!(plain(&read(&public)), Some(read(&public)), "{kind}");
            for length in 0..100 {
                assert_eq!(plain(&certificate[..length]), None, "{length} bytes of {kind}");
            }
        }
    }
}
