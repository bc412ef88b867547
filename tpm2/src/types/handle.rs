use super::NameBuf;
use crate::wire::macros::numbers;
use crate::wire::{Malformed, Why};

numbers! {
    /// A handle: what a command names an entity by. Part 2 §7.
    #[doc(alias = "TPM_HANDLE")]
    Handle: u32 {
        OWNER = 0x4000_0001, NULL = 0x4000_0007, UNASSIGNED = 0x4000_0008,
        PASSWORD = 0x4000_0009, LOCKOUT = 0x4000_000a, ENDORSEMENT = 0x4000_000b,
        PLATFORM = 0x4000_000c,
    }
}

/// The kinds of handle, by their most significant octet. Part 2 §7.2.
#[doc(alias = "TPM_HT")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleKind {
    /// A PCR.
    Pcr,
    /// An NV index.
    NvIndex,
    /// A loaded HMAC session.
    HmacSession,
    /// A loaded policy session.
    PolicySession,
    /// A hierarchy or another permanent entity.
    Permanent,
    /// A transient object.
    Transient,
    /// A persistent object.
    Persistent,
    /// Anything else.
    Other,
}

impl Handle {
    /// The kind that the handle's first octet says.
    #[must_use]
    pub const fn kind(self) -> HandleKind {
        match self.0 >> 24 {
            0x00 => HandleKind::Pcr,
            0x01 => HandleKind::NvIndex,
            0x02 => HandleKind::HmacSession,
            0x03 => HandleKind::PolicySession,
            0x40 => HandleKind::Permanent,
            0x80 => HandleKind::Transient,
            0x81 => HandleKind::Persistent,
            _ => HandleKind::Other,
        }
    }

    /// The Name of an entity that has no other than its handle: of a hierarchy, a PCR, a session. Part 1 §16.
    ///
    /// # Panics
    /// Never: four octets fit.
    #[must_use]
    pub fn as_name(self) -> NameBuf {
        NameBuf::new(&self.0.to_be_bytes()).expect("four octets fit")
    }
}

/// Something that a command's handle area can name.
///
/// An entity that is used under a session must know its Name, which enters cpHash; one whose Name is not known (`None`)
/// can be used under passwords only, and every attempt to do otherwise is refused before anything is sent.
pub trait Entity {
    /// What goes into the handle area.
    fn handle(&self) -> Handle;
    /// What goes into cpHash. Part 1 §16.
    fn name(&self) -> Option<NameBuf>;
}

/// A hierarchy, whose Name is its handle. Part 2 §9.13.
#[doc(alias = "TPMI_RH_HIERARCHY")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// `TPM_RH_OWNER`.
    Owner,
    /// `TPM_RH_ENDORSEMENT`.
    Endorsement,
    /// `TPM_RH_PLATFORM`.
    Platform,
    /// `TPM_RH_NULL`.
    Null,
}

impl Entity for Hierarchy {
    fn handle(&self) -> Handle {
        match self {
            Self::Owner => Handle::OWNER,
            Self::Endorsement => Handle::ENDORSEMENT,
            Self::Platform => Handle::PLATFORM,
            Self::Null => Handle::NULL,
        }
    }

    fn name(&self) -> Option<NameBuf> {
        Some(self.handle().as_name())
    }
}

impl crate::wire::Marshal for Hierarchy {
    fn marshal(&self, writer: &mut crate::wire::Writer<'_>) -> Result<(), crate::wire::TooLarge> {
        writer.write(&self.handle())
    }
}

macro_rules! named_entities {
    ($($(#[$meta:meta])* $name:ident),*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            handle: Handle,
            name: Option<NameBuf>,
        }

        impl $name {
            /// An entity whose Name was computed from its public area.
            #[must_use]
            pub const fn named(handle: Handle, name: NameBuf) -> Self {
                Self { handle, name: Some(name) }
            }

            /// An entity of which nothing is known but its handle: for commands without sessions other than passwords.
            #[must_use]
            pub const fn unnamed(handle: Handle) -> Self {
                Self { handle, name: None }
            }
        }

        impl Entity for $name {
            fn handle(&self) -> Handle {
                self.handle
            }

            fn name(&self) -> Option<NameBuf> {
                self.name
            }
        }
    )*};
}

