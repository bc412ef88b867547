//! Users and groups that a configuration names.

use host::config::finding::{Location, Source};
use host::config::tree::{Node, Value};

use super::destination::account;
use super::files::entry;
use super::settings::{Account, Reader};

/// A user or group that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAccount {
    /// Which.
    pub account: Reader,
    /// Where it is named.
    pub location: Location,
}

/// The groups of sockets, and the readers of destinations.
pub(super) fn named(root: &Node, source: &Source<'_>) -> Vec<NamedAccount> {
    let lists = ["services", "outputs"].into_iter().filter_map(|key| entry(root, key));
    let mut named = Vec::new();
    for service in lists.flat_map(items) {
        named.extend(one(service, "group", Reader::Group, source));
        let readers = entry(service, "destination").and_then(|node| entry(node, "readers"));
        for reader in readers.into_iter().flat_map(items) {
            named.extend(one(reader, "user", Reader::User, source));
            named.extend(one(reader, "group", Reader::Group, source));
        }
    }
    named
}

fn items(list: &Node) -> &[Node] {
    match &list.value {
        Value::Sequence(nodes) => nodes,
        _ => &[],
    }
}

fn one(
    section: &Node,
    key: &str,
    kind: fn(Account) -> Reader,
    source: &Source<'_>,
) -> Option<NamedAccount> {
    let node = entry(section, key)?;
    let Value::Scalar { text, .. } = &node.value else { return None };
    let account = kind(account(text).ok()?);
    Some(NamedAccount { account, location: source.location(&node.range) })
}
