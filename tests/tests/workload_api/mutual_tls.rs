//! Mutual TLS between workloads in three languages, each with the library that it has for SPIFFE.

use anyhow::{Context, Result, ensure};
use testkit::swtpm::Kind;
use tests::tpm::start;
use tests::world::{BOT, CLUSTER};

use super::clients::Clients;
use super::{DB, WEB, host};

fn id(name: &str) -> String {
    format!("spiffe://{CLUSTER}/{BOT}/{name}")
}

#[test]
fn workloads_of_three_languages_accept_each_other_by_spiffe_id() -> Result<()> {
    let Some(clients) = Clients::built() else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (_host, socket) = host(&swtpm, "1h")?;
    for server in clients.all() {
        let (mut served, address) = server.serve(&socket, DB, &id("web"))?;
        for client in clients.all() {
            let said = client.dial(&socket, WEB, &id("db"), &address)?;
            let pair = format!("{} at {}", client.name, server.name);
            assert_eq!(said["peer"], id("db").as_str(), "{pair}: {said}");
            let said = served.next()?;
            assert_eq!(said["peer"], id("web").as_str(), "{pair}: {said}");
        }
    }
    Ok(())
}

#[test]
fn workload_with_another_spiffe_id_is_refused_by_clients_and_servers() -> Result<()> {
    let Some(clients) = Clients::built() else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (_host, socket) = host(&swtpm, "1h")?;
    let (_served, address) = clients.go.serve(&socket, DB, &id("web"))?;
    for client in clients.all() {
        let said = client.dial(&socket, WEB, &id("other"), &address)?;
        said["error"].as_str().with_context(|| format!("{} accepts {said}", client.name))?;
    }
    for server in clients.all() {
        let (mut served, address) = server.serve(&socket, DB, &id("other"))?;
        let said = clients.go.dial(&socket, WEB, &id("db"), &address)?;
        ensure!(said["error"].is_string(), "{} accepts: {said}", server.name);
        let said = served.next()?;
        ensure!(said["error"].is_string(), "{} accepts: {said}", server.name);
    }
    Ok(())
}
