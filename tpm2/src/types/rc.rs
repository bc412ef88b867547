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
    ($($name:ident = $code:literal, $meaning:literal $(, $advice:literal)?;)*) => {
        #[allow(missing_docs, reason = "each code's meaning is data here, see `meaning`")]
        impl ResponseCode {
            $(pub const $name: Self = Self($code);)*

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
    SUCCESS = 0x000, "success";
    BAD_TAG = 0x01e, "the TPM is a TPM 1.2, or is in its 1.2 mode",
        "enable TPM 2.0 in the firmware settings";
    INITIALIZE = 0x100, "the TPM was not started, or was started already",
        "the firmware or the kernel starts a TPM; a simulator needs TPM2_Startup";
    FAILURE = 0x101, "the TPM failed; if it refuses every command so, it is in failure mode",
        "power-cycle the machine if every command fails; if it stays so, the TPM is broken";
    SEQUENCE = 0x103, "a sequence was used improperly";
    PRIVATE = 0x10b, "a private area that is not one";
    HMAC = 0x119, "an HMAC key that is not one";
    DISABLED = 0x120, "the command is disabled";
    EXCLUSIVE = 0x121, "another command broke the exclusive audit session";
    AUTH_TYPE = 0x124, "the authorization is of the wrong kind";
    AUTH_MISSING = 0x125, "an authorization is missing";
    POLICY = 0x126, "a policy command is at fault";
    PCR = 0x127, "a PCR cannot be used so";
    PCR_CHANGED = 0x128, "a PCR has changed since it was checked";
    UPGRADE = 0x12d, "the TPM is in firmware upgrade mode",
        "finish the firmware upgrade, then power-cycle the machine";
    TOO_MANY_CONTEXTS = 0x12e, "the context counter is at its end";
    AUTH_UNAVAILABLE = 0x12f, "the authorization cannot be used for this entity";
    REBOOT = 0x130, "the TPM must be reset first", "reboot the machine";
    UNBALANCED = 0x131, "hash and cipher strengths do not match";
    COMMAND_SIZE = 0x142, "the size in the command does not match what was received";
    COMMAND_CODE = 0x143, "the TPM does not have this command";
    AUTHSIZE = 0x144, "the size of the authorizations is wrong";
    AUTH_CONTEXT = 0x145, "a context cannot be used under a session";
    NV_RANGE = 0x146, "beyond the end of the NV index";
    NV_SIZE = 0x147, "the NV index cannot be that large";
    NV_LOCKED = 0x148, "the NV index is locked";
    NV_AUTHORIZATION = 0x149, "the NV index does not allow this authorization";
    NV_UNINITIALIZED = 0x14a, "the NV index has never been written";
    NV_SPACE = 0x14b, "no room in NV memory";
    NV_DEFINED = 0x14c, "the NV index or persistent handle is in use";
    BAD_CONTEXT = 0x150, "a saved context is not valid";
    CPHASH = 0x151, "the policy is bound to other parameters";
    PARENT = 0x152, "the handle is not a parent";
    NEEDS_TEST = 0x153, "a self-test must run first";
    NO_RESULT = 0x154, "an arithmetic result does not exist";
    SENSITIVE = 0x155, "a sensitive area that is not one";
    READ_ONLY = 0x156, "the TPM is in read-only mode";
    ASYMMETRIC = 0x081, "asymmetric algorithm not supported or not right";
    ATTRIBUTES = 0x082, "inconsistent attributes";
    HASH = 0x083, "hash algorithm not supported or not right";
    VALUE = 0x084, "value out of range, or not right in this context";
    HIERARCHY = 0x085, "the hierarchy is disabled, or not right",
        "enable the TPM's hierarchies in the firmware settings";
    KEY_SIZE = 0x087, "key size not supported";
    MGF = 0x088, "mask generation function not supported";
    MODE = 0x089, "mode of operation not supported";
    TYPE = 0x08a, "the type of the value is not right";
    HANDLE = 0x08b, "nothing is at this handle";
    KDF = 0x08c, "key derivation function not supported";
    RANGE = 0x08d, "value out of range";
    AUTH_FAIL = 0x08e, "the authorization value is wrong; the attempt was counted",
        "check the password; too many wrong ones lock the TPM";
    NONCE = 0x08f, "invalid nonce size";
    PP = 0x090, "physical presence is needed";
    SCHEME = 0x092, "scheme not supported or not right";
    SIZE = 0x095, "a structure is of the wrong size";
    SYMMETRIC = 0x096, "symmetric algorithm or key size not supported";
    TAG = 0x097, "wrong structure tag";
    SELECTOR = 0x098, "a union's selector is wrong";
    INSUFFICIENT = 0x09a, "the command ends too early";
    SIGNATURE = 0x09b, "the signature is not valid";
    KEY = 0x09c, "the key is not fit for this use";
    POLICY_FAIL = 0x09d, "the policy is not satisfied";
    INTEGRITY = 0x09f, "an integrity check failed: the data was made for another key, or changed";
    TICKET = 0x0a0, "the ticket is not valid";
    RESERVED_BITS = 0x0a1, "reserved bits are set";
    BAD_AUTH = 0x0a2, "the authorization value is wrong",
        "check the password of the hierarchy or object";
    EXPIRED = 0x0a3, "the policy has expired";
    POLICY_CC = 0x0a4, "the policy is for another command";
    BINDING = 0x0a5, "public and sensitive area do not belong together";
    CURVE = 0x0a6, "curve not supported";
    ECC_POINT = 0x0a7, "the point is not on the curve";
    FW_LIMITED = 0x0a8, "the hierarchy is limited to other firmware";
    SVN_LIMITED = 0x0a9, "the hierarchy is limited to another security version";
    PARMS = 0x0aa, "parameter set not supported or not right";
    EXT_MU = 0x0ab, "a message representative from outside does not suit the key";
    ONE_SHOT_SIGNATURE = 0x0ac, "the key signs a message only in one piece";
    SIGN_CONTEXT_KEY = 0x0ad, "the signing context does not suit the key";
    CHANNEL = 0x0b0, "a secure channel is needed";
    CHANNEL_KEY = 0x0b1, "the secure channel has not the right key";
    CONTEXT_GAP = 0x901, "a saved session context is too old to be replaced";
    OBJECT_MEMORY = 0x902, "no room for another object",
        "end the program that left objects loaded; /dev/tpmrm0 gives each program all of the room, /dev/tpm0 does not";
    SESSION_MEMORY = 0x903, "no room for another session",
        "end the program that left sessions loaded; /dev/tpmrm0 gives each program all of the room, /dev/tpm0 does not";
    MEMORY = 0x904, "the TPM is out of memory";
    SESSION_HANDLES = 0x905, "all session handles are in use";
    OBJECT_HANDLES = 0x906, "all object handles are in use";
    LOCALITY = 0x907, "wrong locality";
    YIELDED = 0x908, "the TPM interrupted the command; it can be sent again";
    CANCELED = 0x909, "the command was cancelled";
    TESTING = 0x90a, "the TPM is testing itself; the command can be sent again";
    REFERENCE_H0 = 0x910, "handle 1 is not loaded";
    REFERENCE_H1 = 0x911, "handle 2 is not loaded";
    REFERENCE_H2 = 0x912, "handle 3 is not loaded";
    REFERENCE_H3 = 0x913, "handle 4 is not loaded";
    REFERENCE_H4 = 0x914, "handle 5 is not loaded";
    REFERENCE_H5 = 0x915, "handle 6 is not loaded";
    REFERENCE_H6 = 0x916, "handle 7 is not loaded";
    REFERENCE_S0 = 0x918, "session 1 is not loaded";
    REFERENCE_S1 = 0x919, "session 2 is not loaded";
    REFERENCE_S2 = 0x91a, "session 3 is not loaded";
    REFERENCE_S3 = 0x91b, "session 4 is not loaded";
    REFERENCE_S4 = 0x91c, "session 5 is not loaded";
    REFERENCE_S5 = 0x91d, "session 6 is not loaded";
    REFERENCE_S6 = 0x91e, "session 7 is not loaded";
    NV_RATE = 0x920, "the TPM protects its NV memory from wear", "try again in a minute";
    LOCKOUT = 0x921, "the TPM is locked out after wrong authorizations",
        "wait for the lockout to end, or reset it with the lockout authorization (tpm2_dictionarylockout)";
    RETRY = 0x922, "the TPM is busy; the command can be sent again";
    NV_UNAVAILABLE = 0x923, "NV memory is not available now", "try again in a minute";
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
