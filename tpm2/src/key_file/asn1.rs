//! The file's ASN.1 module.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef, Utf8StringRef};
use der::{Decode, Encode, Sequence, Tag, Tagged};

use super::{
    KeyAuth, KeyFile, KeyFileError, KeyParent, Kind, MAX_FILE, MAX_STEPS, PolicyStep, Seed,
    SignedPolicy, UnknownKind, checked,
};
use crate::types::{CommandCode, EncryptedSecret, Entity, Handle, Hierarchy, Private, Public};
use crate::wire::Tpm2b;

const LOADABLE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.3");
const IMPORTABLE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.4");
const SEALED: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.5");

#[derive(Sequence)]
struct TpmKey<'a> {
    r#type: ObjectIdentifier,
    /// A BOOLEAN; TRUE is 01 where OpenSSL wrote it.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    empty_auth: Option<AnyRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    policy: Option<Vec<TpmPolicy<'a>>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    secret: Option<&'a OctetStringRef>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    auth_policy: Option<Vec<TpmAuthPolicy<'a>>>,
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT", optional = "true")]
    description: Option<Utf8StringRef<'a>>,
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    rsa_parent: Option<AnyRef<'a>>,
    /// Some programs write the handle as a signed number of 32 bits.
    parent: i64,
    pubkey: &'a OctetStringRef,
    privkey: &'a OctetStringRef,
}

#[derive(Sequence)]
struct TpmPolicy<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    command_code: u32,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    command_policy: &'a OctetStringRef,
}

#[derive(Sequence)]
struct TpmAuthPolicy<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    name: Option<Utf8StringRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    policy: Vec<TpmPolicy<'a>>,
}

impl KeyFile {
    /// Reads a `TPMKey` and nothing behind it.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn from_der(der: &[u8]) -> Result<Self, KeyFileError> {
        if der.len() > MAX_FILE {
            return Err(KeyFileError::TooLong);
        }
        let key = TpmKey::from_der(der).map_err(KeyFileError::der)?;
        let seed = match key.secret {
            Some(secret) => {
                let secret = secret.as_bytes();
                checked::<EncryptedSecret<'_>>(secret, "TPMKey.secret")?;
                Some(Seed(secret.to_vec()))
            }
            None => None,
        };
        let kind = match (key.r#type, seed) {
            (LOADABLE, None) => Kind::Loadable,
            (IMPORTABLE, Some(seed)) => Kind::Importable(seed),
            (SEALED, None) => Kind::Sealed,
            (SEALED, Some(seed)) => Kind::ImportableSealed(seed),
            (LOADABLE | IMPORTABLE, _) => return Err(KeyFileError::Seed),
            (unknown, _) => return Err(KeyFileError::Kind(UnknownKind(unknown))),
        };
        checked::<Tpm2b<Public<'_>>>(key.pubkey.as_bytes(), "TPMKey.pubkey")?;
        checked::<Private<'_>>(key.privkey.as_bytes(), "TPMKey.privkey")?;
        let auth = if boolean(key.empty_auth)? { KeyAuth::Empty } else { KeyAuth::Value };
        Ok(Self {
            kind,
            parent: parent(key.parent, boolean(key.rsa_parent)?)?,
            public: key.pubkey.as_bytes().to_vec(),
            private: key.privkey.as_bytes().to_vec(),
            auth,
            policy: steps(key.policy.unwrap_or_default())?,
            auth_policy: signed(key.auth_policy.unwrap_or_default())?,
            description: key.description.map(|text| text.as_str().to_owned()),
        })
    }

    /// Writes a `TPMKey`, without optional parts that are not needed: some readers refuse parts that they do not know, see
    /// [`Self::warning`].
    ///
    /// # Errors
    /// Something in it is longer than DER can say.
    pub fn to_der(&self) -> Result<Vec<u8>, KeyFileError> {
        self.encode().map_err(KeyFileError::der)
    }

    fn encode(&self) -> der::Result<Vec<u8>> {
        const FALSE: &[u8] = &[0];
        const TRUE: &[u8] = &[0xff];
        let boolean = |value| AnyRef::new(Tag::Boolean, if value { TRUE } else { FALSE });
        let (r#type, secret) = match &self.kind {
            Kind::Loadable => (LOADABLE, None),
            Kind::Importable(seed) => (IMPORTABLE, Some(seed)),
            Kind::Sealed => (SEALED, None),
            Kind::ImportableSealed(seed) => (SEALED, Some(seed)),
        };
        let (handle, rsa) = match self.parent {
            KeyParent::Persistent(handle) | KeyParent::P256(handle) => (handle, false),
            KeyParent::Rsa2048(handle) => (handle, true),
        };
        let signed = || self.auth_policy.iter().map(TpmAuthPolicy::new).collect();
        let key = TpmKey {
            r#type,
            // Always written: tpm2-openssl before 1.3.0 takes a missing value for TRUE.
            empty_auth: Some(boolean(self.auth == KeyAuth::Empty)?),
            policy: (!self.policy.is_empty()).then(|| policy(&self.policy)).transpose()?,
            secret: secret.map(|seed| OctetStringRef::new(&seed.0)).transpose()?,
            auth_policy: (!self.auth_policy.is_empty()).then(signed).transpose()?,
            description: self.description.as_deref().map(Utf8StringRef::new).transpose()?,
            rsa_parent: rsa.then(|| boolean(true)).transpose()?,
            parent: handle.0.into(),
            pubkey: OctetStringRef::new(&self.public)?,
            privkey: OctetStringRef::new(&self.private)?,
        };
        key.to_der()
    }
}

