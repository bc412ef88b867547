//! What an Auth Service of Teleport says of its cluster: the name, and the CAs that vouch for its servers.

use host::exit::{Exit, Failure};
use proto::teleport::legacy::auth_service_client::AuthServiceClient;
use proto::teleport::legacy::{GetClusterCaCertRequest, PingRequest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tls::CaPin;
use tonic::Code;

use super::{disorder, refused};
use crate::ceremony::channel::Channel;
use crate::ceremony::connection::{CallTime, Connection, MAX_CALL};
use crate::ceremony::endorse_v1::MAX_ANSWER;
use crate::ceremony::wording::PROXY;
use crate::credential::TrustBundle;

/// The name of the cluster of the server at the other end, which has accepted the certificate that it was shown.
///
/// # Errors
/// Those of the network; [`Exit::Refused`] if the server does not accept the certificate.
pub(in crate::ceremony) async fn ping(connection: &Connection) -> Result<String, Failure> {
    let channel = connection.channel.clone();
    let mut client = AuthServiceClient::with_origin(channel, Channel::origin())
        .max_decoding_message_size(MAX_ANSWER);
    connection.budget.set(Some(MAX_CALL));
    let pong = CallTime::new().wait(client.ping(PingRequest {})).await;
    let pong = pong.map_err(|status| {
        let rejection = connection.end.rejection();
        rejection.unwrap_or_else(|| refused(&status))
    })?;
    Ok(pong.into_inner().cluster_name)
}

/// The CAs of a cluster, as a server names them that nothing vouches for yet.
#[derive(Debug)]
pub struct ClaimedCas(Vec<CertificateDer<'static>>);

/// Asks a server that nothing vouches for yet for the CAs of its cluster.
///
/// # Errors
/// Those of the network; or the server names no CAs.
pub(in crate::ceremony) async fn fetch_cas(connection: Connection) -> Result<ClaimedCas, Failure> {
    let mut client = AuthServiceClient::with_origin(connection.channel, Channel::origin())
        .max_decoding_message_size(MAX_ANSWER);
    let call = client.get_cluster_ca_cert(GetClusterCaCertRequest {});
    let answer = CallTime::new().wait(call).await.map_err(|status| match status.code() {
        Code::Unimplemented => Failure::new(
            Exit::Unavailable,
            "the server does not name the CAs of a Teleport cluster",
            format!("check that the address is that of a Teleport Auth Service; {PROXY}"),
        ),
        _ => refused(&status),
    })?;
    ClaimedCas::read(&answer.into_inner().tls_ca)
}

impl ClaimedCas {
    /// Reads them from an answer, PEM.
    ///
    /// # Errors
    /// One of them is malformed.
    pub fn read(pem: &[u8]) -> Result<Self, Failure> {
        let cas = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        Ok(Self(cas.map_err(|_| disorder("a malformed CA certificate"))?))
    }

    /// The CAs, each of which must be pinned, so that a server that lies is refused, whatever it has been asked before.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] if a CA is not pinned, or not valid now: this is not the server that is meant.
    pub fn pinned(self, pins: &[CaPin], now: i64) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let bundle = TrustBundle::new(self.0.iter().map(AsRef::as_ref));
        pinned(&bundle.map_err(|what| disorder(&what))?, pins, now)?;
        Ok(self.0)
    }
}

/// Checks that each CA is pinned, and valid now.
fn pinned(bundle: &TrustBundle, pins: &[CaPin], now: i64) -> Result<(), Failure> {
    for (pin, validity) in bundle.cas() {
        if !pins.contains(&pin) {
            return Err(Failure::new(
                Exit::Unavailable,
                format!("the Teleport cluster has the CA {pin}, which is not pinned"),
                "compare the CA pin with `tctl status` on the cluster",
            ));
        }
        if validity.is_none_or(|validity| now < validity.not_before || validity.not_after < now) {
            return Err(Failure::new(
                Exit::Unavailable,
                format!("the CA {pin} of the Teleport cluster is not valid by this host's clock"),
                "compare the clocks of both machines",
            ));
        }
    }
    Ok(())
}
