//! Which authority a host joins, how it is verified, and with what token.

use host::config::finding::{ByteRange, Source};
use host::config::section::{Given, Keys, Section, parse as parse_node};
use host::config::tree::{Node, Value};
use tls::CaPin;

use super::address::Address;
use super::destination::{path, relative};
use super::join_uri::JoinUri;
use super::overrides::{Overrides, token};
use super::protocol::{Protocol, ProtocolChoice};
use super::settings::{Server, Token, Trust};
use crate::parts;

const OTHER_METHOD: &str = "remove it: it belongs to another join method";

pub(super) const ONBOARDING: Keys = Keys {
    of: "onboarding",
    known: &[
        ("token", "name of the join token, or absolute path of a file that contains it"),
        ("join_method", "only `tpm` is supported"),
        (
            "protocol",
            "`endorse` or `teleport`: by which protocol to join; `auto` (default) finds it out at the first join",
        ),
        (
            "ca_pins",
            "a list of CA pins of the cluster, as shown by `authority status`; without it and `ca_path`, a `proxy_server` is verified by the system's CAs until the host has joined",
        ),
        ("ca_path", "file with the cluster's CA certificates, PEM, instead of `ca_pins`"),
    ],
    refused: &[
        ("azure", OTHER_METHOD),
        ("bound_keypair", OTHER_METHOD),
        ("gitlab", OTHER_METHOD),
        ("terraform", OTHER_METHOD),
        ("ca_pin", "write `ca_pins`, a list"),
    ],
};

const NO_CA: &str = "write `ca_pins: [\"sha256:...\"]` in `onboarding` (`authority status` shows the pin), or give --ca-pin; or write `proxy_server` if the server has a certificate of a public CA";

/// Address and token in one, which excludes the keys for them.
pub(super) fn join_uri(top: &Section<'_>, source: &Source<'_>) -> Given<JoinUri> {
    let uri = top.parse("join_uri", str::parse);
    let has_token = match top.node("onboarding").map(|node| &node.value) {
        Some(Value::Mapping(entries)) => entries.iter().any(|entry| entry.key == "token"),
        _ => false,
    };
    let others = [
        ("`proxy_server`", top.node("proxy_server").is_some()),
        ("`auth_server`", top.node("auth_server").is_some()),
        ("`token`", has_token),
    ];
    let others: Vec<&str> =
        others.iter().filter(|(_, is_set)| *is_set).map(|(key, _)| *key).collect();
    if !uri.is_absent() && !others.is_empty() {
        let message = format!("`join_uri` is set together with {}", others.join(" and "));
        source.error(top.key("join_uri"), message, "keep `join_uri` alone, or remove it");
    }
    uri
}

/// The addresses of the authority, and under which of tbot's names, or in which join URI, they are given.
pub(super) fn authorities(
    top: &Section<'_>,
    uri: &Given<JoinUri>,
    overrides: &Overrides,
    source: &Source<'_>,
) -> (Option<Server>, Option<Vec<Address>>) {
    let proxy = top.node("proxy_server").map(|node| addresses(node, "proxy_server", source));
    let auth = top.node("auth_server").map(|node| addresses(node, "auth_server", source));
    if proxy.is_some() && auth.is_some() {
        let range = later(top.key("proxy_server"), top.key("auth_server"));
        let message = "both `auth_server` and `proxy_server` are set";
        source.error(range, message, "keep one of them: both are the authority's address");
    }
    for (server, given) in
        [(Server::Auth, &overrides.auth_server), (Server::Proxy, &overrides.proxy_server)]
    {
        if !given.is_empty() {
            return (Some(server), Some(given.clone()));
        }
    }
    if let Some(uri) = &overrides.join_uri {
        return (Some(uri.server), Some(vec![uri.address.clone()]));
    }
    let server = match (&proxy, &auth, uri) {
        (Some(_), ..) => Some(Server::Proxy),
        (None, Some(_), _) => Some(Server::Auth),
        (None, None, Given::Here(uri, _)) => Some(uri.server),
        (None, None, _) => None,
    };
    let stated = proxy.or(auth).or(match uri {
        Given::Absent => None,
        Given::Here(uri, _) => Some(Some(vec![uri.address.clone()])),
        Given::Wrong => Some(None),
    });
    let meant = ["proxy_server", "auth_server", "join_uri"].into_iter().any(|key| top.meant(key));
    if stated.is_none() && !meant {
        let advice = "write `proxy_server: HOST:PORT`, or give --authority";
        source.error(None, "the authority's address is missing", advice);
    }
    (server, stated.flatten())
}