named_entities! {
    /// An object, transient or persistent. Part 2 §9.3.
    #[doc(alias = "TPMI_DH_OBJECT")]
    Object,
    /// An NV index. Part 2 §9.17.
    #[doc(alias = "TPMI_RH_NV_INDEX")]
    NvIndex
}

/// Anything that can have an authorization value: a hierarchy, the lockout authority, an object, an NV index, a PCR.
/// Part 2 §9.6.
#[doc(alias = "TPMI_DH_ENTITY")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyEntity {
    handle: Handle,
    name: Option<NameBuf>,
}

impl AnyEntity {
    /// An entity of any type.
    #[must_use]
    pub fn of(entity: &impl Entity) -> Self {
        Self { handle: entity.handle(), name: entity.name() }
    }

    /// The lockout authority.
    #[must_use]
    pub fn lockout() -> Self {
        Self { handle: Handle::LOCKOUT, name: Some(Handle::LOCKOUT.as_name()) }
    }

    /// A PCR.
    #[must_use]
    pub fn pcr(number: u8) -> Self {
        let handle = Handle(u32::from(number));
        Self { handle, name: Some(handle.as_name()) }
    }
}

impl Entity for AnyEntity {
    fn handle(&self) -> Handle {
        self.handle
    }

    fn name(&self) -> Option<NameBuf> {
        self.name
    }
}

macro_rules! any_entity_from {
    ($($name:ident),*) => {$(
        impl From<$name> for AnyEntity {
            fn from(entity: $name) -> Self {
                Self::of(&entity)
            }
        }
    )*};
}
any_entity_from!(Hierarchy, Object, NvIndex);

/// `TPMI_DH_OBJECT+` and the like: an entity, or the null handle.
impl<E: Entity> Entity for Option<E> {
    fn handle(&self) -> Handle {
        self.as_ref().map_or(Handle::NULL, Entity::handle)
    }

    fn name(&self) -> Option<NameBuf> {
        self.as_ref().map_or_else(|| Some(Handle::NULL.as_name()), Entity::name)
    }
}

/// Who allows access to an NV index. Part 2 §9.16.
#[doc(alias = "TPMI_RH_NV_AUTH")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvAuth {
    /// The index by its own authorization value.
    Index(NvIndex),
    /// The owner.
    Owner,
    /// The platform.
    Platform,
}

impl Entity for NvAuth {
    fn handle(&self) -> Handle {
        match self {
            Self::Index(index) => index.handle(),
            Self::Owner => Handle::OWNER,
            Self::Platform => Handle::PLATFORM,
        }
    }

    fn name(&self) -> Option<NameBuf> {
        match self {
            Self::Index(index) => index.name(),
            Self::Owner | Self::Platform => Some(self.handle().as_name()),
        }
    }
}

/// A loaded session, whose Name is its handle. Part 2 §9.8.
#[doc(alias = "TPMI_SH_AUTH_SESSION")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHandle(Handle);

impl TryFrom<Handle> for SessionHandle {
    type Error = Malformed;

    fn try_from(handle: Handle) -> Result<Self, Malformed> {
        match handle.kind() {
            HandleKind::HmacSession | HandleKind::PolicySession => Ok(Self(handle)),
            _ => Err(Malformed::new(Why::Unexpected, 0).named("session handle")),
        }
    }
}

impl Entity for SessionHandle {
    fn handle(&self) -> Handle {
        self.0
    }

    fn name(&self) -> Option<NameBuf> {
        Some(self.0.as_name())
    }
}

/// The handle of an object that a command has just loaded; it becomes an [`Object`] once its Name is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transient(Handle);

impl Transient {
    /// The object, under the Name that was computed from its public area.
    #[must_use]
    pub const fn named(self, name: NameBuf) -> Object {
        Object::named(self.0, name)
    }

    /// The bare handle.
    #[must_use]
    pub const fn handle(self) -> Handle {
        self.0
    }
}

impl TryFrom<Handle> for Transient {
    type Error = Malformed;

    fn try_from(handle: Handle) -> Result<Self, Malformed> {
        match handle.kind() {
            HandleKind::Transient => Ok(Self(handle)),
            _ => Err(Malformed::new(Why::Unexpected, 0).named("object handle")),
        }
    }
}
