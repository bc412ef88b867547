//! How a server is approached: what it has to prove, which protocol it speaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

#[cfg(feature = "teleport")]
use host::clock;
use host::exit::{Exit, Failure};
use proto::v1::WhoAmIRequest;
use proto::v1::identity_service_client::IdentityServiceClient;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use tls::{CaPin, Roots, ServerTrust};
use tonic::Code;

use crate::ceremony::channel::Channel;
use crate::ceremony::client::Client;
use crate::ceremony::connection::{CallTime, Connection, IsTeleport, MAX_CALL, Unopened};
use crate::ceremony::endorse_v1;
use crate::ceremony::route::{ClusterServer, Route, auth_service_name};
#[cfg(feature = "teleport")]
use crate::ceremony::teleport::fetch_cas;
use crate::ceremony::trust_chain::present_cas;
use crate::ceremony::wording::PROXY;
use crate::config::{FirstContact, Protocol, SystemRoots};
use crate::file_access::{FileAccess, SHORT_TIMEOUT};
use crate::parts;

/// What a server has to prove, wherever it is.
#[derive(Clone)]
pub(super) enum Approach {
    /// That it is the authority of these CAs; it is shown this identity.
    Authority(ServerTrust, Option<Arc<dyn ResolvesClientCert>>),
    /// That it has the name in its address.
    PublicName(Roots),
    /// That it is an Auth Service of Teleport of a cluster all of whose CAs are pinned.
    PinnedAuthService(Vec<CaPin>),
    /// That it is an Auth Service of Teleport with this name, of these CAs; it is shown this identity.
    AuthService(ServerName<'static>, ServerTrust, Option<Arc<dyn ResolvesClientCert>>),
    /// That it is a Proxy of Teleport, with the name in its address.
    Proxy(Roots),
    /// The same as of an Auth Service, through the Proxy at the address.
    AuthThroughProxy(Roots, ClusterServer, Option<Arc<dyn ResolvesClientCert>>),
}

impl Approach {
    /// The route to this address. What it needs from there, it asks for.
    async fn route(&self, address: &str) -> Result<Route, Unopened> {
        Ok(match self {
            Self::Authority(trust, identity) => Route::to_authority(trust, identity.clone())?,
            Self::PublicName(roots) => Route::to_public_name(address, roots)?,
            #[cfg(not(feature = "teleport"))]
            Self::PinnedAuthService(_)
            | Self::AuthService(..)
            | Self::Proxy(_)
            | Self::AuthThroughProxy(..) => return Err(parts::TELEPORT.refusal().into()),
            #[cfg(feature = "teleport")]
            Self::PinnedAuthService(pins) => {
                let name = auth_service_name();
                let route = Route::to_auth_service(name.clone(), &ServerTrust::Unverified, None)?;
                let connection = Connection::open(address, &route).await?;
                // A server that is not the one that is meant decides nothing.
                let undecided = |failure| Failure { exit: Exit::Unavailable, ..failure };
                let claimed = fetch_cas(connection).await;
                let claimed = claimed.map_err(|why| Unopened::answered(undecided(why)))?;
                let cas = claimed.pinned(pins, clock::now().unix_timestamp());
                let cas = cas.map_err(|why| Unopened::answered(undecided(why)).by_teleport())?;
                Route::to_auth_service(name, &ServerTrust::Certificates(cas), None)?
            }
            #[cfg(feature = "teleport")]
            Self::AuthService(name, trust, identity) => {
                Route::to_auth_service(name.clone(), trust, identity.clone())?
            }
            #[cfg(feature = "teleport")]
            Self::Proxy(roots) => Route::to_proxy(address, roots)?,
            #[cfg(feature = "teleport")]
            Self::AuthThroughProxy(roots, cluster, identity) => {
                Route::to_auth_through_proxy(address, roots, cluster, identity.clone())?
            }
        })
    }
}

/// The first contact, with the system's CAs if they are needed.
pub(super) struct Contact {
    pub(super) approach: Approach,
    /// How a server of Teleport is approached.
    pub(super) teleport: Approach,
    /// What the server is verified with, for people.
    pub(super) description: String,
}

/// A connection to a server that a host has not joined yet.
pub(super) struct Reached {
    pub(super) connection: Connection,
    /// HOST:PORT.
    pub(super) address: String,
    /// By which it can be reached again.
    pub(super) approach: Approach,
    pub(super) protocol: Protocol,
}

impl Approach {
    /// The same, showing this identity.
    pub(super) fn showing(self, identity: Arc<dyn ResolvesClientCert>) -> Self {
        match self {
            Self::Authority(trust, _) => Self::Authority(trust, Some(identity)),
            Self::AuthService(name, trust, _) => Self::AuthService(name, trust, Some(identity)),
            Self::AuthThroughProxy(roots, cluster, _) => {
                Self::AuthThroughProxy(roots, cluster, Some(identity))
            }
            // These connections are for a first join, which has no identity.
            other @ (Self::PublicName(_) | Self::PinnedAuthService(_) | Self::Proxy(_)) => other,
        }
    }
}

impl Client {
    /// How a server is approached by a host that has not joined. The system's CAs are read now: they change without the
    /// agent, and a host that has joined does not need them.
    pub(super) async fn first_contact(&self) -> Result<Contact, Failure> {
        let (trust, pins) = match self.contact() {
            FirstContact::ClusterCas { trust, pins } => (trust, pins),
            FirstContact::PublicName => {
                let found = self.system_roots().await?;
                let description = found.to_string();
                let teleport = Approach::Proxy(found.roots.clone());
                let approach = Approach::PublicName(found.roots);
                return Ok(Contact { approach, teleport, description });
            }
        };
        let teleport = match trust {
            ServerTrust::Pins(_) => Approach::PinnedAuthService(pins.clone()),
            trust => Approach::AuthService(auth_service_name(), trust.clone(), None),
        };
        let approach = Approach::Authority(trust.clone(), None);
        Ok(Contact { approach, teleport, description: self.trust().to_string() })
    }

