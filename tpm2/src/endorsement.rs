//! The endorsement keys of a TPM: where their certificates are, and how to come to the key that belongs to one. EK
//! credential profile 2.6 §2.2, Registry of reserved TPM 2.0 handles §2.2.
//!
//! A credential: who opens it has the attestation key in the TPM whose endorsement key is certified.
//!
//! ```no_run
//! use tpm2::Tpm;
//! use tpm2::crypto::make_credential;
//! use tpm2::endorsement::{DEFAULT_KIND, Passwords, activate, certificate, create, find};
//! use tpm2::object::create_primary;
//! use tpm2::session::Auth;
//! use tpm2::template::AK_P256;
//! use tpm2::types::{Hierarchy, SensitiveCreate};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let (kind, none) = (DEFAULT_KIND, Passwords::NONE);
//! let certificate = certificate(&mut tpm, kind, none)?; // for the verifier
//! let ek = match find(&mut tpm, kind)? {
//!     Some(persistent) => persistent,
//!     None => create(&mut tpm, kind, None, none)?.ok_or("no endorsement key")?,
//! };
//! let (hierarchy, empty) = (Hierarchy::Endorsement, SensitiveCreate::EMPTY);
//! let (ak, _) = create_primary(&mut tpm, hierarchy, Auth::EMPTY, &AK_P256, empty)?;
//!
//! // The verifier, which knows the endorsement key from its certificate, and has no TPM:
//! let credential = make_credential(&ek.public()?, ak.name(), b"a secret")?;
//!
//! let opened = activate(&mut tpm, (kind, &ek), ak.object(), Auth::EMPTY, &credential, none)?;
//! assert_eq!(opened.expose(), b"a secret");
//! # let _ = certificate;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activate;
mod chain;
mod nv;
mod passwords;

use alloc::vec::Vec;
use core::fmt;

pub use activate::{activate, satisfy};
pub use chain::{Chain, MAX_CHAIN, chain};
pub use nv::{certificate, read};
use passwords::Proof;
pub use passwords::{Passwords, ephemeral_session};

use crate::capability::handles_between;
use crate::client::Tpm;
use crate::commands::{Command, CreatePrimary, ReadPublic};
use crate::error::{Error, Fault};
use crate::object::{Loaded, kept};
use crate::template;
use crate::transport::Transport;
use crate::types::{
    EccParameter, EccPoint, EccPublic, Handle, Hierarchy, Id, Object, Public, PublicKeyRsa,
    ResponseCode, RsaPublic,
};
use crate::wire::{Malformed, Unmarshal, Why};

/// One kind of endorsement key, as the profile numbers them.
#[derive(Debug)]
#[non_exhaustive]
pub struct EkKind {
    /// What people call it, on command lines too.
    pub name: &'static str,
    /// The profile's name of the template.
    pub profile: &'static str,
    /// The NV index of the certificate.
    pub certificate: Handle,
    /// The NV index of a template that replaces the default one.
    template_index: Handle,
    /// The NV index of a nonce that goes into the template; the high range has none.
    nonce_index: Option<Handle>,
    /// Where software is known to leave the key, in the order of likelihood.
    persistent: &'static [Handle],
    /// The default template.
    pub template: &'static Public<'static>,
    /// Templates that other software or another edition of the profile has for the same certificate: zeros in `unique` where the
    /// profile leaves it empty, or another hash.
    others: &'static [&'static Public<'static>],
}

