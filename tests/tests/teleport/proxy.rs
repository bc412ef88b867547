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
use testkit::swtpm::{Factory, Kind, Maker};
use tests::teleport_peer::{Server, TeleportPeer};
use tls::Roots;
use tonic::Code;

use super::daemon::{Daemon, Way, ek_hash};

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

/// Nothing is configured but the address: the protocol, the load balancer and the kind of upgrade are found out. A name of a
/// cluster may be longer than a server name.
#[test]
fn host_joins_and_renews_through_a_proxy_by_its_address_alone() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let long = "c".repeat(64);
    for (address, kind, cluster) in [
        ("proxy_addr", None, "example.test"),
        ("proxy_addr", None, &long),
        ("l7_addr", Some("websocket"), &long),
        ("l7_addr", Some("alpn-ping"), "example.test"),
    ] {
        let scratch = Scratch::new("teleport-proxy")?;
        let hash = ek_hash(&swtpm)?;
        let Some(peer) = TeleportPeer::built()? else { return Ok(()) };
        let listen = ["--proxy", "127.0.0.1:0", "--l7", "127.0.0.1:0"];
        let more = ["--upgrades", kind.unwrap_or("alpn"), "--allow-hash", &hash, "--token", "t"];
        let arguments = [&listen[..], &more, &["--cluster", cluster]].concat();
        let server = peer.server(scratch.path(), &arguments)?;
        let roots = scratch.path().join("teleport/web-ca.pem");

        let way = Way::Proxy { address: server.start(address), roots: &roots };
        let mut daemon = Daemon::start(&swtpm, &way)?;
        daemon.until_logged("all credentials are valid")?;
        daemon.renew("renewed name=identity")?;
        let events = server.events()?;
        let calls: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "rpc" && event["code"] == "OK")
            .map(|call| (call["method"].as_str(), call["client_certificate"].as_bool()))
            .collect();
        let join = Some("/teleport.join.v1.JoinService/Join");
        ensure!(calls == [(join, Some(false)), (join, Some(true))], "{events:?}");
        let upgrades = events.iter().filter(|event| event["event"] == "upgraded");
        ensure!((upgrades.clone().count() > 0) == kind.is_some(), "{events:?}");
        ensure!(upgrades.into_iter().all(|event| event["kind"].as_str() == kind), "{events:?}");
    }
    Ok(())
}
