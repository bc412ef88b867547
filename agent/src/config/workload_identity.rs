//! What services of the types `x509` and `workload-identity-jwt` are issued.

use std::collections::BTreeMap;

use host::config::finding::Source;
use host::config::section::{Given, Keys, Section, parse, unknown};
use host::config::tree::Node;

use super::service::{DESTINATION, INTERVAL, KEY, NAME, OLD_TTL, RELOAD, ROLES, TTL};
use super::settings::{KeyRotation, KeyStorage, ServiceKind, X509Files};
use super::workload_api::{self, Selector};

/// The workload identity of a service. One credential is issued for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadIdentity {
    /// Which are meant.
    pub selector: Selector,
    /// Of several with the same labels, the one with this hint.
    pub hint: Option<String>,
}

/// The name of the type of services that write JWTs, in tbot too.
pub(crate) const JWT_TYPE: &str = "workload-identity-jwt";

/// Audiences of a token; the authority takes no more, and no longer ones.
const MAX_AUDIENCES: usize = 32;
const MAX_AUDIENCE: usize = 512;

const SELECTOR: (&str, &str) =
    ("selector", "which workload identity to write; see below (default: the bot's own)");
const HINT: (&str, &str) = (
    "hint",
    "of several workload identities with the labels of `selector`, the one with this hint",
);
const KEY_ROTATION: (&str, &str) = (
    "key_rotation",
    "`always` (default): a new key with each certificate; `never`: the key in the files stays, for peers that pin it",
);
const FEDERATED: (&str, &str) =
    ("include_federated_trust_bundles", "remove it: the only trust domain is the cluster's");

pub(super) const X509: Keys = Keys {
    of: "a service of type x509",
    known: &[
        ("type", "`x509`, or its name in tbot, `workload-identity-x509`"),
        NAME,
        DESTINATION,
        TTL,
        INTERVAL,
        RELOAD,
        SELECTOR,
        HINT,
        (
            "format",
            "names of the files: `tbot` (default), `spiffe-helper`, `kubernetes` or `nginx`",
        ),
        KEY,
        KEY_ROTATION,
    ],
    refused: &[
        ROLES,
        OLD_TTL,
        FEDERATED,
        ("audiences", "remove it: it belongs to services of type workload-identity-jwt"),
        ("ssh_config", "remove it: it belongs to services of type identity"),
        ("allow_reissue", "remove it: it belongs to services of type identity"),
    ],
};

pub(super) const JWT: Keys = Keys {
    of: "a service of type workload-identity-jwt",
    known: &[
        ("type", "`workload-identity-jwt`"),
        NAME,
        DESTINATION,
        ("credential_ttl", "lifetime of the JWT (default: that of the configuration)"),
        INTERVAL,
        RELOAD,
        ("audiences", "a list of those who are to accept the JWT: the `aud` of its claims"),
        SELECTOR,
        HINT,
    ],
    refused: &[
        ROLES,
        OLD_TTL,
        FEDERATED,
        ("audience", "write `audiences`, a list"),
        ("key", "remove it: the authority signs a JWT, the service has no key"),
        ("format", "remove it: the file is `jwt_svid`"),
        ("ssh_config", "remove it: it belongs to services of type identity"),
        ("allow_reissue", "remove it: it belongs to services of type identity"),
    ],
};

/// Reads what a service of type `x509` is.
pub(super) fn x509(section: &Section<'_>, source: &Source<'_>) -> Option<ServiceKind> {
    let files = match section.parse("format", X509Files::named) {
        Given::Absent => Some(X509Files::default()),
        given => given.value(),
    };
    let identity = identity(section, source);
    let words = [("always", KeyRotation::Always), ("never", KeyRotation::Never)];
    let key_rotation = section.word("key_rotation", &words);
    if let (Given::Here(_, range), Given::Here(KeyStorage::Tpm, _)) =
        (&key_rotation, section.word("key", &KeyStorage::WORDS))
    {
        let message = "`key_rotation` has no effect on a key in the TPM, which stays";
        source.error(range.as_ref(), message, "remove it");
    }
    let key_rotation = match key_rotation {
        Given::Absent => Some(KeyRotation::default()),
        given => given.value(),
    };
    Some(ServiceKind::X509 { files: files?, identity: identity?, key_rotation: key_rotation? })
}

