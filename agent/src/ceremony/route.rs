//! How a server is reached: the name that it has to prove, the protocols that it is offered, the identity that it is shown, and
//! what may be in between.

use std::sync::Arc;

use host::exit::{Exit, Failure};
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{DnsName, ServerName};
use tls::{Roots, ServerTrust};

use crate::ceremony::upgrade;
use crate::ceremony::wording::{AUTHORITY, TELEPORT, Wording};

/// The name that every server of a Teleport cluster has.
const TELEPORT_NAME: &str = "teleport.cluster.local";

/// Protocols of ALPN, RFC 7301.
const HTTP2: &str = "h2";
const HTTP1: &str = "http/1.1";
const PROXY_GRPC: &str = "teleport-proxy-grpc";
const PROXY_AUTH: &str = "teleport-auth@";
const REVERSE_TUNNEL: &str = "teleport-reversetunnel";

/// The length of a protocol of ALPN, RFC 7301 section 3.1.
const MAX_PROTOCOL: usize = 255;

/// Overrides the search for a load balancer.
const UPGRADE_VARIABLE: &str = "TELEPORT_TLS_ROUTING_CONN_UPGRADE";

/// A way to a server, whatever its address.
#[derive(Clone, Debug)]
pub struct Route {
    server: Server,
    pub(super) naming: Naming,
    /// What messages call the server.
    pub(super) wording: &'static Wording,
    /// The load balancer that may terminate TLS in front of the server.
    front: Option<Front>,
}

/// The Auth Service of a cluster that has issued an identity.
#[derive(Clone, Debug)]
pub(super) struct ClusterServer {
    /// The cluster.
    pub(super) name: String,
    /// The CAs of the cluster.
    pub(super) trust: ServerTrust,
}

impl ClusterServer {
    /// The name to ask for: that of the cluster, by which the server selects the CAs of the certificates that it accepts. A
    /// label of a DNS name has at most 63 characters, so for a cluster of more than 31 it is the name that all servers have,
    /// for which they accept certificates of all CAs that they know.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        let name = DnsName::try_from(encoded(&self.name));
        name.map_or_else(|_| auth_service_name(), ServerName::DnsName)
    }
}

/// The name of an Auth Service, under which hosts without an identity ask for it.
#[expect(clippy::expect_used, reason = "of a constant")]
pub(super) fn auth_service_name() -> ServerName<'static> {
    ServerName::DnsName(DnsName::try_from_str(TELEPORT_NAME).expect("a DNS name"))
}

/// A cluster in the form of a host name, which may be too long for one.
fn encoded(cluster: &str) -> String {
    format!("{}.{TELEPORT_NAME}", base16ct::lower::encode_string(cluster.as_bytes()))
}

/// One end of TLS.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// The name that is requested by SNI, and required in the certificate.
    pub(super) name: ServerName<'static>,
    /// What the server is verified with, the client's identity, and the protocols of ALPN.
    pub(super) config: Arc<ClientConfig>,
}

/// Whose name a server has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// One that all servers of a cluster have, and only they.
    Internal,
    /// That of its address.
    Public,
}

/// A load balancer, should there be one.
#[derive(Clone, Debug)]
struct Front {
    /// Finds out whether there is one: it does not know this protocol.
    probe: Server,
    /// HTTP with it.
    http: Server,
    /// The server behind it, in the upgraded connection.
    inside: Server,
    /// HOST:PORT.
    address: String,
}

/// A connection to make.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) through: Option<Through>,
    pub(super) server: Server,
}

/// What is on the way to the server.
#[derive(Clone, Debug)]
pub(super) struct Through {
    pub(super) front: Server,
    pub(super) host: String,
    pub(super) kind: upgrade::Kind,
}

