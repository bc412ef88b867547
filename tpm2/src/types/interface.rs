//! The interface types of Part 2 §9: which entities a command takes.

use core::fmt;

use super::{Act, Entity, Handle, Lockout, NameBuf, NvIndex, Object, Pcr, SvnHierarchy};
use crate::wire::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Why, Writer};

/// One type for all that a handle of a command can be: some entities by their handles, some of other types.
macro_rules! interface {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident $(($inner:ident))? $(= $handle:ident)?),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant $(($inner))?,)*
        }

        /// The specification's name, or the handle as a number.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.handle().fmt(f)
            }
        }

        impl Entity for $name {
            fn handle(&self) -> Handle {
                match self {
                    $(interface!(@pattern entity $variant $($inner)?) =>
                        interface!(@handle entity $($handle)?),)*
                }
            }

            fn name(&self) -> Option<NameBuf> {
                match self {
                    $(interface!(@pattern entity $variant $($inner)?) =>
                        interface!(@name entity $($handle)?),)*
                }
            }

            fn from_handle(handle: Handle) -> Result<Self, Malformed> {
                $(
                    $(if handle == Handle::$handle { return Ok(Self::$variant); })?
                    $(if let Ok(entity) = $inner::from_handle(handle) {
                        return Ok(Self::$variant(entity));
                    })?
                )*
                Err(Malformed::new(Why::Value, 0).named(stringify!($name)))
            }
        }

        $($(impl From<$inner> for $name {
            fn from(entity: $inner) -> Self {
                Self::$variant(entity)
            }
        })?)*

        parameter!($name);
    )*};

    (@pattern $entity:ident $variant:ident) => { Self::$variant };
    (@pattern $entity:ident $variant:ident $inner:ident) => { Self::$variant($entity) };
    (@handle $entity:ident $handle:ident) => { Handle::$handle };
    (@handle $entity:ident) => { $entity.handle() };
    (@name $entity:ident $handle:ident) => { Some(Handle::$handle.as_name()) };
    (@name $entity:ident) => { $entity.name() };
}

/// Entities that can also be parameters: on the wire they are their handles.
macro_rules! parameter {
    ($name:ident) => {
        impl Marshal for $name {
            fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
                writer.write(&self.handle())
            }
        }

        impl Unmarshal<'_> for $name {
            fn unmarshal(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                let at = reader.position();
                let handle = Handle::unmarshal(reader)?;
                Self::from_handle(handle).map_err(|_| Malformed::new(Why::Value, at))
            }
        }
    };
}

parameter!(Pcr);

/// What every entity of one type is in another: `From`, and what only some are: `TryFrom`.
macro_rules! conversions {
    ($($from:ident { $($variant:ident),* } in $($to:ident),*;)*) => {
        $(conversions! { @each $from { $($variant),* } $($to)* })*
    };

    (@each $from:ident $variants:tt $($to:ident)*) => {
        $(conversions! { @one $from $variants $to })*
    };

    (@one $from:ident { $($variant:ident),* } $to:ident) => {
        impl From<$from> for $to {
            fn from(entity: $from) -> Self {
                match entity {
                    $($from::$variant => Self::$variant,)*
                }
            }
        }

        /// For those that have a counterpart.
        impl TryFrom<$to> for $from {
            type Error = Malformed;

            fn try_from(entity: $to) -> Result<Self, Malformed> {
                Self::from_handle(entity.handle())
            }
        }
    };
}

conversions! {
    BaseHierarchy { Owner, Endorsement, Platform } in Hierarchy, Enables, HierarchyAuth, HierarchyPolicy;
    HierarchyAuth { Owner, Endorsement, Platform, Lockout } in HierarchyPolicy;
    Provision { Owner, Platform } in Hierarchy, BaseHierarchy, Enables, HierarchyAuth, HierarchyPolicy, NvAuth;
    ClearAuth { Lockout, Platform } in HierarchyAuth, HierarchyPolicy;
}

/// The lockout authorization, where it is one of several.
macro_rules! lockout {
    ($($name:ident),*) => {$(
        impl From<Lockout> for $name {
            fn from(_: Lockout) -> Self {
                Self::Lockout
            }
        }
    )*};
}

lockout!(HierarchyAuth, HierarchyPolicy, ClearAuth);