    pub(super) async fn system_roots(&self) -> Result<SystemRoots, Failure> {
        let access = FileAccess::new("the system's CA certificates", SHORT_TIMEOUT);
        let found = access.run(SystemRoots::read).await?;
        if let Some(log) = self.log() {
            found.passed_over.iter().for_each(|what| {
                log.debug("CA certificate passed over", &[("reason", what)]);
            });
            found.without.iter().for_each(|what| {
                log.warn(
                    "SSL_CERT_FILE or SSL_CERT_DIR names no CA certificate",
                    &[("reason", what)],
                );
            });
            log.debug("verifying by public name", &[("trust", &found)]);
        }
        Ok(found)
    }

    /// Connects to a server and finds out by which protocol it lets hosts join, if that is not decided. An authority has a name
    /// that no other server has; any other server is asked, once it has proven who it is, and only one that says that it does
    /// not know `endorse.v1` is taken for one of Teleport.
    pub(super) async fn find(
        &self,
        contact: &Contact,
        protocol: Option<Protocol>,
    ) -> Result<Reached, Failure> {
        let first = match protocol {
            Some(Protocol::Teleport) => &contact.teleport,
            Some(Protocol::Endorse) | None => &contact.approach,
        };
        let (approach, connected) = match (self.try_connect(first).await, protocol) {
            (Err(unopened), None)
                if parts::TELEPORT.is_built && unopened.is_teleport != IsTeleport::No =>
            {
                let second = self.try_connect(&contact.teleport).await;
                let as_teleport = |teleport| neither(unopened.failure, teleport);
                (&contact.teleport, second.map_err(as_teleport)?)
            }
            (connected, _) => (first, connected?),
        };
        let (connection, address) = connected;
        let protocol = match (protocol, approach) {
            (Some(protocol), _) => protocol,
            (None, Approach::Authority(..)) => Protocol::Endorse,
            (None, _) => protocol_of(&connection).await?,
        };
        // A Proxy takes joins under another protocol of ALPN than that of its web server.
        if protocol == Protocol::Teleport && matches!(approach, Approach::PublicName(_)) {
            let approach = contact.teleport.clone();
            let (connection, address) = self.connect(&approach).await?;
            return Ok(Reached { connection, address, approach, protocol });
        }
        Ok(Reached { connection, address, approach: approach.clone(), protocol })
    }

    /// Connects to the first address with the trusted server, beginning with the last one that had it. Answers of other servers
    /// decide nothing.
    pub(super) async fn connect(
        &self,
        approach: &Approach,
    ) -> Result<(Connection, String), Failure> {
        Ok(self.try_connect(approach).await?)
    }

    async fn try_connect(&self, approach: &Approach) -> Result<(Connection, String), Unopened> {
        let (addresses, history) = (self.addresses(), self.history());
        let first = history.first.load(Ordering::Relaxed);
        let mut telling: Option<Unopened> = None;
        for offset in 0..addresses.len() {
            let index = (first + offset) % addresses.len();
            let Some(address) = addresses.get(index) else { continue };
            match self.open(address, approach).await {
                Ok(connection) => {
                    history.first.store(index, Ordering::Relaxed);
                    history.failed.store(false, Ordering::Relaxed);
                    return Ok((connection, address.clone()));
                }
                // Nothing that another address would change.
                Err(unopened) if unopened.failure.exit != Exit::Unavailable => {
                    return Err(unopened);
                }
                Err(unopened) => telling = Some(unopened.or_more_telling(telling)),
            }
        }
        history.failed.store(true, Ordering::Relaxed);
        Err(telling.unwrap_or_else(|| Failure::bug("no authority address").into()))
    }