/// Reads what a service of type `workload-identity-jwt` is.
pub(super) fn jwt(section: &Section<'_>, node: &Node, source: &Source<'_>) -> Option<ServiceKind> {
    let audiences = audiences(section, node, source);
    let identity = identity(section, source);
    Some(ServiceKind::Jwt { audiences: audiences?, identity: identity? })
}

fn audiences(section: &Section<'_>, node: &Node, source: &Source<'_>) -> Option<Vec<String>> {
    let nodes = section.list("audiences")?;
    if nodes.is_empty() || nodes.len() > MAX_AUDIENCES {
        let range = section.key("audiences").or(Some(&node.range));
        let message = format!("`audiences` must be a list of 1 to {MAX_AUDIENCES} names");
        source.error(range, message, "write who is to accept the JWT, e.g. `audiences: [vault]`");
        return None;
    }
    let read = |node: &Node| parse(node, "audiences", source, audience);
    let all: Vec<Option<String>> = nodes.iter().map(read).collect();
    all.into_iter().collect()
}

/// A name of someone who is to accept a JWT.
pub(crate) fn audience(text: &str) -> Result<String, String> {
    match text.len() {
        1..=MAX_AUDIENCE => Ok(text.to_owned()),
        _ => Err(format!("an audience has 1 to {MAX_AUDIENCE} bytes")),
    }
}

fn identity(section: &Section<'_>, source: &Source<'_>) -> Option<WorkloadIdentity> {
    let selector = match section.node("selector") {
        None => Some(Selector::Own),
        Some(node) => workload_api::selector(node, source),
    };
    let hint = match section.text("hint") {
        Given::Absent => Some(None),
        given => given.value().map(Some),
    };
    let identity = WorkloadIdentity { selector: selector?, hint: hint? };
    if identity.hint.is_some() && !matches!(identity.selector, Selector::Labels(_)) {
        let advice = "remove it, or write `labels` in `selector`";
        source.error(section.key("hint"), "there is nothing for `hint` to choose from", advice);
        return None;
    }
    Some(identity)
}

/// The labels of a selector on the command line, as tbot has them: `KEY=VALUE,KEY=VALUE`. Values of the same key are alternatives.
pub(crate) fn labels(text: &str) -> Result<BTreeMap<String, Vec<String>>, &'static str> {
    const FORM: &str = "write KEY=VALUE, several separated by commas";
    let mut labels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for label in text.split(',') {
        let (key, value) = label.trim().split_once('=').ok_or(FORM)?;
        if key.is_empty() || value.is_empty() {
            return Err(FORM);
        }
        labels.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Ok(labels)
}

impl X509Files {
    const NAMES: [(&'static str, Self); 4] = [
        ("tbot", Self::Tbot),
        ("spiffe-helper", Self::SpiffeHelper),
        ("kubernetes", Self::Kubernetes),
        ("nginx", Self::Nginx),
    ];

    /// Names of earlier versions of the agent.
    const OLD_NAMES: [(&'static str, Self); 2] = [("svid", Self::Tbot), ("tls", Self::Kubernetes)];

    fn named(text: &str) -> Result<Self, String> {
        let all = Self::NAMES.into_iter().chain(Self::OLD_NAMES);
        if let Some((_, files)) = all.into_iter().find(|(name, _)| *name == text) {
            return Ok(files);
        }
        match text.to_ascii_lowercase().as_str() {
            "pkcs12" | "pkcs#12" | "p12" | "pfx" => Err("PKCS #12 is not written: have `reload` run `openssl pkcs12 \
                 -export -in svid.pem -inkey svid.key -certfile bundle.pem -passout file:FILE -out svid.p12`"
                .to_owned()),
            "jks" | "jceks" => Err("JKS is not written: Java reads PKCS #12, which `openssl pkcs12 -export -in svid.pem \
                 -inkey svid.key -certfile bundle.pem -passout file:FILE -out svid.p12` makes, run by `reload`"
                .to_owned()),
            _ => Err(unknown(text, &Self::NAMES.map(|(name, _)| name))),
        }
    }

    /// The `format` that the configuration has for it.
    pub(crate) fn name(self) -> &'static str {
        let named = Self::NAMES.into_iter().find(|(_, files)| *files == self);
        named.map_or("tbot", |(name, _)| name)
    }
}