/// A list, or addresses with commas between them.
fn addresses(node: &Node, key: &str, source: &Source<'_>) -> Option<Vec<Address>> {
    let nodes = match &node.value {
        Value::Sequence(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if nodes.is_empty() {
        source.error(Some(&node.range), format!("`{key}` is an empty list"), "write HOST:PORT");
    }
    let read = |text: &str| text.split(',').map(Address::of_list).collect();
    let each: Vec<Option<Vec<Address>>> = nodes
        .iter()
        .map(|node| parse_node::<_, super::InvalidAddress>(node, key, source, read))
        .collect();
    let all = each.into_iter().collect::<Option<Vec<_>>>()?.concat();
    (!all.is_empty()).then_some(all)
}

pub(super) fn onboarding(
    top: &Section<'_>,
    server: Option<Server>,
    uri: &Given<JoinUri>,
    overrides: &Overrides,
    source: &Source<'_>,
) -> Option<(Trust, Token, Option<Protocol>)> {
    if top.meant("onboarding") {
        return None;
    }
    let empty = Node::default();
    let node = top.node("onboarding").unwrap_or(&empty);
    let section = Section::open(node, &ONBOARDING, source)?;
    let range = top.key("onboarding");
    if let Given::Here(method, range) = section.text("join_method")
        && method != "tpm"
    {
        let message = format!("join method {method} is not supported");
        source.error(range.as_ref(), message, "write `join_method: tpm`");
    }
    let token = section.parse("token", token);
    let token = match uri {
        Given::Here(uri, _) => token.or(Given::Here(uri.token.clone(), None)),
        _ => token,
    };
    let of_uri = overrides.join_uri.as_ref().map(|uri| uri.token.clone());
    let token = token.or_rather(of_uri).or_rather(overrides.token.clone());
    if token.is_absent() && uri.is_absent() && !section.meant("token") && !top.meant("join_uri") {
        let advice = "write its name as `token` in `onboarding`, or give --token";
        source.error(range, "the join token is missing", advice);
    }
    if let Given::Here(Token::Value(name), Some(range)) = &token
        && name.contains('/')
    {
        let message = "the token's name contains a slash";
        source.warn(Some(range), message, "write an absolute path to read the token from a file");
    }
    let mut trust = trust(&section, overrides, source);
    if trust.is_absent() && !section.meant("ca_pins") && !section.meant("ca_path") {
        match server {
            Some(Server::Proxy) => trust = Given::Here(Trust::SystemRoots, None),
            Some(Server::Auth) => {
                source.error(range, "no CA of the authority is configured", NO_CA)
            }
            // Without an address, that is what is missing.
            None => {}
        }
    }
    let protocol =
        section.word("protocol", &ProtocolChoice::NAMES).or_rather(overrides.server.protocol);
    let protocol = protocol.or(Given::Here(ProtocolChoice::Auto, None));
    if let Given::Here(ProtocolChoice::Teleport, range) = &protocol
        && !parts::TELEPORT.is_built
    {
        source.error(range.as_ref(), parts::TELEPORT.message, parts::TELEPORT.advice);
    }
    if let (Given::Here(ProtocolChoice::Teleport, _), Some(Server::Proxy), Given::Here(of, at)) =
        (&protocol, server, &trust)
        && *of != Trust::SystemRoots
    {
        let message = "a Teleport Proxy is verified by the system's CAs, and its certificate is of none of these CAs";
        let advice = "remove it, or write `auth_server` if the address is that of an Auth Service";
        source.warn(at.as_ref().or(range), message, advice);
    }
    let protocol = protocol.value()?;
    Some((trust.value()?, token.value()?, protocol.fixed()))
}

fn trust(section: &Section<'_>, overrides: &Overrides, source: &Source<'_>) -> Given<Trust> {
    let pins = pins(section, source);
    let file = section.parse("ca_path", path);
    if let Given::Here(path, Some(range)) = &file {
        relative(path, range, source);
    }
    if !pins.is_absent() && !file.is_absent() {
        let range = later(section.key("ca_path"), section.key("ca_pins"));
        source.error(range, "both `ca_pins` and `ca_path` are set", "keep one of them");
    }
    pins.map(Trust::Pins).or(file.map(Trust::CaPath)).or_rather(overrides.server.trust())
}

/// An empty list says nothing.
fn pins(section: &Section<'_>, source: &Source<'_>) -> Given<Vec<CaPin>> {
    let nodes = match section.list("ca_pins") {
        None => return Given::Wrong,
        Some([]) => return Given::Absent,
        Some(nodes) => nodes,
    };
    let pins: Vec<Option<CaPin>> =
        nodes.iter().map(|node| parse_node(node, "ca_pins", source, str::parse::<CaPin>)).collect();
    match pins.into_iter().collect() {
        Some(pins) => Given::Here(pins, section.key("ca_pins").cloned()),
        None => Given::Wrong,
    }
}

/// Of two that exclude each other, the second is the one too many.
fn later<'p>(left: Option<&'p ByteRange>, right: Option<&'p ByteRange>) -> Option<&'p ByteRange> {
    left.into_iter().chain(right).max_by_key(|range| range.start)
}
