//! The servers of a Teleport cluster: the names that they have, and the CAs that vouch for them.

use base16ct::lower::encode_string as hex;
use host::clock;
use host::exit::{Exit, Failure};
use proto::teleport::legacy::GetClusterCaCertRequest;
use proto::teleport::legacy::auth_service_client::AuthServiceClient;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use tls::CaPin;
use tonic::Code;

use super::{disorder, refused};
use crate::ceremony::channel::Channel;
use crate::ceremony::connection::{CallTime, Connection};
use crate::ceremony::endorse_v1::MAX_ANSWER;
use crate::ceremony::route::TELEPORT_NAME;
use crate::credential::TrustBundle;

/// The name of an Auth Service, under which hosts without an identity ask for it.
#[expect(clippy::expect_used, reason = "of a constant")]
pub(in crate::ceremony) fn auth_service_name() -> ServerName<'static> {
    ServerName::DnsName(DnsName::try_from_str(TELEPORT_NAME).expect("a DNS name"))
}

/// The name of the Auth Service of one cluster, under which its bots ask for it. `None` if that is no DNS name: a label has at
/// most 63 characters, so the name of the cluster at most 31.
pub(in crate::ceremony) fn renewal_name(cluster: &str) -> Option<ServerName<'static>> {
    let name = format!("{}.{TELEPORT_NAME}", hex(cluster.as_bytes()));
    Some(ServerName::DnsName(DnsName::try_from(name).ok()?))
}

/// Asks a server that nothing vouches for yet for the CAs of its cluster. Each must be pinned, so that a server that lies is
/// refused, whatever it has been asked before.
///
/// # Errors
/// Those of the network; [`Exit::Unavailable`] if a CA is not pinned, or not valid now: this is not the server that is meant.
pub(in crate::ceremony) async fn fetch_cas(
    connection: Connection,
    pins: &[CaPin],
) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let mut client = AuthServiceClient::with_origin(connection.channel, Channel::origin())
        .max_decoding_message_size(MAX_ANSWER);
    let call = client.get_cluster_ca_cert(GetClusterCaCertRequest {});
    let answer = CallTime::new().wait(call).await.map_err(|status| match status.code() {
        Code::Unimplemented => Failure::new(
            Exit::Unavailable,
            "the server does not name the CAs of a Teleport cluster",
            "check that the address is that of a Teleport Auth Service",
        ),
        _ => refused(&status),
    })?;
    let pem = answer.into_inner().tls_ca;
    let cas = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let cas = cas.map_err(|_| disorder("a malformed CA certificate"))?;
    let bundle = TrustBundle::new(cas.iter().map(AsRef::as_ref));
    pinned(&bundle.map_err(|what| disorder(&what))?, pins, clock::now().unix_timestamp())?;
    Ok(cas)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_name_is_the_cluster_in_hexadecimal() {
        let name = |cluster: &str| renewal_name(cluster).map(|name| name.to_str().into_owned());
        assert_eq!(name("example.com").unwrap(), "6578616d706c652e636f6d.teleport.cluster.local");
        assert!(name(&"c".repeat(31)).is_some());
        assert!(name(&"c".repeat(32)).is_none());
        assert_eq!(auth_service_name().to_str(), TELEPORT_NAME);
    }
}
