//! Signed heads of a log: C2SP's tlog-checkpoint in its signed-note.
//!
//! ```text
//! prod.example.com/authority/0b4e..      the origin: which log
//! 20852163                               its size
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — prod.example.com/authority/0b4e.. Uw2QOk..     key ID and signature
//! ```

use std::fmt;
use std::str::FromStr;

use base16ct::HexDisplay;
use base64ct::{Base64, Encoding};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use pkcs8::LineEnding;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::tree::Head;

/// The type of an Ed25519 key in signed notes.
const ED25519: u8 = 0x01;

/// What a line with a signature begins with.
const SIGNATURE: &str = "\u{2014} ";

/// More than a head with many signatures of witnesses.
const MAX_NOTE: usize = 64 * 1024;

/// Signatures of one note: more than witnesses that anyone has.
const MAX_SIGNATURES: usize = 100;

type KeyId = [u8; 4];

/// The key that an authority signs the heads of its log with, and no other.
pub struct LogKey {
    origin: Origin,
    key: SigningKey,
}

/// The public part of a [`LogKey`], as verifiers of signed notes read it: `NAME+ID+KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPublicKey {
    origin: Origin,
    key: VerifyingKey,
}

/// Which log: a name without spaces and plus signs. Keys that sign its heads have the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Why a text is no head, or none that this key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointError {
    /// It is not a signed note.
    Malformed,
    /// The text of the note is no checkpoint.
    NotACheckpoint,
    /// It is of another log.
    OtherOrigin,
    /// It has no signature of this key.
    NotSigned,
    /// The signature is not that of this text.
    BadSignature,
}

impl LogKey {
    /// The key with which the log of this origin is signed.
    pub fn new(origin: Origin, key: SigningKey) -> Self {
        Self { origin, key }
    }

    /// A new key, from the operating system's randomness.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate(origin: Origin) -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(Self::new(origin, SigningKey::from_bytes(&seed)))
    }

    /// Reads PKCS #8 PEM (RFC 8410, RFC 7468).
    ///
    /// # Errors
    /// It is no Ed25519 key.
    pub fn from_pem(origin: Origin, pem: &str) -> Result<Self, pkcs8::Error> {
        SigningKey::from_pkcs8_pem(pem).map(|key| Self::new(origin, key))
    }

    /// Writes PKCS #8 PEM.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, pkcs8::Error> {
        self.key.to_pkcs8_pem(LineEnding::LF)
    }

    /// Signs a head of the log.
    pub fn sign(&self, head: &Head) -> String {
        let root = Base64::encode_string(&head.root);
        self.sign_text(&format!("{}\n{}\n{root}\n", self.origin, head.size))
    }

    fn sign_text(&self, text: &str) -> String {
        let public = self.public();
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let signature = Base64::encode_string(&[public.id().as_slice(), &signature].concat());
        format!("{text}\n{SIGNATURE}{} {signature}\n", self.origin)
    }

    /// What verifies the heads.
    pub fn public(&self) -> LogPublicKey {
        LogPublicKey { origin: self.origin.clone(), key: self.key.verifying_key() }
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl LogPublicKey {
    /// Which log it is for.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The first bytes of a hash, which tell keys of one name apart.
    fn id(&self) -> KeyId {
        let hash = Sha256::new()
            .chain_update(&self.origin.0)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes());
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        [a, b, c, d]
    }

    /// The head in a note, if this key has signed it. Other signatures are ignored.
    ///
    /// # Errors
    /// Also if one of several signatures by this key is wrong.
    pub fn open(&self, note: &str) -> Result<Head, CheckpointError> {
        let (origin, head) = head(self.text(note)?).ok_or(CheckpointError::NotACheckpoint)?;
        if origin == self.origin.0 { Ok(head) } else { Err(CheckpointError::OtherOrigin) }
    }

    /// The signed text of a note.
    fn text<'n>(&self, note: &'n str) -> Result<&'n str, CheckpointError> {
        let (text, signatures) = parts(note).ok_or(CheckpointError::Malformed)?;
        let mut is_signed = false;
        for (name, id, signature) in signatures {
            if name != self.origin.0 || id != self.id() {
                continue;
            }
            let signature = Signature::from_slice(&signature);
            let signature = signature.map_err(|_| CheckpointError::BadSignature)?;
            let verified = self.key.verify_strict(text.as_bytes(), &signature);
            verified.map_err(|_| CheckpointError::BadSignature)?;
            is_signed = true;
        }
        if is_signed { Ok(text) } else { Err(CheckpointError::NotSigned) }
    }
}

impl Origin {
    /// The log of an authority of a cluster.
    ///
    /// # Errors
    /// The name of the cluster or the ID has a space or a plus sign.
    pub fn of(cluster: &str, id: &str) -> Result<Self, CheckpointError> {
        format!("{cluster}/authority/{id}").parse()
    }

