//! The Workload API, used by the software that workloads have: go-spiffe, `spiffe` of Python's package index, the crate `spiffe`,
//! and Envoy.

mod clients;
mod envoy;
mod load;
mod mutual_tls;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::swtpm::{Kind, Swtpm};
use tests::host::{Host, until};
use tests::programs;
use tests::tpm::start;
use tests::world::{BOT, CLUSTER, World};

use self::clients::Clients;

/// Users of two workloads, and of one that has no identity.
const WEB: u32 = 33;
const DB: u32 = 34;
const STRANGER: u32 = 35;

/// An identity for the workloads of one user.
fn identity(name: &str, uid: u32) -> String {
    format!(
        "kind: workload_identity\nversion: v1\nmetadata: {{name: {name}, labels: {{env: prod}}}}\nspec:\n  \
         bots: {{labels: {{\"*\": \"*\"}}}}\n  rules: {{allow: [{{conditions: [{{attribute: workload.unix.uid, \
         eq: {{value: \"{uid}\"}}}}]}}]}}\n  spiffe: {{id: \"/{{{{ user.bot_name }}}}/{name}\", hint: {name}}}\n"
    )
}

/// A host that serves workloads of these users, with certificates of this lifetime.
fn host(swtpm: &Swtpm, ttl: &str) -> Result<(Host, PathBuf)> {
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    host.world.create(&format!("{}---\n{}", identity("web", WEB), identity("db", DB)))?;
    let socket = host.path("run/workload.sock");
    // Other users must reach the socket.
    for directory in socket.ancestors().skip(2) {
        if fs::metadata(directory)?.permissions().mode() & 0o005 != 0o005 {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        }
    }
    host.configure(&format!(
        "  - type: workload-identity-api\n    name: api\n    listen: unix://{}\n    mode: \"0666\"\n    \
         credential_ttl: {ttl}\n    selector: {{labels: {{env: [prod]}}}}\n    \
         rules: [{{unix: {{uid: {WEB}}}}}, {{unix: {{uid: {DB}}}}}]\n",
        socket.display()
    ))?;
    host.start()?;
    host.wait_healthy()?;
    until(|| {
        let is_socket = fs::symlink_metadata(&socket)?.file_type().is_socket();
        ensure!(is_socket, "no socket: {}", host.log());
        Ok(())
    })?;
    Ok((host, socket))
}

fn id(name: &str) -> Value {
    format!("spiffe://{CLUSTER}/{BOT}/{name}").into()
}

#[test]
fn workloads_have_their_own_identities_and_strangers_none() -> Result<()> {
    let Some(clients) = Clients::built() else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (_host, socket) = host(&swtpm, "1h")?;
    for (uid, name) in [(WEB, "web"), (DB, "db")] {
        let own = id(name);
        for program in clients.all() {
            let said = program.once(&socket, uid)?;
            assert_eq!(said["ids"], json!([own, own, own]), "{}: {said}", program.name);
            assert_eq!(said["audiences"], json!(["x", "y"]));
        }
        for program in [&clients.go, &clients.rust] {
            let said = program.once(&socket, uid)?;
            assert_eq!((&said["hint"], &said["svids"]), (&name.into(), &1.into()), "{said}");
        }
    }
    for program in clients.all() {
        let said = program.once(&socket, STRANGER)?;
        let error = said["error"].as_str().context("an identity for a stranger")?;
        ensure!(error.contains("no identity issued"), "{}: {error}", program.name);
    }
    Ok(())
}

#[test]
fn reflection_shows_the_services_to_anyone_who_may_connect() -> Result<()> {
    let Some(clients) = Clients::built() else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (_host, socket) = host(&swtpm, "1h")?;
    let seen = clients.go.reflect(&socket, STRANGER)?;
    let methods = seen["methods"].as_object().with_context(|| seen.to_string())?;
    let services: Vec<&str> = methods.keys().map(String::as_str).collect();
    let expected = [
        "SpiffeWorkloadAPI",
        "envoy.service.secret.v3.SecretDiscoveryService",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(services, expected);
    assert_eq!(methods["SpiffeWorkloadAPI"].as_array().map(Vec::len), Some(7), "{seen}");
    let sds = json!(["DeltaSecrets", "FetchSecrets", "StreamSecrets"]);
    assert_eq!(methods["envoy.service.secret.v3.SecretDiscoveryService"], sds);
    assert_eq!(seen["older"], json!(expected));
    const NOT_FOUND: u32 = 5;
    assert_eq!(seen["unknown"], json!(NOT_FOUND));
    Ok(())
}

#[test]
fn loopback_address_gives_anyone_the_bots_own_identity() -> Result<()> {
    let Some(clients) = Clients::built() else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let service = "  - {type: workload-identity-api, name: api, listen: 'tcp://127.0.0.1:0'}\n";
    host.configure(service)?;
    host.start()?;
    host.wait_healthy()?;
    host.until_logged("serving workloads name=api", 1)?;
    let log = host.log();
    ensure!(log.contains("every user of this host"), "no warning: {log}");
    let address = log.split_whitespace().find_map(|word| word.strip_prefix("socket="));
    let address = address.with_context(|| log.clone())?;
    let seen = clients.go.once(Path::new(address), STRANGER)?;
    let own = &host.stored()?["spiffe_id"];
    assert_eq!(seen["ids"], json!([own, own, own]), "{seen}");
    Ok(())
}

#[test]
fn renewals_reach_an_open_stream_and_an_end_of_the_agent_is_no_end_of_the_client() -> Result<()> {
    let Some(clients) = Clients::built() else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (mut host, socket) = host(&swtpm, "8s")?;
    let mut watch = clients.go.watch(&socket, WEB)?;
    let first = watch.next()?;
    assert_eq!(first["id"], id("web"), "{first}");
    let second = watch.next()?;
    assert_eq!(second["id"], id("web"), "{second}");
    ensure!(first["serial"] != second["serial"], "{first} {second}");
    host.signal("TERM")?;
    host.ended()?;
    ensure!(!socket.exists(), "the agent leaves its socket");
    while watch.next()?["error"].is_null() {}
    host.start()?;
    while watch.next()?["id"] != id("web") {}
    Ok(())
}