impl Route {
    /// To an authority under its internal name, whatever its address is. With an identity, the host authenticates itself.
    ///
    /// # Errors
    /// Nothing to trust.
    pub fn to_authority(
        trust: &ServerTrust,
        identity: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<Self, Failure> {
        let server = Server::new(tls::authority_name(), trust, identity, &[HTTP2])?;
        Ok(Self { server, naming: Naming::Internal, wording: &AUTHORITY, front: None })
    }

    /// To an Auth Service of Teleport under one of its internal names.
    ///
    /// # Errors
    /// Nothing to trust.
    pub(super) fn to_auth_service(
        name: ServerName<'static>,
        trust: &ServerTrust,
        identity: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<Self, Failure> {
        let server = Server::new(name, trust, identity, &[HTTP2])?;
        Ok(Self { server, naming: Naming::Internal, wording: &TELEPORT, front: None })
    }

    /// To a server under the name or the IP address in HOST:PORT, verified by public CAs.
    ///
    /// # Errors
    /// There is no such name, or no CA.
    pub fn to_public_name(address: &str, roots: &Roots) -> Result<Self, Failure> {
        let trust = ServerTrust::PublicCas(roots.clone());
        let server = Server::new(public_name(address)?, &trust, None, &[HTTP2])?;
        Ok(Self { server, naming: Naming::Public, wording: &AUTHORITY, front: None })
    }

    /// To the join services of the Teleport Proxy at HOST:PORT, verified by public CAs.
    ///
    /// # Errors
    /// There is no such name, or no CA.
    pub fn to_proxy(address: &str, roots: &Roots) -> Result<Self, Failure> {
        let trust = ServerTrust::PublicCas(roots.clone());
        let protocols = [PROXY_GRPC, HTTP2];
        let server = Server::new(public_name(address)?, &trust, None, &protocols)?;
        // The load balancer has proved the name in the address.
        let trust = ServerTrust::InsideTls(name(TELEPORT_NAME)?);
        let inside = Server::new(public_name(address)?, &trust, None, &protocols)?;
        let front = Some(Front::new(address, roots, inside)?);
        Ok(Self { server, naming: Naming::Public, wording: &TELEPORT, front })
    }

    /// To the Auth Service of a cluster through the Teleport Proxy at HOST:PORT. The public CAs are for a load balancer.
    ///
    /// # Errors
    /// The Proxy has no public name, the name of the cluster is too long, or there is nothing to trust.
    pub(super) fn to_auth_through_proxy(
        address: &str,
        roots: &Roots,
        cluster: &ClusterServer,
        identity: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<Self, Failure> {
        let protocol = format!("{PROXY_AUTH}{}", encoded(&cluster.name));
        if protocol.len() > MAX_PROTOCOL {
            return Err(Failure::new(
                Exit::Config,
                "the name of the cluster is too long to reach its Auth Service through a Proxy",
                "give the address of the Auth Service as `auth_server`",
            ));
        }
        let (name, trust) = (cluster.server_name(), &cluster.trust);
        let server = Server::new(name, trust, identity, &[&protocol, HTTP2])?;
        let front = Some(Front::new(address, roots, server.clone())?);
        Ok(Self { server, naming: Naming::Internal, wording: &TELEPORT, front })
    }

    /// The connection without a load balancer.
    pub(super) fn direct(&self) -> Hop {
        Hop { through: None, server: self.server.clone() }
    }

    /// The connection through a load balancer, upgraded in this way.
    pub(super) fn upgraded(&self, kind: upgrade::Kind) -> Option<Hop> {
        let Front { http, inside, address, .. } = self.front.as_ref()?;
        let through = Through { front: http.clone(), host: address.clone(), kind };
        Some(Hop { through: Some(through), server: inside.clone() })
    }

    /// How to find out whether there is a load balancer that terminates TLS.
    pub(super) fn search(&self) -> Result<Search, Failure> {
        let Some(front) = &self.front else { return Ok(Search::Known(false)) };
        let variable = std::env::var(UPGRADE_VARIABLE).unwrap_or_default();
        Ok(match override_for(&variable, &front.address)? {
            Some(is_there) => Search::Known(is_there),
            None => Search::Probe(Hop { through: None, server: front.probe.clone() }),
        })
    }
}

/// Whether a load balancer terminates TLS.
pub(super) enum Search {
    /// The operator has said it, or only authorities are reached by this route.
    Known(bool),
    /// This connection shows it.
    Probe(Hop),
}

impl Server {
    fn new(
        name: ServerName<'static>,
        trust: &ServerTrust,
        identity: Option<Arc<dyn ResolvesClientCert>>,
        protocols: &[&str],
    ) -> Result<Self, Failure> {
        let config = tls::client_config(trust, identity).map_err(Failure::bug)?;
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { name, config: Arc::new(config) })
    }
}

impl Front {
    fn new(address: &str, roots: &Roots, inside: Server) -> Result<Self, Failure> {
        let trust = ServerTrust::PublicCas(roots.clone());
        let server = |protocol: &str| Server::new(public_name(address)?, &trust, None, &[protocol]);
        let (probe, http) = (server(REVERSE_TUNNEL)?, server(HTTP1)?);
        Ok(Self { probe, http, inside, address: address.to_owned() })
    }
}

/// What the operator says about an address: `yes` or `no` for all, or `HOST:PORT=yes` for one, several with `,` or `;`.
fn override_for(variable: &str, address: &str) -> Result<Option<bool>, Failure> {
    let mut for_all = None;
    let mut for_this = None;
    for entry in variable.split([',', ';']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let (of, word) = match entry.split_once('=') {
            None => (None, entry),
            Some((of, word)) => (Some(of), word),
        };
        let is_there = match word.to_ascii_lowercase().as_str() {
            "yes" | "y" | "true" | "t" | "1" | "on" => true,
            "no" | "n" | "false" | "f" | "0" | "off" => false,
            _ => {
                return Err(Failure::new(
                    Exit::Config,
                    format!(
                        "the environment variable {UPGRADE_VARIABLE} has the value {variable:?}"
                    ),
                    "set it to `yes` or `no`, or to HOST:PORT=yes, or remove it",
                ));
            }
        };
        match of {
            None => for_all = Some(is_there),
            Some(of) if of == address => for_this = Some(is_there),
            Some(_) => {}
        }
    }
    Ok(for_this.or(for_all))
}

/// The name that a certificate of the server at HOST:PORT has: without the dot at the end, RFC 6066 section 3.
fn public_name(address: &str) -> Result<ServerName<'static>, Failure> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    name(host.strip_suffix('.').unwrap_or(host))
}

fn name(host: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        Failure::new(
            Exit::Config,
            format!("no certificate can have the name {host:?}"),
            "write the name in the server's certificate, or configure `ca_pins`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_cluster_server_is_the_cluster_in_hexadecimal_if_that_is_short_enough() {
        let name = |cluster: &str| {
            let trust = ServerTrust::Pins(Vec::new());
            ClusterServer { name: cluster.to_owned(), trust }.server_name().to_str().into_owned()
        };
        assert_eq!(name("example.com"), "6578616d706c652e636f6d.teleport.cluster.local");
        let longest = "c".repeat(31);
        assert_eq!(name(&longest), format!("{}.{TELEPORT_NAME}", "63".repeat(31)));
        assert_eq!(name(&"c".repeat(32)), TELEPORT_NAME);
    }

    #[test]
    fn public_name_is_the_host_of_the_address() {
        for (address, name) in [
            ("endorse.example.com:443", "endorse.example.com"),
            ("endorse.example.com.:443", "endorse.example.com"),
            ("192.0.2.1:3080", "192.0.2.1"),
            ("[2001:db8::1]:3080", "2001:db8::1"),
        ] {
            assert_eq!(public_name(address).unwrap().to_str(), name);
        }
        assert_eq!(public_name("a..b:443").unwrap_err().exit, Exit::Config);
    }

    #[test]
    fn operator_overrides_the_search_for_all_addresses_or_one() {
        let of = |variable: &str| override_for(variable, "a.b:443").unwrap();
        assert_eq!(of(""), None);
        for (text, is_there) in [("yes", true), ("TRUE", true), ("1", true), ("no", false)] {
            assert_eq!(of(text), Some(is_there), "{text}");
        }
        assert_eq!(of("a.b:443=yes"), Some(true));
        assert_eq!(of("other:1=yes"), None);
        assert_eq!(of("no; a.b:443=yes, other:1=no"), Some(true));
        assert_eq!(of("a.b:443=no,yes"), Some(false));
        for wrong in ["perhaps", "a.b:443", "a.b:443="] {
            assert_eq!(override_for(wrong, "a.b:443").unwrap_err().exit, Exit::Config, "{wrong}");
        }
    }
}