    /// The ID of the authority.
    pub fn authority(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, id)| id)
    }
}

/// The origin and head that a note claims, whoever has signed it.
pub fn claimed(note: &str) -> Option<(&str, Head)> {
    head(parts(note)?.0)
}

/// A signature of a note: name of the key, its ID, signature.
type NoteSignature<'n> = (&'n str, KeyId, Vec<u8>);

/// The text of a note, which ends with a line feed, and its signatures.
fn parts(note: &str) -> Option<(&str, Vec<NoteSignature<'_>>)> {
    if note.len() > MAX_NOTE || note.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return None;
    }
    let end = note.rfind("\n\n")?.checked_add(1)?;
    let (text, signatures) = (note.get(..end)?, note.get(end..)?.strip_prefix('\n')?);
    let lines = signatures.strip_suffix('\n')?.split('\n');
    let signatures: Option<Vec<_>> = lines.take(MAX_SIGNATURES + 1).map(signature).collect();
    signatures.filter(|all| all.len() <= MAX_SIGNATURES).map(|signatures| (text, signatures))
}

fn signature(line: &str) -> Option<NoteSignature<'_>> {
    let (name, encoded) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
    let bytes = Base64::decode_vec(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk()?;
    let is_whole = is_name(name) && !signature.is_empty();
    is_whole.then(|| (name, *id, signature.to_vec()))
}

/// The origin and head in the text of a note. Lines after the third are extensions.
fn head(text: &str) -> Option<(&str, Head)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    let is_canonical = size == "0" || !size.starts_with(['0', '+']);
    let size = size.parse().ok().filter(|_| is_canonical)?;
    let root = Base64::decode_vec(root).ok()?.try_into().ok()?;
    let is_whole = !origin.is_empty() && lines.all(|line| !line.is_empty());
    is_whole.then_some((origin, Head { size, root }))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

impl FromStr for Origin {
    type Err = CheckpointError;

    fn from_str(name: &str) -> Result<Self, CheckpointError> {
        is_name(name).then(|| Self(name.to_owned())).ok_or(CheckpointError::Malformed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LogPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Base64::encode_string(&[&[ED25519], self.key.as_bytes().as_slice()].concat());
        write!(f, "{}+{:x}+{key}", self.origin, HexDisplay(&self.id()))
    }
}

impl FromStr for LogPublicKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let read = || {
            let (origin, rest) = text.split_once('+')?;
            let (_, key) = rest.split_once('+')?;
            let key = Base64::decode_vec(key).ok()?;
            let (kind, key) = key.split_first()?;
            let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
            let key = Self { origin: origin.parse().ok()?, key };
            (*kind == ED25519 && key.to_string() == text).then_some(key)
        };
        read().ok_or(CheckpointError::Malformed)
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not a signed note",
            Self::NotACheckpoint => "the note is not the head of a log",
            Self::OtherOrigin => "it is the head of another log",
            Self::NotSigned => "it is not signed with the key of this log",
            Self::BadSignature => "its signature is wrong: it was changed",
        })
    }
}

