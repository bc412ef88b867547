use core::fmt;

use crate::wire::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Writer};

/// A response code. Part 2 §6.6. Every number decodes; none is an error of its own.
#[doc(alias = "TPM_RC")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseCode(
    /// The number on the wire.
    pub u32,
);

/// What a format-one response code complains of. Part 2 §6.6.3.
#[doc(alias("TPM_RC_H", "TPM_RC_P", "TPM_RC_S", "TPM_RC_N_MASK"))]
#[doc(alias("TPM_RC_1", "TPM_RC_2", "TPM_RC_3", "TPM_RC_4", "TPM_RC_5", "TPM_RC_6", "TPM_RC_7"))]
#[doc(alias("TPM_RC_8", "TPM_RC_9", "TPM_RC_A", "TPM_RC_B", "TPM_RC_C", "TPM_RC_D", "TPM_RC_E"))]
#[doc(alias = "TPM_RC_F")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The command as a whole.
    Command,
    /// A handle, counted from 1; 0 if the TPM does not say which.
    Handle(u8),
    /// A parameter, counted from 1; 0 if the TPM does not say which.
    Parameter(u8),
    /// A session, counted from 1; 0 if the TPM does not say which.
    Session(u8),
}

impl ResponseCode {
    const FORMAT_ONE: u32 = 1 << 7;
    const PARAMETER: u32 = 1 << 6;
    const VERSION_TWO: u32 = 1 << 8;
    const VENDOR: u32 = 1 << 10;
    const WARNING: u32 = 1 << 11;

    /// Whose code it is: 0 is the TPM itself; the kernel's resource manager answers with 0x0b. TSS layers use others.
    #[must_use]
    pub const fn layer(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// The code without layer and, of format one, without the number of handle, parameter or session: what the
    /// associated constants of this type can be compared with.
    #[must_use]
    pub const fn base(self) -> Self {
        let code = self.0 & 0xfff;
        if code & Self::FORMAT_ONE == 0 { Self(code) } else { Self(code & 0x0bf) }
    }

    /// What the code complains of.
    #[must_use]
    pub const fn subject(self) -> Subject {
        let [.., high, _] = self.0.to_be_bytes();
        if self.0 & Self::FORMAT_ONE == 0 {
            Subject::Command
        } else if self.0 & Self::PARAMETER != 0 {
            Subject::Parameter(high & 0x0f)
        } else if self.0 & Self::WARNING != 0 {
            Subject::Session(high & 0x07)
        } else {
            Subject::Handle(high & 0x07)
        }
    }

    /// Whether the same octets may be sent again: the command did not execute and no nonce moved. Part 1 §11.4.
    #[must_use]
    pub const fn is_retry(self) -> bool {
        matches!(self.base(), Self::RETRY | Self::YIELDED | Self::TESTING)
    }

    /// Whether the TPM has no room left for what is loaded, until something else is unloaded.
    #[must_use]
    pub const fn is_full(self) -> bool {
        matches!(
            self.base(),
            Self::OBJECT_MEMORY
                | Self::SESSION_MEMORY
                | Self::MEMORY
                | Self::SESSION_HANDLES
                | Self::OBJECT_HANDLES
        )
    }
}

macro_rules! codes {
    ($($alias:literal $name:ident = $code:literal, $meaning:literal $(, $advice:literal)?;)*) => {
        impl ResponseCode {
            $(
                #[doc = concat!("`", $alias, "`, ", stringify!($code), ": ", $meaning, ".")]
                #[doc(alias = $alias)]
                pub const $name: Self = Self($code);
            )*

            /// The specification's name without `TPM_RC_`, where it has one.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self.base() {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What the code means, in a few words.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self.base() {
                    $(Self::$name => $meaning,)*
                    _ if self.0 & Self::VENDOR != 0 => "an error of this vendor's own",
                    _ => "an unknown error",
                }
            }

            /// What a person can do about it, where there is something.
            #[must_use]
            pub fn advice(self) -> Option<&'static str> {
                match self.base() {
                    $($(Self::$name => Some($advice),)?)*
                    _ => None,
                }
            }

            #[cfg(test)]
            pub(crate) const ALL: &'static [(&'static str, Self)] =
                &[$((stringify!($name), Self::$name)),*];
        }
    };
}