    /// Connects by an approach. If the authority there has another CA than those that the host trusts, that may be one to which
    /// they have led.
    async fn open(&self, address: &str, approach: &Approach) -> Result<Connection, Unopened> {
        let Approach::Authority(trust, identity) = approach else {
            return open(address, approach).await;
        };
        let configured = pins_of(trust);
        let trusted = self.present(&configured);
        let by = |trusted: &[CaPin]| match trusted == configured {
            true => approach.clone(),
            false => Approach::Authority(ServerTrust::Pins(trusted.to_vec()), identity.clone()),
        };
        let unopened = match open(address, &by(&trusted)).await {
            Err(unopened) if unopened.is_of_unknown_ca => unopened,
            opened => return opened,
        };
        let present = match present_cas(address, &trusted).await {
            Ok(Some(bundle)) => bundle.pins().to_vec(),
            Ok(None) => return Err(unopened),
            Err(failure) => {
                if let Some(log) = self.log() {
                    log.debug("no way to the CA of the server", &[("reason", &failure.message)]);
                }
                return Err(unopened);
            }
        };
        let connection = open(address, &by(&present)).await?;
        if let Some(log) = self.log() {
            let list = |pins: &[CaPin]| {
                pins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            let (from, to) = (list(&trusted), list(&present));
            log.info("the CA of the authority was replaced", &[("trusted", &from), ("now", &to)]);
        }
        self.history().follow(configured, present);
        Ok(connection)
    }
}

/// The CAs that are trusted, by their keys.
fn pins_of(trust: &ServerTrust) -> Vec<CaPin> {
    match trust {
        ServerTrust::Pins(pins) => pins.clone(),
        ServerTrust::Certificates(certificates) => {
            certificates.iter().filter_map(|ca| CaPin::of_certificate(ca).ok()).collect()
        }
        ServerTrust::PublicCas(_) | ServerTrust::InsideTls(_) | ServerTrust::Unverified => {
            Vec::new()
        }
    }
}

async fn open(address: &str, approach: &Approach) -> Result<Connection, Unopened> {
    let route = approach.route(address).await?;
    let opened = Connection::open(address, &route).await;
    match approach {
        // It has named CAs that are pinned.
        Approach::PinnedAuthService(_) => opened.map_err(Unopened::by_teleport),
        _ => opened,
    }
}

/// The protocol of a server that has proven who it is, but not by an authority's name.
async fn protocol_of(connection: &Connection) -> Result<Protocol, Failure> {
    let channel = connection.channel.clone();
    let mut service = IdentityServiceClient::with_origin(channel, Channel::origin())
        .max_decoding_message_size(endorse_v1::MAX_ANSWER);
    connection.budget.set(Some(MAX_CALL));
    let Err(status) = CallTime::new().wait(service.who_am_i(WhoAmIRequest {})).await else {
        return Ok(Protocol::Endorse);
    };
    match status.code() {
        Code::Unimplemented => Ok(Protocol::Teleport),
        // It knows who may ask.
        Code::Unauthenticated | Code::PermissionDenied => Ok(Protocol::Endorse),
        _ => Err(endorse_v1::refused(&status)),
    }
}

/// The server is neither the authority nor the server of Teleport that is meant.
fn neither(authority: Failure, teleport: Unopened) -> Failure {
    let Unopened { failure: teleport, is_teleport, .. } = teleport;
    match is_teleport {
        IsTeleport::Yes => teleport,
        // The same once more.
        IsTeleport::Maybe => authority,
        IsTeleport::No if authority.message == teleport.message => authority,
        IsTeleport::No => Failure {
            message: format!(
                "{}; nor does it answer as Teleport: {}",
                authority.message, teleport.message
            ),
            advice: format!(
                "check the address, and compare the pin with `authority status`, or `tctl status` on a Teleport \
                 cluster; {PROXY}"
            ),
            ..authority
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_of_the_second_attempt_is_reported_if_it_tells_more() {
        let failure = |what: &str| Failure::new(Exit::Unavailable, what, "try again");
        let second = |what: &str| Unopened::answered(failure(what));
        let mut maybe = second("b");
        maybe.is_teleport = IsTeleport::Maybe;
        for (teleport, said) in [
            (second("b").by_teleport(), "b"),
            (maybe, "a"),
            (second("a"), "a"),
            (second("b"), "a; nor does it answer as Teleport: b"),
        ] {
            assert_eq!(neither(failure("a"), teleport).message, said);
        }
    }
}
