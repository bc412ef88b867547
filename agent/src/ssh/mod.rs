//! Keys, certificates and signatures of SSH, as OpenSSH has them.

pub(crate) mod certificate;
pub(crate) mod key;
pub(crate) mod signature;
pub(crate) mod wire;
