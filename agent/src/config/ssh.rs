//! Services of types `ssh-agent` and `ssh_host`.

use std::net::Ipv6Addr;

use host::config::finding::Source;
use host::config::section::{Keys, Section, parse};
use host::config::tree::{Node, Value};

use super::service::{Draft, INTERVAL, NAME, OLD_TTL, RELOAD, ROLES, TTL};
use super::settings::{Destination, KeyStorage, ServiceKind};
use super::workload_api::{GROUP, LISTEN, MODE, Selector, Socket, rules, selector, socket};
use super::{reload, service};
use crate::attest::rule::Rules;

/// A socket on which programs use the key of a service: an agent of the SSH agent protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSocket {
    /// Where it is.
    pub socket: Socket,
    /// Who may use it, of those that its mode lets in.
    pub rules: Rules,
}

/// A host that SSH clients know by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshHost {
    /// Its names, in lower case; at least one.
    pub principals: Vec<String>,
    /// The workload identities that allow these names.
    pub selector: Selector,
    /// Where sshd uses the key, if that is in the TPM.
    pub agent: Option<AgentSocket>,
}

/// The types of such services.
pub(crate) const TYPES: [&str; 2] = ["ssh-agent", "ssh_host"];

/// What the authority issues for.
const MAX_PRINCIPALS: usize = 256;

/// sshd, which runs as root, needs no mode to connect.
const HOST_MODE: u32 = 0o600;

const RULES: (&str, &str) =
    ("rules", "a list of rules, one of which a caller must match; see below (default: none)");

pub(super) const SSH_AGENT: Keys = Keys {
    of: "a service of type ssh-agent",
    known: &[
        ("type", "`ssh-agent`"),
        NAME,
        LISTEN,
        MODE,
        GROUP,
        RULES,
        ("key", "`software` (default): a new key with each certificate; `tpm`: a key in the TPM"),
        TTL,
        INTERVAL,
    ],
    refused: &[
        ROLES,
        OLD_TTL,
        ("destination", "remove it: key and certificate are offered on the socket"),
        ("reload", "remove it: programs ask the socket for the certificate"),
    ],
};

pub(super) const SSH_HOST: Keys = Keys {
    of: "a service of type ssh_host",
    known: &[
        ("type", "`ssh_host`"),
        NAME,
        ("destination", "where to write the files: a directory, or a section"),
        ("principals", "a list of the host's names, in lower case, each as clients write it"),
        (
            "selector",
            "which workload identities allow the names; see below (default: any of the bot's)",
        ),
        (
            "key",
            "`software` (default): a new key with each certificate, in a file; `tpm`: a key in the TPM, which sshd uses on the socket `listen`",
        ),
        (
            "listen",
            "with `key: tpm`, the socket for sshd's `HostKeyAgent`: `unix:///absolute/path`",
        ),
        ("mode", "mode of the socket in octal (default `0600`: root and the agent's user)"),
        GROUP,
        RULES,
        TTL,
        INTERVAL,
        RELOAD,
    ],
    refused: &[ROLES, OLD_TTL],
};

/// Reads one; `None` if something is wrong with it.
pub(super) fn ssh(node: &Node, stated: &Node, source: &Source<'_>) -> Option<Draft> {
    let [agent, _] = TYPES;
    let is_agent = matches!(&stated.value, Value::Scalar { text, .. } if text == agent);
    let section = Section::open(node, if is_agent { &SSH_AGENT } else { &SSH_HOST }, source)?;
    let name = section.parse("name", service::name);
    let key_storage = service::key_storage(&section);
    let lifetime = service::lifetime(&section, source);
    let (kind, destination) = match is_agent {
        true => {
            let agent = agent_socket(&section, node, "ssh.sock", source);
            if let Some(AgentSocket { socket, rules }) = &agent
                && socket.mode & 0o006 != 0
                && rules.0.is_empty()
            {
                let message = "every user of this host can use this key";
                let advice =
                    "write `rules`, or a `mode` and `group` that let only its users connect";
                source.warn(Some(&stated.range), message, advice);
            }
            (agent.map(ServiceKind::SshAgent), Some(Destination::Memory))
        }
        false => {
            let host = key_storage.and_then(|key| host(&section, node, key, source));
            (host.map(ServiceKind::SshHost), service::destination(&section, node, source))
        }
    };
    let reload = section.node("reload").map(|node| reload::reload_of_host(node, source));
    let kind = kind?;
    Some(Draft {
        name,
        what: kind.name(),
        range: Some(stated.range.clone()),
        kind,
        destination: destination?,
        key_storage: key_storage?,
        lifetime: lifetime?,
        reload: match reload {
            None => None,
            Some(reload) => Some(reload?),
        },
    })
}