/// All kinds, in the order in which a certificate is looked for: low range, then high range.
pub static EK_KINDS: [EkKind; 8] = [
    EkKind {
        name: "rsa2048",
        profile: "L-1",
        certificate: Handle(0x01c0_0002),
        nonce_index: Some(Handle(0x01c0_0003)),
        template_index: Handle(0x01c0_0004),
        persistent: &[Handle(0x8101_0001)],
        template: &template::L1,
        others: &[],
    },
    EkKind {
        name: "p256",
        profile: "L-2",
        certificate: Handle(0x01c0_000a),
        nonce_index: Some(Handle(0x01c0_000b)),
        template_index: Handle(0x01c0_000c),
        persistent: &[Handle(0x8101_000a), Handle(0x8101_0002)],
        template: &template::L2,
        others: &[],
    },
    EkKind {
        name: "rsa2048-high",
        profile: "H-1",
        certificate: Handle(0x01c0_0012),
        nonce_index: None,
        template_index: Handle(0x01c0_0013),
        persistent: &[Handle(0x8101_0012)],
        template: &template::H1,
        others: &[&template::H1_ZERO_FILLED],
    },
    EkKind {
        name: "p256-high",
        profile: "H-2",
        certificate: Handle(0x01c0_0014),
        nonce_index: None,
        template_index: Handle(0x01c0_0015),
        persistent: &[Handle(0x8101_0014)],
        template: &template::H2,
        others: &[&template::H2_ZERO_FILLED],
    },
    EkKind {
        name: "p384",
        profile: "H-3",
        certificate: Handle(0x01c0_0016),
        nonce_index: None,
        template_index: Handle(0x01c0_0017),
        persistent: &[Handle(0x8101_0016)],
        template: &template::H3,
        others: &[&template::H3_ZERO_FILLED],
    },
    EkKind {
        name: "p521",
        profile: "H-4",
        certificate: Handle(0x01c0_0018),
        nonce_index: None,
        template_index: Handle(0x01c0_0019),
        persistent: &[Handle(0x8101_0018)],
        template: &template::H4,
        others: &[&template::H4_ZERO_FILLED],
    },
    EkKind {
        name: "rsa3072",
        profile: "H-6",
        certificate: Handle(0x01c0_001c),
        nonce_index: None,
        template_index: Handle(0x01c0_001d),
        persistent: &[Handle(0x8101_001c)],
        template: &template::H6,
        others: &[],
    },
    EkKind {
        name: "rsa4096",
        profile: "H-7",
        certificate: Handle(0x01c0_001e),
        nonce_index: None,
        template_index: Handle(0x01c0_001f),
        persistent: &[Handle(0x8101_001e)],
        template: &template::H7,
        others: &[&template::H7_SHA512],
    },
];

/// The kind on SM2, which TPMs for China have. It is not in [`EK_KINDS`], because its hash SM3 is not computed here.
pub static SM2: EkKind = EkKind {
    name: "sm2",
    profile: "H-5",
    certificate: Handle(0x01c0_001a),
    nonce_index: None,
    template_index: Handle(0x01c0_001b),
    persistent: &[Handle(0x8101_001a)],
    template: &template::H5,
    others: &[],
};

/// The kind that every TPM can make: RSA 2048, low range.
pub static DEFAULT_KIND: &EkKind = &EK_KINDS[0];

/// The public key of an endorsement key, as its certificate has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EkPublicKey<'a> {
    /// RSA: the modulus. The exponent of every endorsement key is 65537.
    Rsa(&'a [u8]),
    /// ECC: both coordinates at the size of the field.
    Ecc(&'a [u8], &'a [u8]),
}

impl EkPublicKey<'_> {
    /// Whether it is this key: zeros before a number do not make it another, and not every TPM says them.
    #[must_use]
    pub fn is(self, other: EkPublicKey<'_>) -> bool {
        let same = |a, b| without_leading_zeros(a) == without_leading_zeros(b);
        match (self, other) {
            (Self::Rsa(a), EkPublicKey::Rsa(b)) => same(a, b),
            (Self::Ecc(x, y), EkPublicKey::Ecc(other_x, other_y)) => {
                same(x, other_x) && same(y, other_y)
            }
            _ => false,
        }
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.get(zeros..).unwrap_or_default()
}

impl EkKind {
    /// The kind of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        EK_KINDS.iter().find(|kind| kind.name == name)
    }

    /// Whether the empty authorization value authorizes the key, so that no policy is needed.
    #[must_use]
    pub const fn has_user_with_auth(&self) -> bool {
        self.template.attributes.contains(crate::types::ObjectAttributes::USER_WITH_AUTH)
    }

    /// The public area of a key of this kind.
    ///
    /// # Errors
    /// The key is of another type, or larger than any.
    pub fn public<'k>(&self, key: EkPublicKey<'k>) -> Result<Public<'k>, Malformed> {
        filled(self.template, key)
    }

    /// All public areas that a key of this kind may have, the likeliest first: editions of the profile differ in the hash of
    /// RSA 4096.
    ///
    /// # Errors
    /// As [`Self::public`].
    pub fn publics<'k>(&self, key: EkPublicKey<'k>) -> Result<Vec<Public<'k>>, Malformed> {
        let usual = self.template.name_alg;
        let others = self.others.iter().filter(|other| other.name_alg != usual).copied();
        [self.template].into_iter().chain(others).map(|template| filled(template, key)).collect()
    }

    /// A template that stands in an NV index of the TPM.
    fn read_template<'t>(&self, octets: &'t [u8]) -> Result<Public<'t>, Malformed> {
        let template = Public::from_bytes(octets)?;
        if template.id.selector() == self.template.id.selector() {
            Ok(template)
        } else {
            Err(Malformed::new(Why::Unexpected, 0).named("template index"))
        }
    }

    /// Whether the area is that of a key of this kind: everything but the key itself is the template's.
    fn describes(&self, public: &Public<'_>) -> bool {
        ek_public_key(public)
            .and_then(|key| self.publics(key).ok())
            .is_some_and(|expected| expected.contains(public))
    }
}

