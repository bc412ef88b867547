//! The peer's client as a running `tbot` with the services `workload-identity-x509` and `workload-identity-jwt`: it fetches the trust
//! bundle, keeps a watch on it, and verifies what it is issued by that bundle.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::teleport_peer::{TeleportPeer, tpm_address};
use tests::world::{BOT, CLUSTER, World, run};

/// The calls, in the order in which the client makes them, and how each ends. There is no revocation list, which it tolerates.
const CALLS: [(&str, &str); 6] = [
    ("/proto.AuthService/WatchEvents", "OK"),
    ("/teleport.trust.v1.TrustService/GetCertAuthority", "OK"),
    ("/teleport.machineid.v1.SPIFFEFederationService/ListSPIFFEFederations", "OK"),
    ("/proto.AuthService/GenerateUserCerts", "OK"),
    ("/teleport.clusterconfig.v1.ClusterConfigService/GetAuthPreference", "OK"),
    ("/teleport.workloadidentity.v1.WorkloadIdentityIssuanceService/", "OK"),
];

fn check(report: &Value) -> Result<()> {
    ensure!(report["ok"] == true, "{report:#}");
    let events = report["events"].as_array().context("no events")?;
    for (call, code) in CALLS {
        let is_made =
            |event: &&Value| event["name"].as_str().is_some_and(|name| name.starts_with(call));
        let made: Vec<_> = events.iter().filter(is_made).collect();
        ensure!(!made.is_empty(), "{call} is missing: {report:#}");
        ensure!(made.iter().all(|event| event["code"] == code), "{call}: {made:#?}");
    }
    Ok(())
}

#[test]
fn every_generation_gets_x509_and_jwt_svids_by_name_and_by_labels() -> Result<()> {
    let Some(peer) = TeleportPeer::built()? else { return Ok(()) };
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
    let tpm = tpm_address(&swtpm);
    let world = World::new(programs!())?;
    world.create(&format!(
        "kind: workload_identity\nversion: v1\nmetadata: {{name: web, labels: {{env: prod}}}}\nspec: {{bots: {{names: \
         [{BOT}]}}, spiffe: {{id: '/apps/{{{{ user.bot_name }}}}', hint: public}}}}\n"
    ))?;
    let identified = peer.identify(&tpm)?;
    let hash = identified["ek_public_hash"].as_str().context("no hash")?;
    world.allow("t", &format!("- ek_public_hash: {hash}"), &[])?;
    let directory = world.path("tbot").display().to_string();
    let host = ["--auth-server", world.address(), "--ca-pin", world.pin(), "--token", "t"];
    let host = [&host[..], &["--tpm", &tpm, "--outputs", "workload-identity"]].concat();
    let id = format!("spiffe://{CLUSTER}/apps/{BOT}");
    for generation in ["a", "b", "c"] {
        for selector in [["--name-selector", "web"], ["--label-selector", "env=prod"]] {
            let this = ["--generation", generation, "--dir", &directory];
            let report = peer.client(&[&host[..], &this, &selector].concat())?;
            check(&report)?;
            let output = &report["outputs"][0];
            ensure!(output["spiffe_ids"] == json!([id, id]), "{output:#}");
            ensure!(output["hint"] == "public", "{output:#}");
        }
    }
    let file = |name: &str| format!("{directory}/workload/{name}");
    run("openssl", &["verify", "-CAfile", &file("bundle.pem"), &file("svid.pem")])?;
    Ok(())
}
