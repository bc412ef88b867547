//! Keys as files, `-----BEGIN TSS2 PRIVATE KEY-----`: what OpenSSL's TPM providers read, as long as there is neither a
//! policy nor a description in it. *ASN.1 Specification for TPM 2.0 Key Files* (draft-bottomley-tpm2-keys-00).
//!
//! A file holds a public and a private area. Only the TPM can read the private one, and only with the parent that the file names.
//!
//! ```no_run
//! use tpm2::Tpm;
//! use tpm2::commands::Sign;
//! use tpm2::crypto::HashAlg;
//! use tpm2::key_file::KeyFile;
//! use tpm2::session::Auth;
//!
//! let pem = std::fs::read_to_string("key.pem")?; // a signing key with a scheme, as `KeyFile::to_pem` writes it
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let key = KeyFile::from_pem(&pem)?.load(&mut tpm, b"")?; // the parent has no authorization value
//!
//! let digest = HashAlg::Sha256.digest(&[b"a message"]);
//! let signature = tpm.run(&Sign::digest(key.object(), (&digest).into()), [Auth::password(b"PIN")])?;
//! # let _ = signature;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A key that `openssl genpkey -provider tpm2` makes has no scheme, so that the command has to name one
//! ([`Sign::in_scheme`](crate::commands::Sign)); a TPM refuses it otherwise with `TPM_RC_SCHEME`.

mod asn1;
mod load;
mod policy;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::types::{CommandCode, EncryptedSecret, Handle, Public};
use crate::wire::{Hex, Malformed, Marshal, Reader, TooLarge, Tpm2b, Unmarshal};

/// The longest file that is read, in octets.
pub const MAX_FILE: usize = 64 * 1024;

/// The most steps of a policy, and the most policies, that are read.
pub const MAX_STEPS: usize = 64;

/// A key, or sealed data, that its parent can load.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    kind: Kind,
    parent: KeyParent,
    /// `TPM2B_PUBLIC`.
    public: Vec<u8>,
    /// `TPM2B_PRIVATE`.
    private: Vec<u8>,
    /// Whether its authorization value is empty.
    pub auth: KeyAuth,
    /// What must be run in a policy session before it can be used; empty if it has no policy. tpm2-openssl reads no
    /// file that has one.
    pub policy: Vec<PolicyStep>,
    /// Signed policies, one of which must be run. tpm2-openssl reads no file that has one.
    pub auth_policy: Vec<SignedPolicy>,
    /// A description for people. tpm2-openssl reads no file that has one.
    pub description: Option<String>,
}

/// Without the private area: of a key that was wrapped outside of a TPM it may be readable.
impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("kind", &self.kind)
            .field("parent", &self.parent)
            .field("public", &Hex(&self.public))
            .field("auth", &self.auth)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A key for [`Load`](crate::commands::Load).
    Loadable,
    /// A key, wrapped to its parent from outside the TPM, for [`Import`](crate::commands::Import) first.
    Importable(Seed),
    /// Data that a TPM sealed, for [`Load`](crate::commands::Load).
    Sealed,
    /// Data that were sealed outside the TPM, for [`Import`](crate::commands::Import) first.
    ImportableSealed(Seed),
}

/// A seed, encrypted to the parent: `TPM2B_ENCRYPTED_SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(Vec<u8>);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seed").field(&Hex(&self.0)).finish()
    }
}

impl Seed {
    /// The seed.
    ///
    /// # Panics
    /// Never: it was checked when it was made.
    #[must_use]
    pub fn secret(&self) -> EncryptedSecret<'_> {
        EncryptedSecret::from_bytes(&self.0).expect("checked when it was made")
    }
}

impl TryFrom<EncryptedSecret<'_>> for Seed {
    type Error = TooLarge;

    fn try_from(secret: EncryptedSecret<'_>) -> Result<Self, TooLarge> {
        secret.to_vec().map(Self)
    }
}

/// The key under which a file's key can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyParent {
    /// A persistent key.
    Persistent(Handle),
    /// The primary key of a hierarchy from [`SRK_P256`](crate::template::SRK_P256).
    P256(Handle),
    /// The primary key of a hierarchy from [`SRK_RSA2048`](crate::template::SRK_RSA2048).
    Rsa2048(Handle),
}

/// Whether a key needs an authorization value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyAuth {
    /// It is empty.
    Empty,
    /// It must be asked for.
    Value,
}

/// A step of a policy.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyStep {
    /// The policy command.
    pub command: CommandCode,
    /// Its parameters as the draft lays them out.
    pub parameters: Vec<u8>,
}

impl fmt::Debug for PolicyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyStep")
            .field("command", &self.command)
            .field("parameters", &Hex(&self.parameters))
            .finish()
    }
}

/// A signed policy: its last step is PolicyAuthorize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPolicy {
    /// What a person called it.
    pub name: Option<String>,
    /// The policy.
    pub steps: Vec<PolicyStep>,
}

impl KeyFile {
    /// A key that [`Create`](crate::commands::Create) made, with an empty authorization value, no policy and no
    /// description; `private` is the content of its `TPM2B_PRIVATE`.
    ///
    /// # Errors
    /// The private part is larger than any.
    pub fn new(
        kind: Kind,
        parent: KeyParent,
        public: &Public<'_>,
        private: &[u8],
    ) -> Result<Self, TooLarge> {
        let length = u16::try_from(private.len()).map_err(|_| TooLarge)?;
        Ok(Self {
            kind,
            parent,
            public: Tpm2b(*public).to_vec()?,
            private: [&length.to_be_bytes(), private].concat(),
            auth: KeyAuth::Empty,
            policy: Vec::new(),
            auth_policy: Vec::new(),
            description: None,
        })
    }

