use super::{
    BaseHierarchy, Handle, HandleKind, Hierarchy, HierarchyAuth, NameBuf, NvAuth, Provision,
};
use crate::wire::{Malformed, Why};

/// Something that a command's handle area can name.
///
/// An entity that is used under a session must know its Name, which enters cpHash; one whose Name is not known (`None`)
/// can be used under passwords only, and every attempt to do otherwise is refused before anything is sent.
pub trait Entity {
    /// What goes into the handle area.
    fn handle(&self) -> Handle;

    /// What goes into cpHash. Part 1 §16.
    fn name(&self) -> Option<NameBuf>;

    /// The entity with this handle; of an object or an NV index the Name is then not known.
    ///
    /// # Errors
    /// [`Why::Value`] if no entity of this kind can have it.
    fn from_handle(handle: Handle) -> Result<Self, Malformed>
    where
        Self: Sized;
}

/// An entity of any kind: its Name is known if it is the handle itself, as of all but objects and NV indices.
impl Entity for Handle {
    fn handle(&self) -> Handle {
        *self
    }

    fn name(&self) -> Option<NameBuf> {
        match self.kind() {
            HandleKind::PCR
            | HandleKind::HMAC_SESSION
            | HandleKind::POLICY_SESSION
            | HandleKind::PERMANENT
            | HandleKind::AC => Some(self.as_name()),
            _ => None,
        }
    }

    fn from_handle(handle: Handle) -> Result<Self, Malformed> {
        Ok(handle)
    }
}

/// The specification's plus sign: an entity, or the null handle.
impl<E: Entity> Entity for Option<E> {
    fn handle(&self) -> Handle {
        self.as_ref().map_or(Handle::NULL, Entity::handle)
    }

    fn name(&self) -> Option<NameBuf> {
        self.as_ref().map_or_else(|| Some(Handle::NULL.as_name()), Entity::name)
    }

    fn from_handle(handle: Handle) -> Result<Self, Malformed> {
        if handle == Handle::NULL { Ok(None) } else { E::from_handle(handle).map(Some) }
    }
}

macro_rules! named_entities {
    ($($(#[$meta:meta])* $name:ident: $($kind:ident)|+),* $(,)?) => {$(
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

            fn from_handle(handle: Handle) -> Result<Self, Malformed> {
                match handle.kind() {
                    $(HandleKind::$kind)|+ => Ok(Self::unnamed(handle)),
                    _ => Err(Malformed::new(Why::Value, 0).named(stringify!($name))),
                }
            }
        }
    )*};
}

named_entities! {
    /// An object, transient or persistent. Part 2 §9.3.
    #[doc(alias = "TPMI_DH_OBJECT")]
    Object: TRANSIENT | PERSISTENT,
    /// An NV index. Part 2 §9.17.
    #[doc(alias(
        "TPMI_RH_NV_INDEX",
        "TPMI_RH_NV_DEFINED_INDEX",
        "TPMI_RH_NV_LEGACY_INDEX",
        "TPMI_RH_NV_EXP_INDEX",
    ))]
    NvIndex: NV_INDEX | EXTERNAL_NV | PERMANENT_NV,
}

/// Anything that can have an authorization value: a hierarchy, the lockout authorization, an object, an NV index, a PCR.
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
}

impl Entity for AnyEntity {
    fn handle(&self) -> Handle {
        self.handle
    }

    fn name(&self) -> Option<NameBuf> {
        self.name
    }

    fn from_handle(handle: Handle) -> Result<Self, Malformed> {
        Ok(Self::of(&handle))
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
any_entity_from!(
    BaseHierarchy,
    Hierarchy,
    HierarchyAuth,
    Lockout,
    NvAuth,
    NvIndex,
    Object,
    Pcr,
    Provision
);

/// A PCR, whose Name is its handle, which is its number. Part 2 §9.7.
#[doc(alias = "TPMI_DH_PCR")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pcr(
    /// The number.
    pub u8,
);

impl Entity for Pcr {
    fn handle(&self) -> Handle {
        Handle(u32::from(self.0))
    }

    fn name(&self) -> Option<NameBuf> {
        Some(self.handle().as_name())
    }

    fn from_handle(handle: Handle) -> Result<Self, Malformed> {
        let refused = Malformed::new(Why::Value, 0).named("Pcr");
        u8::try_from(handle.0).map(Self).map_err(|_| refused)
    }
}

/// A loaded session, whose Name is its handle. Part 2 §9.8.
#[doc(alias("TPMI_SH_AUTH_SESSION", "TPMI_SH_HMAC", "TPMI_SH_POLICY"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHandle(Handle);

impl Entity for SessionHandle {
    fn handle(&self) -> Handle {
        self.0
    }

    fn name(&self) -> Option<NameBuf> {
        Some(self.0.as_name())
    }

    fn from_handle(handle: Handle) -> Result<Self, Malformed> {
        match handle.kind() {
            HandleKind::HMAC_SESSION | HandleKind::POLICY_SESSION => Ok(Self(handle)),
            _ => Err(Malformed::new(Why::Unexpected, 0).named("session handle")),
        }
    }
}

impl TryFrom<Handle> for SessionHandle {
    type Error = Malformed;

