//! Public names: what clients dial that verify the server by the system's roots.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use host::config::finding::Source;
use host::config::section::{self, Keys, Section};
use host::config::tree::{Node, Value};
use rustls_pki_types::DnsName;

/// A public address: a DNS name, and the port if it is not that of `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAddr {
    host: DnsName<'static>,
    port: Option<u16>,
}

/// The files of a certificate for public names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeypairFiles {
    /// The certificate chain, leaf first, PEM.
    pub cert_file: PathBuf,
    /// The key of the leaf, PEM.
    pub key_file: PathBuf,
}

/// Public addresses and the certificates for them. Neither is empty without the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Public {
    /// The addresses; clients receive the first one.
    pub addrs: Vec<PublicAddr>,
    /// The certificates, each for one name at least.
    pub keypairs: Vec<KeypairFiles>,
}

pub(super) const KEYPAIR: Keys = Keys {
    of: "https_keypairs",
    known: &[
        ("cert_file", "certificate chain of a public name, leaf first, PEM"),
        ("key_file", "key of that certificate, PEM: ECDSA on P-256 or P-384, Ed25519, or RSA"),
    ],
    refused: &[],
};

/// Reads `public_addr` and `https_keypairs`.
pub(super) fn public(top: &Section<'_>, source: &Source<'_>) -> Option<Public> {
    let (addrs, keypairs) = (addrs(top, source), keypairs(top, source));
    let missing = |present: &str, missing: &str, advice| {
        if top.node(present).is_some() && top.node(missing).is_none() && !top.meant(missing) {
            let message = format!("`{present}` needs `{missing}`");
            source.error(top.key(present), message, advice);
        }
    };
    missing(
        "public_addr",
        "https_keypairs",
        "add `https_keypairs`, a list of `cert_file` and `key_file`",
    );
    missing(
        "https_keypairs",
        "public_addr",
        "add `public_addr`, the name that is in the certificate",
    );
    Some(Public { addrs: addrs?, keypairs: keypairs? })
}

/// A single address or a list of them.
fn addrs(top: &Section<'_>, source: &Source<'_>) -> Option<Vec<PublicAddr>> {
    let parse = |node: &Node| section::parse(node, "public_addr", source, str::parse);
    match top.node("public_addr") {
        None => Some(Vec::new()),
        Some(Node { value: Value::Sequence(nodes), .. }) => nodes.iter().map(parse).collect(),
        Some(node) => parse(node).map(|addr| vec![addr]),
    }
}

fn keypairs(top: &Section<'_>, source: &Source<'_>) -> Option<Vec<KeypairFiles>> {
    let pairs = top.list("https_keypairs")?.iter().map(|node| {
        let pair = Section::open(node, &KEYPAIR, source)?;
        let file = |key: &str| {
            let path = pair.text(key);
            if path.is_absent() && !pair.meant(key) {
                let advice = "give both `cert_file` and `key_file`";
                source.error(Some(&node.range), format!("`{key}` is missing"), advice);
            }
            path.map(PathBuf::from).value()
        };
        let (cert_file, key_file) = (file("cert_file"), file("key_file"));
        Some(KeypairFiles { cert_file: cert_file?, key_file: key_file? })
    });
    // All are looked at, whatever is wrong with the others.
    pairs.collect::<Vec<_>>().into_iter().collect()
}

impl PublicAddr {
    /// The DNS name, in lowercase.
    pub fn host(&self) -> &str {
        self.host.as_ref()
    }

    /// `HOST:PORT`, where `listening` is the port of the authority.
    pub fn with_port(&self, listening: u16) -> String {
        format!("{}:{}", self.host(), self.port.unwrap_or(listening))
    }
}

impl FromStr for PublicAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAME or NAME:PORT");
        if text.contains('/') {
            return Err(format!("{text:?} is a URL: write NAME or NAME:PORT"));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, Some(port.ok_or_else(wrong)?))
            }
            None => (text, None),
        };
        if host.ends_with(|last: char| last.is_ascii_digit()) {
            return Err(format!("{text:?} is an IP address: a public address is a DNS name"));
        }
        let host = DnsName::try_from(host).map_err(|_| wrong())?.to_lowercase_owned();
        Ok(Self { host, port })
    }
}

impl fmt::Display for PublicAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host()),
            None => f.write_str(self.host()),
        }
    }
}