impl<'a> TpmPolicy<'a> {
    fn new(step: &'a PolicyStep) -> der::Result<Self> {
        let command_policy = OctetStringRef::new(&step.parameters)?;
        Ok(Self { command_code: step.command.0, command_policy })
    }
}

impl<'a> TpmAuthPolicy<'a> {
    fn new(signed: &'a SignedPolicy) -> der::Result<Self> {
        let name = signed.name.as_deref().map(Utf8StringRef::new).transpose()?;
        Ok(Self { name, policy: policy(&signed.steps)? })
    }
}

fn policy(steps: &[PolicyStep]) -> der::Result<Vec<TpmPolicy<'_>>> {
    steps.iter().map(TpmPolicy::new).collect()
}

fn steps(policy: Vec<TpmPolicy<'_>>) -> Result<Vec<PolicyStep>, KeyFileError> {
    if policy.len() > MAX_STEPS {
        return Err(KeyFileError::Steps);
    }
    let step = |step: TpmPolicy<'_>| PolicyStep {
        command: CommandCode(step.command_code),
        parameters: step.command_policy.as_bytes().to_vec(),
    };
    Ok(policy.into_iter().map(step).collect())
}

fn signed(policies: Vec<TpmAuthPolicy<'_>>) -> Result<Vec<SignedPolicy>, KeyFileError> {
    if policies.len() > MAX_STEPS {
        return Err(KeyFileError::Steps);
    }
    let signed = |policy: TpmAuthPolicy<'_>| {
        let name = policy.name.map(|name| name.as_str().to_owned());
        Ok(SignedPolicy { name, steps: steps(policy.policy)? })
    };
    policies.into_iter().map(signed).collect()
}

fn boolean(value: Option<AnyRef<'_>>) -> Result<bool, KeyFileError> {
    let Some(value) = value else { return Ok(false) };
    value.tag().assert_eq(Tag::Boolean).map_err(KeyFileError::der)?;
    match value.value() {
        [0x00] => Ok(false),
        [0x01 | 0xff] => Ok(true),
        _ => Err(KeyFileError::der(Tag::Boolean.value_error().into())),
    }
}

/// OpenSSL's providers read 0 as the owner's hierarchy.
fn parent(number: i64, rsa: bool) -> Result<KeyParent, KeyFileError> {
    let handle = match i32::try_from(number) {
        Ok(signed) => u32::from_be_bytes(signed.to_be_bytes()),
        Err(_) => u32::try_from(number).map_err(|_| KeyFileError::Parent)?,
    };
    let handle = if handle == 0 { Handle::OWNER } else { Handle(handle) };
    match handle {
        Handle(0x8100_0000..=0x81ff_ffff) => Ok(KeyParent::Persistent(handle)),
        _ if Hierarchy::from_handle(handle).is_err() => Err(KeyFileError::Parent),
        _ if rsa => Ok(KeyParent::Rsa2048(handle)),
        _ => Ok(KeyParent::P256(handle)),
    }
}
