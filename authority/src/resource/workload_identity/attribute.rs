//! The names of attributes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::resource::field::Invalid;

/// The name of an attribute that this authority can know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct AttributeName(String);

/// The attributes with fixed names.
const NAMES: [&str; 25] = [
    "user.name",
    "user.is_bot",
    "user.bot_name",
    "user.bot_instance_id",
    "join.meta.join_method",
    "join.meta.join_token_name",
    "join.tpm.ek_pub_hash",
    "join.tpm.ek_cert_serial",
    "join.tpm.ek_cert_verified",
    "workload.unix.attested",
    "workload.unix.pid",
    "workload.unix.uid",
    "workload.unix.gid",
    "workload.unix.supplementary_gids",
    "workload.unix.binary_path",
    "workload.unix.binary_hash",
    "workload.systemd.attested",
    "workload.systemd.service",
    "workload.systemd.slice",
    "workload.systemd.user_service",
    "workload.container.attested",
    "workload.container.id",
    "workload.container.runtime",
    "workload.kubernetes.attested",
    "workload.kubernetes.pod_uid",
];

/// What a name may follow.
const PREFIXES: [&str; 2] = ["user.labels.", "user.traits."];

/// Attributes of Teleport that this authority does not have, with what to do instead.
const UNSUPPORTED: [(&str, &str); 5] = [
    ("join.", "hosts join by their TPM: use join.tpm.ek_pub_hash or join.meta.join_token_name"),
    ("workload.docker.", "use workload.container.id and workload.container.runtime"),
    ("workload.podman.", "use workload.container.id and workload.container.runtime"),
    ("workload.kubernetes.", "use workload.kubernetes.pod_uid: the agent does not ask the kubelet"),
    ("workload.sigstore.", "use workload.unix.binary_hash: signatures of images are not verified"),
];

impl AttributeName {
    /// The longest name, bytes.
    const MAX_LEN: usize = 256;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AttributeName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let is_key = |key: &str| {
            !key.is_empty()
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b))
        };
        let has_prefix = |prefix: &&str| text.strip_prefix(*prefix).is_some_and(is_key);
        if text.len() <= Self::MAX_LEN
            && (NAMES.contains(&text.as_str()) || PREFIXES.iter().any(has_prefix))
        {
            return Ok(Self(text));
        }
        let shown: String = text.chars().take(80).collect();
        if text.contains('(') {
            return Err(Invalid(format!(
                "{shown:?} is not the name of an attribute: functions are not supported"
            )));
        }
        let unsupported = UNSUPPORTED.iter().find(|(prefix, _)| text.starts_with(prefix));
        Err(Invalid(match unsupported {
            Some((_, advice)) => format!("the attribute {shown:?} is not supported: {advice}"),
            None => format!(
                "{shown:?} is not the name of an attribute: such as user.bot_name, join.tpm.ek_pub_hash \
                 or workload.unix.uid"
            ),
        }))
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
