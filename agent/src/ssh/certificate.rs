//! A certificate of OpenSSH, read and verified as sshd does it: `PROTOCOL.certkeys`, RFC 5656.

use super::key::{self, blob_of_line};
use super::signature;
use super::wire::{Packed, Strings};

const CERTIFICATE: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com";

/// `SSH_CERT_TYPE_USER`.
const USER: u32 = 1;

/// `SSH_CERT_TYPE_HOST`.
const HOST: u32 = 2;

/// A certificate for a P-256 key.
pub(crate) struct SshCertificate {
    /// The key, as an uncompressed point.
    pub(crate) point: Vec<u8>,
    kind: u32,
    /// Whom it is for, strings in a row.
    principals: Vec<u8>,
    after: u64,
    before: u64,
    authority: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl SshCertificate {
    /// Reads a line: the kind, the certificate, and perhaps a comment. Nothing is verified.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let blob = blob_of_line(line, CERTIFICATE)?;
        let mut rest = Strings(&blob);
        if rest.string()? != CERTIFICATE.as_bytes() {
            return None;
        }
        let _nonce = rest.string()?;
        let (curve, point) = (rest.string()?, rest.string()?);
        let _serial = rest.number::<8>()?;
        let kind = u32::from_be_bytes(rest.number()?);
        let (_id, principals) = (rest.string()?, rest.string()?);
        let (after, before) = (rest.number()?, rest.number()?);
        let (_critical, _extensions, _reserved) = (rest.string()?, rest.string()?, rest.string()?);
        let authority = rest.string()?;
        let (signed, tail) = blob.split_at_checked(blob.len().checked_sub(rest.0.len())?)?;
        let signature = Strings(tail).only()?;
        (curve == key::CURVE).then(|| Self {
            point: point.to_vec(),
            kind,
            principals: principals.to_vec(),
            after: u64::from_be_bytes(after),
            before: u64::from_be_bytes(before),
            authority: authority.to_vec(),
            signed: signed.to_vec(),
            signature: signature.to_vec(),
        })
    }

    /// Checks that one of the authorities, each a line of authorized_keys, has signed it, for a user, and that it is valid
    /// now.
    ///
    /// # Errors
    /// What is wrong with it, as it is said of a certificate.
    pub(crate) fn verify(&self, authorities: &[String], now: u64) -> Result<(), &'static str> {
        if self.kind != USER {
            return Err("that is not a user certificate");
        }
        self.verify_issue(authorities, now)
    }

    /// The same for a host, which has exactly these names.
    ///
    /// # Errors
    /// As of [`Self::verify`].
    pub(crate) fn verify_host(
        &self,
        names: &[String],
        authorities: &[String],
        now: u64,
    ) -> Result<(), &'static str> {
        if self.kind != HOST {
            return Err("that is not a host certificate");
        }
        let packed = names.iter().map(String::as_bytes).fold(Packed::default(), Packed::string);
        if self.principals != packed.into_vec() {
            return Err("for other names");
        }
        self.verify_issue(authorities, now)
    }

    fn verify_issue(&self, authorities: &[String], now: u64) -> Result<(), &'static str> {
        if !self.has_principals() {
            return Err("without principals, or with an empty one");
        }
        if now < self.after {
            return Err("that is not valid yet by this host's clock");
        }
        if now >= self.before {
            return Err("that has expired by this host's clock");
        }
        if !authorities.iter().any(|line| key::of_line(line).as_ref() == Some(&self.authority)) {
            return Err("from an unknown CA");
        }
        signature::verify(&self.authority, &self.signed, &self.signature)
            .ok_or("with an invalid signature")
    }
}

impl SshCertificate {
    /// `PROTOCOL.certkeys`: from the first second, and until before the last.
    pub(crate) fn validity(&self) -> Option<(i64, i64)> {
        Some((i64::try_from(self.after).ok()?, i64::try_from(self.before).ok()?))
    }

    /// As sshd and ssh compare.
    pub(crate) const fn is_valid_at(&self, now: u64) -> bool {
        self.after <= now && now < self.before
    }