codes! {
    "TPM_RC_SUCCESS" SUCCESS = 0x000, "success";
    "TPM_RC_BAD_TAG" BAD_TAG = 0x01e, "the TPM is a TPM 1.2, or is in its 1.2 mode",
        "enable TPM 2.0 in the firmware settings";
    "TPM_RC_INITIALIZE" INITIALIZE = 0x100, "the TPM was not started, or was started already",
        "the firmware or the kernel starts a TPM; a simulator needs TPM2_Startup";
    "TPM_RC_FAILURE" FAILURE = 0x101, "the TPM failed; if it refuses every command so, it is in failure mode",
        "power-cycle the machine if every command fails; if it stays so, the TPM is broken";
    "TPM_RC_SEQUENCE" SEQUENCE = 0x103, "a sequence was used improperly";
    "TPM_RC_PRIVATE" PRIVATE = 0x10b, "a private area that is not one";
    "TPM_RC_HMAC" HMAC = 0x119, "an HMAC key that is not one";
    "TPM_RC_DISABLED" DISABLED = 0x120, "the command is disabled";
    "TPM_RC_EXCLUSIVE" EXCLUSIVE = 0x121, "another command broke the exclusive audit session";
    "TPM_RC_AUTH_TYPE" AUTH_TYPE = 0x124, "the authorization is of the wrong kind";
    "TPM_RC_AUTH_MISSING" AUTH_MISSING = 0x125, "an authorization is missing";
    "TPM_RC_POLICY" POLICY = 0x126, "a policy command is at fault";
    "TPM_RC_PCR" PCR = 0x127, "a PCR cannot be used so";
    "TPM_RC_PCR_CHANGED" PCR_CHANGED = 0x128, "a PCR has changed since it was checked";
    "TPM_RC_UPGRADE" UPGRADE = 0x12d, "the TPM is in firmware upgrade mode",
        "finish the firmware upgrade, then power-cycle the machine";
    "TPM_RC_TOO_MANY_CONTEXTS" TOO_MANY_CONTEXTS = 0x12e, "the context counter is at its end";
    "TPM_RC_AUTH_UNAVAILABLE" AUTH_UNAVAILABLE = 0x12f, "the authorization cannot be used for this entity";
    "TPM_RC_REBOOT" REBOOT = 0x130, "the TPM must be reset first", "reboot the machine";
    "TPM_RC_UNBALANCED" UNBALANCED = 0x131, "hash and cipher strengths do not match";
    "TPM_RC_COMMAND_SIZE" COMMAND_SIZE = 0x142, "the size in the command does not match what was received";
    "TPM_RC_COMMAND_CODE" COMMAND_CODE = 0x143, "the TPM does not have this command";
    "TPM_RC_AUTHSIZE" AUTHSIZE = 0x144, "the size of the authorizations is wrong";
    "TPM_RC_AUTH_CONTEXT" AUTH_CONTEXT = 0x145, "a context cannot be used under a session";
    "TPM_RC_NV_RANGE" NV_RANGE = 0x146, "beyond the end of the NV index";
    "TPM_RC_NV_SIZE" NV_SIZE = 0x147, "the NV index cannot be that large";
    "TPM_RC_NV_LOCKED" NV_LOCKED = 0x148, "the NV index is locked";
    "TPM_RC_NV_AUTHORIZATION" NV_AUTHORIZATION = 0x149, "the NV index does not allow this authorization";
    "TPM_RC_NV_UNINITIALIZED" NV_UNINITIALIZED = 0x14a, "the NV index has never been written";
    "TPM_RC_NV_SPACE" NV_SPACE = 0x14b, "no room in NV memory";
    "TPM_RC_NV_DEFINED" NV_DEFINED = 0x14c, "the NV index or persistent handle is in use";
    "TPM_RC_BAD_CONTEXT" BAD_CONTEXT = 0x150, "a saved context is not valid";
    "TPM_RC_CPHASH" CPHASH = 0x151, "the policy is bound to other parameters";
    "TPM_RC_PARENT" PARENT = 0x152, "the handle is not a parent";
    "TPM_RC_NEEDS_TEST" NEEDS_TEST = 0x153, "a self-test must run first";
    "TPM_RC_NO_RESULT" NO_RESULT = 0x154, "an arithmetic result does not exist";
    "TPM_RC_SENSITIVE" SENSITIVE = 0x155, "a sensitive area that is not one";
    "TPM_RC_READ_ONLY" READ_ONLY = 0x156, "the TPM is in read-only mode";
    "TPM_RC_ASYMMETRIC" ASYMMETRIC = 0x081, "asymmetric algorithm not supported or not right";
    "TPM_RC_ATTRIBUTES" ATTRIBUTES = 0x082, "inconsistent attributes";
    "TPM_RC_HASH" HASH = 0x083, "hash algorithm not supported or not right";
    "TPM_RC_VALUE" VALUE = 0x084, "value out of range, or not right in this context";
    "TPM_RC_HIERARCHY" HIERARCHY = 0x085, "the hierarchy is disabled, or not right",
        "enable the TPM's hierarchies in the firmware settings";
    "TPM_RC_KEY_SIZE" KEY_SIZE = 0x087, "key size not supported";
    "TPM_RC_MGF" MGF = 0x088, "mask generation function not supported";
    "TPM_RC_MODE" MODE = 0x089, "mode of operation not supported";
    "TPM_RC_TYPE" TYPE = 0x08a, "the type of the value is not right";
    "TPM_RC_HANDLE" HANDLE = 0x08b, "nothing is at this handle";
    "TPM_RC_KDF" KDF = 0x08c, "key derivation function not supported";
    "TPM_RC_RANGE" RANGE = 0x08d, "value out of range";
    "TPM_RC_AUTH_FAIL" AUTH_FAIL = 0x08e, "the authorization value is wrong; the attempt was counted",
        "check the password; too many wrong ones lock the TPM";
    "TPM_RC_NONCE" NONCE = 0x08f, "invalid nonce size";
    "TPM_RC_PP" PP = 0x090, "physical presence is needed";
    "TPM_RC_SCHEME" SCHEME = 0x092, "scheme not supported or not right",
        "give the scheme of the key, or the null scheme to take it; a key without a scheme needs one in the command";
    "TPM_RC_SIZE" SIZE = 0x095, "a structure is of the wrong size";
    "TPM_RC_SYMMETRIC" SYMMETRIC = 0x096, "symmetric algorithm or key size not supported";
    "TPM_RC_TAG" TAG = 0x097, "wrong structure tag";
    "TPM_RC_SELECTOR" SELECTOR = 0x098, "a union's selector is wrong";
    "TPM_RC_INSUFFICIENT" INSUFFICIENT = 0x09a, "the command ends too early";
    "TPM_RC_SIGNATURE" SIGNATURE = 0x09b, "the signature is not valid";
    "TPM_RC_KEY" KEY = 0x09c, "the key is not fit for this use";
    "TPM_RC_POLICY_FAIL" POLICY_FAIL = 0x09d, "the policy is not satisfied";
    "TPM_RC_INTEGRITY" INTEGRITY = 0x09f, "an integrity check failed: the data was made for another key, or changed";
    "TPM_RC_TICKET" TICKET = 0x0a0, "the ticket is not valid";
    "TPM_RC_RESERVED_BITS" RESERVED_BITS = 0x0a1, "reserved bits are set";
    "TPM_RC_BAD_AUTH" BAD_AUTH = 0x0a2, "the authorization value is wrong",
        "check the password of the hierarchy or object";
    "TPM_RC_EXPIRED" EXPIRED = 0x0a3, "the policy has expired";
    "TPM_RC_POLICY_CC" POLICY_CC = 0x0a4, "the policy is for another command";
    "TPM_RC_BINDING" BINDING = 0x0a5, "public and sensitive area do not belong together";
    "TPM_RC_CURVE" CURVE = 0x0a6, "curve not supported";
    "TPM_RC_ECC_POINT" ECC_POINT = 0x0a7, "the point is not on the curve";
    "TPM_RC_FW_LIMITED" FW_LIMITED = 0x0a8, "the hierarchy is limited to other firmware";
    "TPM_RC_SVN_LIMITED" SVN_LIMITED = 0x0a9, "the hierarchy is limited to another security version";
    "TPM_RC_PARMS" PARMS = 0x0aa, "parameter set not supported or not right";
    "TPM_RC_EXT_MU" EXT_MU = 0x0ab, "a message representative from outside does not suit the key";
    "TPM_RC_ONE_SHOT_SIGNATURE" ONE_SHOT_SIGNATURE = 0x0ac, "the key signs a message only in one piece";
    "TPM_RC_SIGN_CONTEXT_KEY" SIGN_CONTEXT_KEY = 0x0ad, "the signing context does not suit the key";
    "TPM_RC_CHANNEL" CHANNEL = 0x0b0, "a secure channel is needed";
    "TPM_RC_CHANNEL_KEY" CHANNEL_KEY = 0x0b1, "the secure channel has not the right key";
    "TPM_RC_CONTEXT_GAP" CONTEXT_GAP = 0x901, "a saved session context is too old to be replaced";
    "TPM_RC_OBJECT_MEMORY" OBJECT_MEMORY = 0x902, "no room for another object",
        "end the program that left objects loaded; /dev/tpmrm0 gives each program all of the room, /dev/tpm0 does not";
    "TPM_RC_SESSION_MEMORY" SESSION_MEMORY = 0x903, "no room for another session",
        "end the program that left sessions loaded; /dev/tpmrm0 gives each program all of the room, /dev/tpm0 does not";
    "TPM_RC_MEMORY" MEMORY = 0x904, "the TPM is out of memory";
    "TPM_RC_SESSION_HANDLES" SESSION_HANDLES = 0x905, "all session handles are in use";
    "TPM_RC_OBJECT_HANDLES" OBJECT_HANDLES = 0x906, "all object handles are in use";
    "TPM_RC_LOCALITY" LOCALITY = 0x907, "wrong locality";
    "TPM_RC_YIELDED" YIELDED = 0x908, "the TPM interrupted the command; it can be sent again";
    "TPM_RC_CANCELED" CANCELED = 0x909, "the command was cancelled";
    "TPM_RC_TESTING" TESTING = 0x90a, "the TPM is testing itself; the command can be sent again";
    "TPM_RC_REFERENCE_H0" REFERENCE_H0 = 0x910, "handle 1 is not loaded";
    "TPM_RC_REFERENCE_H1" REFERENCE_H1 = 0x911, "handle 2 is not loaded";
    "TPM_RC_REFERENCE_H2" REFERENCE_H2 = 0x912, "handle 3 is not loaded";
    "TPM_RC_REFERENCE_H3" REFERENCE_H3 = 0x913, "handle 4 is not loaded";
    "TPM_RC_REFERENCE_H4" REFERENCE_H4 = 0x914, "handle 5 is not loaded";
    "TPM_RC_REFERENCE_H5" REFERENCE_H5 = 0x915, "handle 6 is not loaded";
    "TPM_RC_REFERENCE_H6" REFERENCE_H6 = 0x916, "handle 7 is not loaded";
    "TPM_RC_REFERENCE_S0" REFERENCE_S0 = 0x918, "session 1 is not loaded";
    "TPM_RC_REFERENCE_S1" REFERENCE_S1 = 0x919, "session 2 is not loaded";
    "TPM_RC_REFERENCE_S2" REFERENCE_S2 = 0x91a, "session 3 is not loaded";
    "TPM_RC_REFERENCE_S3" REFERENCE_S3 = 0x91b, "session 4 is not loaded";
    "TPM_RC_REFERENCE_S4" REFERENCE_S4 = 0x91c, "session 5 is not loaded";
    "TPM_RC_REFERENCE_S5" REFERENCE_S5 = 0x91d, "session 6 is not loaded";
    "TPM_RC_REFERENCE_S6" REFERENCE_S6 = 0x91e, "session 7 is not loaded";
    "TPM_RC_NV_RATE" NV_RATE = 0x920, "the TPM protects its NV memory from wear", "try again in a minute";
    "TPM_RC_LOCKOUT" LOCKOUT = 0x921, "the TPM is locked out after wrong authorizations",
        "wait for the lockout to end, or reset it with the lockout authorization (tpm2_dictionarylockout)";
    "TPM_RC_RETRY" RETRY = 0x922, "the TPM is busy; the command can be sent again";
    "TPM_RC_NV_UNAVAILABLE" NV_UNAVAILABLE = 0x923, "NV memory is not available now", "try again in a minute";
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "TPM_RC_{name} ({:#05x})", self.0)?,
            None if self.0 & Self::VENDOR != 0 && self.0 & Self::VERSION_TWO != 0 => {
                write!(f, "vendor response code {:#05x}", self.0)?;
            }
            None => write!(f, "response code {:#05x}", self.0)?,
        }
        match self.layer() {
            0 => Ok(()),
            0x0b => f.write_str(" from the kernel's resource manager"),
            layer => write!(f, " from software layer {layer:#04x}"),
        }
    }
}

impl fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Marshal for ResponseCode {
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.write(&self.0)
    }
}

impl Unmarshal<'_> for ResponseCode {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        u32::unmarshal(reader).map(Self)
    }
}