    fn try_from(handle: Handle) -> Result<Self, Malformed> {
        Self::from_handle(handle)
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

    /// The sequence object, whose Name is empty since it has no public area. Part 1 §16.
    #[must_use]
    pub const fn sequence(self) -> Object {
        Object::named(self.0, NameBuf::EMPTY)
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
            HandleKind::TRANSIENT => Ok(Self(handle)),
            _ => Err(Malformed::new(Why::Unexpected, 0).named("object handle")),
        }
    }
}

/// Hierarchies that are there for firmware from some security version on, which is the number. Part 2 §7.4.
#[doc(alias = "TPM_RH_SVN_OWNER_BASE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SvnHierarchy {
    /// `TPM_RH_SVN_OWNER_BASE` and on.
    #[doc(alias = "TPM_RH_SVN_OWNER_BASE")]
    Owner(u16),
    /// `TPM_RH_SVN_ENDORSEMENT_BASE` and on.
    #[doc(alias = "TPM_RH_SVN_ENDORSEMENT_BASE")]
    Endorsement(u16),
    /// `TPM_RH_SVN_PLATFORM_BASE` and on.
    #[doc(alias = "TPM_RH_SVN_PLATFORM_BASE")]
    Platform(u16),
    /// `TPM_RH_SVN_NULL_BASE` and on.
    #[doc(alias = "TPM_RH_SVN_NULL_BASE")]
    Null(u16),
}

impl Entity for SvnHierarchy {
    fn handle(&self) -> Handle {
        let (base, svn) = match self {
            Self::Owner(svn) => (Handle::SVN_OWNER_BASE, svn),
            Self::Endorsement(svn) => (Handle::SVN_ENDORSEMENT_BASE, svn),
            Self::Platform(svn) => (Handle::SVN_PLATFORM_BASE, svn),
            Self::Null(svn) => (Handle::SVN_NULL_BASE, svn),
        };
        Handle(base.0 | u32::from(*svn))
    }

    fn name(&self) -> Option<NameBuf> {
        Some(self.handle().as_name())
    }

    fn from_handle(handle: Handle) -> Result<Self, Malformed> {
        let [_, _, high, low] = handle.0.to_be_bytes();
        let svn = u16::from_be_bytes([high, low]);
        match Handle(handle.0 & 0xffff_0000) {
            Handle::SVN_OWNER_BASE => Ok(Self::Owner(svn)),
            Handle::SVN_ENDORSEMENT_BASE => Ok(Self::Endorsement(svn)),
            Handle::SVN_PLATFORM_BASE => Ok(Self::Platform(svn)),
            Handle::SVN_NULL_BASE => Ok(Self::Null(svn)),
            _ => Err(Malformed::new(Why::Value, 0).named("SvnHierarchy")),
        }
    }
}

/// Permanent entities of which there is one, or a range.
macro_rules! permanent {
    ($($(#[$meta:meta])* $name:ident $(= $handle:ident)? $(: $first:ident to $last:ident)?),* $(,)?) => {
        $(permanent! { @type $(#[$meta])* $name $($handle)? $($first $last)? })*
    };

    (@type $(#[$meta:meta])* $name:ident $handle:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;

        impl Entity for $name {
            fn handle(&self) -> Handle {
                Handle::$handle
            }

            fn name(&self) -> Option<NameBuf> {
                Some(Handle::$handle.as_name())
            }

            fn from_handle(handle: Handle) -> Result<Self, Malformed> {
                if handle == Handle::$handle {
                    return Ok(Self);
                }
                Err(Malformed::new(Why::Value, 0).named(stringify!($name)))
            }
        }
    };

    (@type $(#[$meta:meta])* $name:ident $first:ident $last:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(Handle);

        impl Entity for $name {
            fn handle(&self) -> Handle {
                self.0
            }

            fn name(&self) -> Option<NameBuf> {
                Some(self.0.as_name())
            }

            fn from_handle(handle: Handle) -> Result<Self, Malformed> {
                if (Handle::$first..=Handle::$last).contains(&handle) {
                    return Ok(Self(handle));
                }
                Err(Malformed::new(Why::Value, 0).named(stringify!($name)))
            }
        }
    };
}

permanent! {
    /// The platform hierarchy only. Part 2 §9.
    #[doc(alias = "TPMI_RH_PLATFORM")]
    Platform = PLATFORM,
    /// The endorsement hierarchy and no other. Part 2 §9.
    #[doc(alias = "TPMI_RH_ENDORSEMENT")]
    Endorsement = ENDORSEMENT,
    /// The lockout authorization and no other. Part 2 §9.
    #[doc(alias = "TPMI_RH_LOCKOUT")]
    Lockout = LOCKOUT,
    /// An authenticated countdown timer. Part 2 §9.
    #[doc(alias = "TPMI_RH_ACT")]
    Act: ACT_0 to ACT_F,
    /// An authorization of the vendor's. Part 2 §7.4.
    #[doc(alias = "TPM_RH_AUTH_00")]
    VendorAuth: AUTH_00 to AUTH_FF,
}