    /// Whether it names those for whom it is. A server may take one that names none for everybody.
    fn has_principals(&self) -> bool {
        let mut rest = Strings(&self.principals);
        while !rest.0.is_empty() {
            if rest.string().is_none_or(<[u8]>::is_empty) {
                return false;
            }
        }
        !self.principals.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use base64ct::{Base64, Encoding};

    use super::*;

    /// What `ssh-keygen` makes: an authority's public key, and its certificate for another key.
    fn made(arguments: &[&str]) -> (String, String) {
        made_by(&["-t", "ecdsa", "-b", "256"], arguments)
    }

    /// The same, by an authority with a key of another kind.
    fn made_by(ca: &[&str], arguments: &[&str]) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let keygen = |arguments: &[&str]| {
            let mut command = Command::new("ssh-keygen");
            let output = command.current_dir(directory.path()).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        for (name, kind) in [("ca", ca), ("key", &["-t", "ecdsa", "-b", "256"])] {
            keygen(&[&["-q", "-N", "", "-f", name], kind].concat());
        }
        keygen(
            &[&["-q", "-s", "ca", "-I", "id", "-n", "bot", "-z", "7"], arguments, &["key.pub"]]
                .concat(),
        );
        let text = |name| std::fs::read_to_string(directory.path().join(name)).unwrap();
        (text("ca.pub"), text("key-cert.pub"))
    }

    #[test]
    fn ssh_keygen_certificate_is_accepted_only_within_its_dates() {
        let (ca, line) = made(&["-V", "20260101000000Z:20260102000000Z"]);
        let certificate = SshCertificate::read(&line).unwrap();
        let begin = 1_767_225_600;
        let verify = |now| certificate.verify(&["ssh-ed25519 AAAA".into(), ca.clone()], now);
        assert_eq!(verify(begin), Ok(()));
        assert_eq!(verify(begin - 1), Err("that is not valid yet by this host's clock"));
        assert_eq!(verify(begin + 86_399), Ok(()));
        assert_eq!(verify(begin + 86_400), Err("that has expired by this host's clock"));
        assert_eq!(certificate.verify(&[], begin), Err("from an unknown CA"));
        let (other, _) = made(&[]);
        assert_eq!(certificate.verify(&[other], begin), Err("from an unknown CA"));
    }

    /// What clusters of Teleport sign with, by their suite.
    #[test]
    fn authority_may_have_a_key_of_any_common_kind() {
        let now = 1_800_000_000;
        for (ca, arguments) in [
            (&["-t", "ed25519"][..], &[][..]),
            (&["-t", "ecdsa", "-b", "384"], &[]),
            (&["-t", "rsa", "-b", "2048"], &["-t", "rsa-sha2-256"]),
            (&["-t", "rsa", "-b", "3072"], &["-t", "rsa-sha2-512"]),
        ] {
            let (line, certificate) = made_by(ca, arguments);
            let mut read = SshCertificate::read(&certificate).unwrap();
            assert_eq!(read.verify(std::slice::from_ref(&line), now), Ok(()), "{ca:?}");
            read.signed[40] ^= 1;
            assert_eq!(read.verify(&[line], now), Err("with an invalid signature"), "{ca:?}");
        }
        for (ca, arguments) in [
            (&["-t", "rsa", "-b", "1024"][..], &["-t", "rsa-sha2-256"][..]),
            (&["-t", "ecdsa", "-b", "521"], &[]),
        ] {
            let (line, certificate) = made_by(ca, arguments);
            let read = SshCertificate::read(&certificate).unwrap();
            assert_eq!(read.verify(&[line], now), Err("with an invalid signature"), "{ca:?}");
        }
    }

    #[test]
    fn host_certificate_is_refused_as_a_user_certificate() {
        let (ca, line) = made(&["-h"]);
        let certificate = SshCertificate::read(&line).unwrap();
        assert_eq!(certificate.verify(&[ca], 1_800_000_000), Err("that is not a user certificate"));
    }

    #[test]
    fn certificate_without_principals_is_refused() {
        const WITHOUT: Result<(), &str> = Err("without principals, or with an empty one");
        let (ca, line) = made(&[]);
        let mut certificate = SshCertificate::read(&line).unwrap();
        assert_eq!(certificate.principals, b"\0\0\0\x03bot");
        for (principals, expected) in [
            (&b""[..], WITHOUT),
            (b"\0\0\0\0", WITHOUT),
            (b"\0\0\0\x01a\0\0\0\0", WITHOUT),
            (b"\0\0\0\x02a", WITHOUT),
            (b"\0\0\0\x01a\0\0\0\x01b", Ok(())),
        ] {
            certificate.principals = principals.to_vec();
            let verified = certificate.verify(std::slice::from_ref(&ca), 1_800_000_000);
            assert_eq!(verified, expected, "{principals:?}");
        }
    }

    #[test]
    fn a_changed_octet_is_noticed() {
        let (ca, line) = made(&[]);
        let whole = blob_of_line(&line, CERTIFICATE).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x01;
            let line = format!("{CERTIFICATE} {}", Base64::encode_string(&changed));
            let read = SshCertificate::read(&line);
            let verified = read
                .is_some_and(|read| read.verify(std::slice::from_ref(&ca), 1_800_000_000).is_ok());
            assert!(!verified, "byte {at}");
        }
        for len in 0..whole.len() {
            let line = format!("{CERTIFICATE} {}", Base64::encode_string(&whole[..len]));
            assert!(SshCertificate::read(&line).is_none(), "{len} bytes");
        }
    }
}