interface! {
    /// A hierarchy. Part 2 §9.13.
    #[doc(alias("TPMI_RH_HIERARCHY", "TPMI_RH_OWNER"))]
    Hierarchy {
        /// `TPM_RH_OWNER`.
        #[doc(alias = "TPM_RH_OWNER")]
        Owner = OWNER,
        /// `TPM_RH_ENDORSEMENT`.
        #[doc(alias = "TPM_RH_ENDORSEMENT")]
        Endorsement = ENDORSEMENT,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
        /// `TPM_RH_NULL`.
        #[doc(alias = "TPM_RH_NULL")]
        Null = NULL,
        /// `TPM_RH_FW_OWNER`: the owner's, as long as the firmware is what it is.
        #[doc(alias = "TPM_RH_FW_OWNER")]
        FirmwareOwner = FW_OWNER,
        /// `TPM_RH_FW_ENDORSEMENT`: the endorsement hierarchy, as long as the firmware is what it is.
        #[doc(alias = "TPM_RH_FW_ENDORSEMENT")]
        FirmwareEndorsement = FW_ENDORSEMENT,
        /// `TPM_RH_FW_PLATFORM`: the platform's, as long as the firmware is what it is.
        #[doc(alias = "TPM_RH_FW_PLATFORM")]
        FirmwarePlatform = FW_PLATFORM,
        /// `TPM_RH_FW_NULL`: the null hierarchy, as long as the firmware is what it is.
        #[doc(alias = "TPM_RH_FW_NULL")]
        FirmwareNull = FW_NULL,
        /// One that is there for firmware from some security version on.
        Svn(SvnHierarchy),
    }

    /// A hierarchy that can be switched on and off. Part 2 §9.
    #[doc(alias = "TPMI_RH_BASE_HIERARCHY")]
    BaseHierarchy {
        /// `TPM_RH_OWNER`.
        #[doc(alias = "TPM_RH_OWNER")]
        Owner = OWNER,
        /// `TPM_RH_ENDORSEMENT`.
        #[doc(alias = "TPM_RH_ENDORSEMENT")]
        Endorsement = ENDORSEMENT,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
    }

    /// What a hierarchy's switch can be. Part 2 §9.
    #[doc(alias = "TPMI_RH_ENABLES")]
    Enables {
        /// `TPM_RH_OWNER`.
        #[doc(alias = "TPM_RH_OWNER")]
        Owner = OWNER,
        /// `TPM_RH_ENDORSEMENT`.
        #[doc(alias = "TPM_RH_ENDORSEMENT")]
        Endorsement = ENDORSEMENT,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
        /// `TPM_RH_PLATFORM_NV`: the platform's NV indices.
        #[doc(alias = "TPM_RH_PLATFORM_NV")]
        PlatformNv = PLATFORM_NV,
    }

    /// A hierarchy with an authorization value. Part 2 §9.
    #[doc(alias = "TPMI_RH_HIERARCHY_AUTH")]
    HierarchyAuth {
        /// `TPM_RH_OWNER`.
        #[doc(alias = "TPM_RH_OWNER")]
        Owner = OWNER,
        /// `TPM_RH_ENDORSEMENT`.
        #[doc(alias = "TPM_RH_ENDORSEMENT")]
        Endorsement = ENDORSEMENT,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
        /// `TPM_RH_LOCKOUT`.
        #[doc(alias = "TPM_RH_LOCKOUT")]
        Lockout = LOCKOUT,
    }

    /// A hierarchy, or something beside them, with a policy. Part 2 §9.
    #[doc(alias = "TPMI_RH_HIERARCHY_POLICY")]
    HierarchyPolicy {
        /// `TPM_RH_OWNER`.
        #[doc(alias = "TPM_RH_OWNER")]
        Owner = OWNER,
        /// `TPM_RH_ENDORSEMENT`.
        #[doc(alias = "TPM_RH_ENDORSEMENT")]
        Endorsement = ENDORSEMENT,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
        /// `TPM_RH_LOCKOUT`.
        #[doc(alias = "TPM_RH_LOCKOUT")]
        Lockout = LOCKOUT,
        /// An authenticated countdown timer.
        Act(Act),
    }

    /// Who may provision. Part 2 §9.
    #[doc(alias = "TPMI_RH_PROVISION")]
    Provision {
        /// `TPM_RH_OWNER`.
        #[doc(alias = "TPM_RH_OWNER")]
        Owner = OWNER,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
    }

    /// Who may clear. Part 2 §9.
    #[doc(alias = "TPMI_RH_CLEAR")]
    ClearAuth {
        /// `TPM_RH_LOCKOUT`.
        #[doc(alias = "TPM_RH_LOCKOUT")]
        Lockout = LOCKOUT,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
    }

    /// Who allows access to an NV index. Part 2 §9.16.
    #[doc(alias = "TPMI_RH_NV_AUTH")]
    NvAuth {
        /// The index itself: its authorization value, or its policy, allows access to it.
        Index(NvIndex),
        /// `TPM_RH_OWNER`.
        #[doc(alias = "TPM_RH_OWNER")]
        Owner = OWNER,
        /// `TPM_RH_PLATFORM`.
        #[doc(alias = "TPM_RH_PLATFORM")]
        Platform = PLATFORM,
    }

    /// What an object can be created under. Part 2 §9.4.
    #[doc(alias = "TPMI_DH_PARENT")]
    Parent {
        /// An object: a storage key, or a parent to derive from.
        Object(Object),
        /// A hierarchy, for a primary object.
        Hierarchy(Hierarchy),
    }
}