    /// Reads the first block of a PEM text; what precedes it is ignored.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        if text.len() > MAX_FILE {
            return Err(KeyFileError::TooLong);
        }
        if !text.contains("-----BEGIN ") {
            return Err(KeyFileError::NoPem);
        }
        let (label, der) = der::pem::decode_vec(text.as_bytes()).map_err(KeyFileError::pem)?;
        if label != LABEL {
            return Err(KeyFileError::Label);
        }
        Self::from_der(&der)
    }

    /// As a PEM text.
    ///
    /// # Errors
    /// As [`Self::to_der`].
    pub fn to_pem(&self) -> Result<String, KeyFileError> {
        let der = self.to_der()?;
        der::pem::encode_string(LABEL, der::pem::LineEnding::LF, &der).map_err(KeyFileError::pem)
    }

    /// Why tpm2-openssl, at least up to version 1.3.0, cannot read the file, if so: it refuses a file with an optional part that
    /// it does not know. Show it to a person who makes a file for another program.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        match self {
            Self { description: Some(_), .. } => {
                Some("tpm2-openssl cannot read a key file that has a description")
            }
            Self { policy, auth_policy, .. } if policy.is_empty() && auth_policy.is_empty() => None,
            _ => Some("tpm2-openssl cannot read a key file that has a policy"),
        }
    }

    /// What it holds.
    #[must_use]
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What it can be loaded under.
    #[must_use]
    pub const fn parent(&self) -> KeyParent {
        self.parent
    }

    /// The public area.
    ///
    /// # Panics
    /// Never: it was checked when it was made.
    #[must_use]
    pub fn public(&self) -> Public<'_> {
        Tpm2b::from_bytes(&self.public).map(|public| public.0).expect("checked when it was made")
    }

    /// The content of its `TPM2B_PRIVATE`.
    #[must_use]
    pub fn private(&self) -> &[u8] {
        self.private.get(2..).unwrap_or_default()
    }
}

const LABEL: &str = "TSS2 PRIVATE KEY";

/// Why a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Longer than [`MAX_FILE`].
    TooLong,
    /// A text without a PEM block, such as an empty one.
    NoPem,
    /// A PEM block that cannot be decoded.
    Pem(EncodingError),
    /// A PEM block of something else.
    Label,
    /// Not the DER of a `TPMKey`.
    Der(EncodingError),
    /// Neither a loadable nor an importable key, nor sealed data.
    Kind(UnknownKind),
    /// A key to be imported without seed, or one to be loaded with one.
    Seed,
    /// A parent that is neither a persistent handle nor a hierarchy.
    Parent,
    /// More steps in a policy, or policies, than [`MAX_STEPS`].
    Steps,
    /// A step of a policy that cannot be run from a file.
    Step,
    /// A part that is not the structure that it should be.
    Part(Malformed),
}

/// What is wrong with PEM or DER, in words: the crate that decodes them is not part of this interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingError(Encoding);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Pem(der::pem::Error),
    Der(der::Error),
}

impl fmt::Display for EncodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Encoding::Pem(error) => error.fmt(f),
            Encoding::Der(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EncodingError {}

/// The object identifier in the place of a file's type; `Display` has its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind(der::asn1::ObjectIdentifier);

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl KeyFileError {
    const fn pem(error: der::pem::Error) -> Self {
        Self::Pem(EncodingError(Encoding::Pem(error)))
    }

    const fn der(error: der::Error) -> Self {
        Self::Der(EncodingError(Encoding::Der(error)))
    }
}

/// `{:#}` has what the decoder of PEM or DER says as well.
impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {MAX_FILE} bytes"),
            Self::NoPem => {
                write!(f, "no PEM block: a key file begins with -----BEGIN {LABEL}-----")
            }
            Self::Pem(_) => f.write_str("the PEM block cannot be decoded"),
            Self::Label => write!(f, "the PEM block is not a -----BEGIN {LABEL}-----"),
            Self::Der(_) => f.write_str("the key file's ASN.1 cannot be decoded"),
            Self::Kind(oid) => write!(f, "a key file of unknown type {oid}"),
            Self::Seed => f.write_str("an unexpected seed, or a missing one"),
            Self::Parent => {
                f.write_str("its parent is neither a persistent handle nor a hierarchy")
            }
            Self::Steps => write!(f, "a policy of more than {MAX_STEPS} parts"),
            Self::Step => f.write_str("a step of a policy that cannot be run from a key file"),
            Self::Part(malformed) => malformed.fmt(f),
        }?;
        match core::error::Error::source(self) {
            Some(source) if f.alternate() => write!(f, ": {source}"),
            _ => Ok(()),
        }
    }
}

/// The message does not have that of the source.
impl core::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Pem(error) | Self::Der(error) => Some(error),
            _ => None,
        }
    }
}

/// A part that a structure must fill.
fn checked<'a, T: Unmarshal<'a>>(octets: &'a [u8], what: &'static str) -> Result<T, KeyFileError> {
    Reader::all(octets, |reader| reader.read(what))
        .map_err(|malformed| KeyFileError::Part(malformed.named(what)))
}