fn filled<'k>(template: &Public<'static>, key: EkPublicKey<'k>) -> Result<Public<'k>, Malformed> {
    let wrong = |why| Malformed::new(why, 0).named("endorsement key");
    let id = match (template.id, key) {
        (Id::Rsa(parameters), EkPublicKey::Rsa(modulus)) => {
            let unique = PublicKeyRsa::new(modulus).map_err(|_| wrong(Why::TooLong))?;
            Id::Rsa(RsaPublic { unique, ..parameters })
        }
        (Id::Ecc(parameters), EkPublicKey::Ecc(x, y)) => {
            let coordinate = |octets| EccParameter::new(octets).map_err(|_| wrong(Why::TooLong));
            let unique = EccPoint { x: coordinate(x)?, y: coordinate(y)? };
            Id::Ecc(EccPublic { unique, ..parameters })
        }
        _ => return Err(wrong(Why::Selector)),
    };
    let Public { name_alg, attributes, auth_policy, .. } = *template;
    Ok(Public { name_alg, attributes, auth_policy, id })
}

impl fmt::Display for EkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The public key in a public area; `None` if it is neither RSA nor ECC.
#[must_use]
pub const fn ek_public_key<'a>(public: &Public<'a>) -> Option<EkPublicKey<'a>> {
    match &public.id {
        Id::Rsa(rsa) => Some(EkPublicKey::Rsa(rsa.unique.octets())),
        Id::Ecc(ecc) => Some(EkPublicKey::Ecc(ecc.unique.x.octets(), ecc.unique.y.octets())),
        _ => None,
    }
}

/// Where a key of this kind is expected to be persistent, in order.
#[must_use]
pub const fn persistent_handles(kind: &EkKind) -> &'static [Handle] {
    kind.persistent
}