impl std::error::Error for CheckpointError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of signed notes.
    const SPECIFIED: (&str, &str) = (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "This is an example message.\n\n\
         \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n",
    );

    /// The example of Go's module sumdb/note, which has the private key as well.
    const GO_PRIVATE: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const GO: (&str, &str) = (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "If you think cryptography is the answer to your problem,\n\
         then you don't know what your problem is.\n\n\
         \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
    );
    /// A signature of another key under the same text.
    const ENOCH: &str = "\u{2014} EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

    fn key(origin: &str) -> LogKey {
        LogKey::new(origin.parse().unwrap(), SigningKey::from_bytes(&[7; 32]))
    }

    fn head() -> Head {
        Head { size: 20_852_163, root: [0xa5; 32] }
    }

    #[test]
    fn notes_of_others_are_verified_and_one_is_signed_alike() {
        for (public, note) in [SPECIFIED, GO] {
            let key: LogPublicKey = public.parse().unwrap();
            assert_eq!(key.to_string(), public);
            let text = &note[..=note.rfind("\n\n").unwrap()];
            assert_eq!(key.text(note), Ok(text));
            assert_eq!(key.open(note), Err(CheckpointError::NotACheckpoint));
        }
        let private = Base64::decode_vec(GO_PRIVATE).unwrap();
        let private = SigningKey::from_bytes(private[1..].try_into().unwrap());
        let key = LogKey::new("PeterNeumann".parse().unwrap(), private);
        let (public, note) = GO;
        assert_eq!(key.public().to_string(), public);
        assert_eq!(key.sign_text(&note[..=note.rfind("\n\n").unwrap()]), note);
    }

    #[test]
    fn signature_of_an_unknown_key_is_ignored_and_a_wrong_one_of_a_known_key_is_not() {
        let (public, note) = GO;
        let key: LogPublicKey = public.parse().unwrap();
        assert!(key.text(&format!("{note}{ENOCH}")).is_ok());
        let (text, own) = note.rsplit_once("\n\n").unwrap();
        assert!(key.text(&format!("{text}\n\n{ENOCH}{own}")).is_ok());
        let alone = format!("{text}\n\n{ENOCH}");
        assert_eq!(key.text(&alone), Err(CheckpointError::NotSigned));
        let wrong = own.replace("ZJkuBS", "ZJkuBT");
        for wrong in [format!("{text}\n\n{wrong}"), format!("{note}{wrong}")] {
            assert_eq!(key.text(&wrong), Err(CheckpointError::BadSignature));
        }
        let short = format!("{note}\u{2014} PeterNeumann x08gowA=\n");
        assert_eq!(key.text(&short), Err(CheckpointError::BadSignature));
    }

    #[test]
    fn head_is_read_as_it_was_signed_and_no_changed_byte_passes() {
        let key = key("c.example/authority/1");
        let note = key.sign(&head());
        assert_eq!(key.public().open(&note), Ok(head()));
        assert_eq!(claimed(&note), Some(("c.example/authority/1", head())));
        for index in 0..note.len() {
            for bit in 0..8 {
                let mut changed = note.clone().into_bytes();
                changed[index] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(changed) {
                    key.public().open(&changed).unwrap_err();
                }
            }
            if note.is_char_boundary(index) {
                key.public().open(&note[..index]).unwrap_err();
            }
        }
        let other = self::key("c.example/authority/2");
        assert_eq!(other.public().open(&note), Err(CheckpointError::NotSigned));
        let misused = key
            .sign_text("c.example/authority/2\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
        assert_eq!(key.public().open(&misused), Err(CheckpointError::OtherOrigin));
    }

    #[test]
    fn text_that_is_no_head_is_refused() {
        let key = key("o");
        let root = Base64::encode_string(&[0xa5; 32]);
        let good = format!("o\n5\n{root}\n");
        assert!(key.public().open(&key.sign_text(&good)).is_ok());
        assert!(key.public().open(&key.sign_text(&format!("{good}more\n"))).is_ok());
        let wrong = [
            format!("o\n05\n{root}\n"),
            format!("o\n+5\n{root}\n"),
            format!("o\n-5\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n5\n{}\n", &root[4..]),
            format!("o\n5\n{}\n", root.trim_end_matches('=')),
            "o\n5\n".to_owned(),
            format!("\n5\n{root}\n"),
            format!("{good}\nmore\n"),
        ];
        for wrong in wrong {
            let refused = key.public().open(&key.sign_text(&wrong));
            assert_eq!(refused, Err(CheckpointError::NotACheckpoint), "{wrong}");
        }
        let signed = key.sign_text(&good);
        let with_control = [signed.replace("o\n5", "o\r\n5"), signed.replace("o\n5", "\u{1b}o\n5")];
        let many = format!("{good}\n{}", ENOCH.repeat(MAX_SIGNATURES + 1));
        let long = key.sign_text(&format!("{good}{}\n", "x".repeat(MAX_NOTE)));
        let malformed = [many, long, good, String::new(), "\n\n".to_owned()];
        for wrong in with_control.into_iter().chain(malformed) {
            assert_eq!(key.public().open(&wrong), Err(CheckpointError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn public_key_is_written_one_way() {
        let (public, _) = GO;
        let wrong = [
            public.replace("c74f20a3", "c74f20a4"),
            public.replace("c74f20a3", "C74F20A3"),
            public.replace("+AR", "+ZR"),
            public.replace("Peter", "Peter "),
            public[..public.len() - 4].to_owned(),
            "PeterNeumann".to_owned(),
        ];
        for wrong in wrong {
            assert_eq!(wrong.parse::<LogPublicKey>(), Err(CheckpointError::Malformed), "{wrong}");
        }
        assert!("a b".parse::<Origin>().is_err() && "a+b".parse::<Origin>().is_err());
        assert!(!format!("{:?}", key("o")).contains("[7, 7"));
    }

    #[test]
    fn private_key_is_read_as_it_was_written() {
        let key = LogKey::generate("o".parse().unwrap()).unwrap();
        let read = LogKey::from_pem("o".parse().unwrap(), &key.to_pem().unwrap()).unwrap();
        assert_eq!(read.public(), key.public());
        assert!(LogKey::from_pem("o".parse().unwrap(), "").is_err());
    }
}
