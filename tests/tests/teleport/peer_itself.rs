//! The peer's client joins the peer's server, so that a failure elsewhere is not the peer's own.

use anyhow::{Result, ensure};
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker};
use tests::teleport_peer::{TeleportPeer, tpm_address};

#[test]
fn the_client_joins_the_server_by_both_services() -> Result<()> {
    let Some(peer) = TeleportPeer::built()? else { return Ok(()) };
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
    let scratch = Scratch::new("teleport-peer")?;
    let tpm = tpm_address(&swtpm);
    let identified = peer.identify(&tpm)?;
    let hash = identified["ek_public_hash"].as_str().unwrap_or_default();
    let server =
        peer.server(scratch.path(), &["--token", "t", "--bot", "b", "--allow-hash", hash])?;
    let (address, pin) = (server.start("auth_addr"), server.start("ca_pin"));
    for service in ["new", "legacy"] {
        let common = ["--auth-server", address, "--ca-pin", pin, "--token", "t", "--tpm", &tpm];
        let report =
            peer.client(&[&common[..], &["--service", service, "--rejoin", "2"]].concat())?;
        ensure!(report["ok"] == true, "{report:#}");
        ensure!(report["generations"].as_array().is_some_and(|them| them.len() == 3), "{report:#}");
    }
    Ok(())
}