/// The key of this kind that is persistent in the TPM, if one is where it is expected. The TPM's word is taken for its
/// public area: pin it, or compare it with a certificate.
///
/// # Errors
/// As [`Tpm::run`].
pub fn find<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &EkKind,
) -> Result<Option<Loaded>, Error<T::Error>> {
    for &handle in kind.persistent {
        match tpm.run(&ReadPublic { object_handle: Object::unnamed(handle) }, []) {
            Ok(answer) if kind.describes(&answer.out_public.0) => {
                return Ok(Loaded::new(handle, &answer.out_public.0).ok());
            }
            Ok(_) => {}
            Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether the TPM says that it has this very key at its handle.
///
/// # Errors
/// As [`Tpm::run`].
pub fn is_there<T: Transport>(tpm: &mut Tpm<T>, key: &Loaded) -> Result<bool, Error<T::Error>> {
    let fail = |fault: Fault| Error::new(ReadPublic::INFO.code, fault);
    let expected = key.public().map_err(|malformed| fail(malformed.into()))?;
    match tpm.run(&ReadPublic { object_handle: Object::unnamed(key.handle()) }, []) {
        Ok(answer) => Ok(answer.out_public.0 == expected),
        Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates the key of this kind, which takes many seconds if it is RSA; three commands more if the endorsement hierarchy
/// has a password, which never is on the bus. If `expected` is the key in a certificate, the
/// ways to fill the template that implementations differ in are tried until the key is that one; `None` if none leads to
/// it: the certificate is not this TPM's.
///
/// # Errors
/// As [`Tpm::run`].
pub fn create<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &EkKind,
    expected: Option<EkPublicKey<'_>>,
    passwords: Passwords<'_>,
) -> Result<Option<Loaded>, Error<T::Error>> {
    let fail = |fault: Fault| Error::new(CreatePrimary::INFO.code, fault);
    let own_template = read(tpm, kind.template_index, passwords)?;
    let nonce = match kind.nonce_index {
        Some(index) => read(tpm, index, passwords)?,
        None => None,
    };
    let own = match own_template.as_deref().map(|octets| kind.read_template(octets)) {
        // Which key is meant, only a certificate could tell then.
        Some(Err(malformed)) if expected.is_none() => return Err(fail(malformed.into())),
        own => own.and_then(Result::ok),
    };
    for template in own.iter().chain([kind.template]).chain(kind.others.iter().copied()) {
        let nonce = nonce.as_deref().and_then(|nonce| Nonce::new(template, nonce));
        for filled in nonce.iter().map(|nonce| nonce.fill(template)).chain([*template]) {
            let key = create_from(tpm, &filled, passwords.endorsement)?;
            let public = key.public().map_err(|malformed| fail(malformed.into()))?;
            let is = |expected| ek_public_key(&public).is_some_and(|key| key.is(expected));
            if expected.is_none_or(is) {
                return Ok(Some(key));
            }
            tpm.flush(key.handle())?;
        }
    }
    Ok(None)
}

fn create_from<T: Transport>(
    tpm: &mut Tpm<T>,
    template: &Public<'_>,
    password: &[u8],
) -> Result<Loaded, Error<T::Error>> {
    let fail = |fault: Fault| Error::new(CreatePrimary::INFO.code, fault);
    let proof = Proof::prepare(tpm, password)?;
    let command = CreatePrimary::of(Hierarchy::Endorsement, *template);
    let answer = tpm.run(&command, [proof.last_auth()])?;
    let handle = answer.object_handle.handle();
    let key = Loaded::new(handle, &answer.out_public.0).map_err(|error| fail(error.into()));
    kept(tpm, handle, key)
}

/// A nonce at the start of a template's `unique`, with zeros behind it. EK profile §2.2.1.3.
struct Nonce {
    unique: [u8; 256],
    len: usize,
}

impl Nonce {
    /// `None` if the template has no room for it.
    fn new(template: &Public<'_>, nonce: &[u8]) -> Option<Self> {
        let len = match template.id {
            Id::Rsa(rsa) => rsa.unique.octets().len(),
            Id::Ecc(ecc) => ecc.unique.x.octets().len(),
            _ => 0,
        };
        let mut unique = [0; 256];
        unique.get_mut(..len)?.get_mut(..nonce.len())?.copy_from_slice(nonce);
        Some(Self { unique, len })
    }

    fn fill<'t>(&'t self, template: &Public<'t>) -> Public<'t> {
        let filled = self.unique.get(..self.len).unwrap_or_default();
        let id = match template.id {
            Id::Rsa(rsa) => {
                let unique = PublicKeyRsa::new(filled).unwrap_or_default();
                Id::Rsa(RsaPublic { unique, ..rsa })
            }
            Id::Ecc(ecc) => {
                let x = EccParameter::new(filled).unwrap_or_default();
                Id::Ecc(EccPublic { unique: EccPoint { x, ..ecc.unique }, ..ecc })
            }
            other => other,
        };
        Public { id, ..*template }
    }
}

/// The kinds of which the TPM has a certificate, in order: one command, unless the TPM answers in pieces.
///
/// # Errors
/// As [`Tpm::run`].
pub fn certified<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<&'static EkKind>, Error<T::Error>> {
    // The NV indices of both ranges of endorsement keys. Registry §2.2.
    let handles = handles_between(tpm, Handle(0x01c0_0002), Handle(0x01c0_007f))?;
    Ok(EK_KINDS.iter().filter(|kind| handles.contains(&kind.certificate)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_a_kind_only_if_everything_but_the_key_is_the_templates() {
        let kind = EkKind::by_name("p256").unwrap();
        let point = ([7; 32], [9; 32]);
        let public = kind.public(EkPublicKey::Ecc(&point.0, &point.1)).unwrap();
        assert!(kind.describes(&public));
        assert!(!EkKind::by_name("p256-high").unwrap().describes(&public));
        assert!(kind.public(EkPublicKey::Rsa(&[1; 256])).is_err());
    }

    /// A TPM with a certificate of each kind, and one handle in each answer.
    struct OneByOne(usize);

    impl Transport for OneByOne {
        type Error = std::io::Error;

        fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> std::io::Result<usize> {
            let [.., a, b, c, d, _, _, _, _] = *command else { panic!("too short") };
            let first = u32::from_be_bytes([a, b, c, d]);
            let next = EK_KINDS.iter().position(|kind| kind.certificate.0 >= first).unwrap();
            let more = u8::from(next + 1 < EK_KINDS.len());
            let handle = EK_KINDS[next].certificate.0.to_be_bytes();
            let header = [0x80, 1, 0, 0, 0, 23, 0, 0, 0, 0, more, 0, 0, 0, 1, 0, 0, 0, 1];
            let answer = [&header[..], &handle].concat();
            response[..answer.len()].copy_from_slice(&answer);
            self.0 += 1;
            Ok(answer.len())
        }
    }

    #[test]
    fn certificates_are_all_found_if_the_tpm_lists_them_in_pieces() {
        let mut tpm = Tpm::new(OneByOne(0));
        let found = certified(&mut tpm).unwrap();
        assert_eq!(found.len(), EK_KINDS.len());
        assert_eq!(tpm.transport().0, EK_KINDS.len());
    }

    #[test]
    fn zeros_that_lead_make_no_other_key() {
        let (x, y) = ([&[0; 2][..], &[7; 30]].concat(), [9; 32]);
        let key = EkPublicKey::Ecc(&x, &y);
        assert!(key.is(EkPublicKey::Ecc(&x[2..], &y)) && EkPublicKey::Ecc(&x[1..], &y).is(key));
        assert!(!key.is(EkPublicKey::Ecc(&x, &[8; 32])) && !key.is(EkPublicKey::Rsa(&x)));
    }
}