fn agent_socket(
    section: &Section<'_>,
    node: &Node,
    example: &str,
    source: &Source<'_>,
) -> Option<AgentSocket> {
    let (socket, rules) = (socket(section, node, example, source), rules(section, source));
    Some(AgentSocket { socket: socket?, rules: rules? })
}

fn host(
    section: &Section<'_>,
    node: &Node,
    key: KeyStorage,
    source: &Source<'_>,
) -> Option<SshHost> {
    let principals = principals(section, node, source);
    let selector = match section.node("selector") {
        None => Some(Selector::Own),
        Some(node) => selector(node, source),
    };
    let agent = match key {
        KeyStorage::Tpm => {
            let agent = agent_socket(section, node, "sshd.sock", source);
            let with_mode = |mut agent: AgentSocket| {
                if section.key("mode").is_none() {
                    agent.socket.mode = HOST_MODE;
                }
                agent
            };
            Some(Some(agent.map(with_mode)?))
        }
        KeyStorage::Software => {
            let stated = ["listen", "mode", "group", "rules"].into_iter();
            let stated = stated.filter(|key| section.key(key).is_some());
            let errors = stated.map(|key| {
                let message = format!("`{key}` is about the socket for a key in the TPM");
                source.error(section.key(key), message, "add `key: tpm`, or remove it");
            });
            (errors.count() == 0).then_some(None)
        }
    };
    Some(SshHost { principals: principals?, selector: selector?, agent: agent? })
}

/// Clients compare the name that they were given, in lower case, with each of these.
fn principals(section: &Section<'_>, node: &Node, source: &Source<'_>) -> Option<Vec<String>> {
    let nodes = section.list("principals")?;
    if nodes.is_empty() || nodes.len() > MAX_PRINCIPALS {
        let message = format!("`principals` must be a list of 1 to {MAX_PRINCIPALS} names");
        let range = section.key("principals").unwrap_or(&node.range);
        source.error(Some(range), message, "add the names that clients use: short and full");
        return None;
    }
    let name = |text: &str| match is_host_name(text) {
        true => Ok(text.to_owned()),
        false => Err("it must be a host name in lower case, without wildcards"),
    };
    let names = nodes.iter().map(|node| parse(node, "principals", source, name));
    let names: Vec<Option<String>> = names.collect();
    names.into_iter().collect()
}

/// A name of letters, digits, `-`, `_` and dots, or an IP address.
fn is_host_name(text: &str) -> bool {
    let is_allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    let is_name = !text.is_empty() && text.len() <= 253 && text.bytes().all(is_allowed);
    let is_lower_case = || !text.bytes().any(|byte| byte.is_ascii_uppercase());
    is_name || (is_lower_case() && text.parse::<Ipv6Addr>().is_ok())
}

impl ServiceKind {
    /// The socket on which programs use its key, if it has one.
    #[must_use]
    pub const fn agent(&self) -> Option<&AgentSocket> {
        match self {
            Self::SshAgent(agent) => Some(agent),
            Self::SshHost(host) => host.agent.as_ref(),
            Self::Identity { .. } | Self::X509 { .. } | Self::Jwt { .. } => None,
        }
    }
}
