//! The connection to a Teleport Proxy, with and without a load balancer, against an independent server.

use std::fs;

use agent::ceremony::channel::Channel;
use agent::ceremony::connection::Connection;
use agent::ceremony::route::Route;
use anyhow::{Result, ensure};
use host::exit::Failure;
use proto::v1::WhoAmIRequest;
use proto::v1::identity_service_client::IdentityServiceClient;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use testkit::child::Scratch;
use tests::teleport_peer::{Server, TeleportPeer};
use tls::Roots;
use tonic::Code;

/// A Proxy, with a load balancer for the key `l7_addr`.
fn proxy(scratch: &Scratch, more: &[&str]) -> Result<Option<(Server, Roots)>> {
    let Some(peer) = TeleportPeer::built()? else { return Ok(None) };
    let token = ["--token", "t", "--allow-hash", "00"];
    let arguments = [&["--proxy", "127.0.0.1:0", "--l7", "127.0.0.1:0"][..], &token].concat();
    let server = peer.server(scratch.path(), &[&arguments[..], more].concat())?;
    let pem = fs::read(scratch.path().join("teleport/web-ca.pem"))?;
    let root = CertificateDer::from_pem_slice(&pem)?;
    Ok(Some((server, Roots::new([root]))))
}

/// Connects, and calls what a Proxy does not have: its answer comes from the gRPC server of the join services.
async fn call(address: &str, roots: &Roots) -> Result<()> {
    let route = Route::to_proxy(address, roots)?;
    let connection = Connection::open(address, &route).await.map_err(Failure::from)?;
    let mut service = IdentityServiceClient::with_origin(connection.channel, Channel::origin());
    let status = service.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    ensure!(status.code() == Code::Unimplemented, "{status}");
    ensure!(status.message().starts_with("unknown method /endorse.v1."), "{status}");
    Ok(())
}

#[tokio::test]
async fn proxy_is_reached_by_its_alpn_name_without_an_upgrade() -> Result<()> {
    let scratch = Scratch::new("teleport-proxy")?;
    let Some((server, roots)) = proxy(&scratch, &[])? else { return Ok(()) };
    call(server.start("proxy_addr"), &roots).await?;
    let events = server.events()?;
    let offered = |name: &str| {
        let has = |event: &&serde_json::Value| event["alpn_offered"][0] == name;
        events.iter().filter(has).count()
    };
    ensure!(offered("teleport-reversetunnel") == 1 && offered("teleport-proxy-grpc") == 1);
    ensure!(events.iter().all(|event| event["event"] != "upgraded"), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn proxy_behind_a_load_balancer_is_reached_by_each_kind_of_upgrade() -> Result<()> {
    for alpn in ["none", "http1"] {
        for kind in ["websocket", "alpn-ping", "alpn"] {
            let scratch = Scratch::new("teleport-balancer")?;
            let arguments = ["--l7-alpn", alpn, "--upgrades", kind];
            let Some((server, roots)) = proxy(&scratch, &arguments)? else { return Ok(()) };
            call(server.start("l7_addr"), &roots).await?;
            let events = server.events()?;
            let is_upgraded =
                |event: &serde_json::Value| event["event"] == "upgraded" && event["kind"] == kind;
            ensure!(events.iter().any(is_upgraded), "{kind}: {events:?}");
            // The server began with a ping.
            let is_pong = |event: &serde_json::Value| event["event"] == "pong";
            ensure!(kind != "websocket" || events.iter().any(is_pong), "{events:?}");
        }
    }
    Ok(())
}
