//! `ssh -F DIRECTORY/ssh_config HOST` logs in to an sshd that trusts the cluster's SSH authority.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use authority::data_directory::{DataDirectory, replace_private};
use authority::issue::JwtAlgorithm;
use authority::keyring::{Own, StoredKeyring};
use authority::store::RedbStore;
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::world::{BOT, CLUSTER, World};

use super::cluster::Cluster;
use super::{Daemon, free_port, is_root, run, server, succeed, text};

fn log_in(directory: &Path, port: u16) -> Output {
    let config = directory.join("ssh_config");
    run(
        "ssh",
        &[
            "-F",
            text(&config),
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-p",
            &port.to_string(),
            "root@localhost",
            "echo",
            "logged in",
        ],
    )
}

#[test]
fn ssh_logs_in_with_the_files_of_identity() {
    if !is_root("an sshd") {
        return;
    }
    let Some(sshd) = server("sshd") else { return };
    fs::create_dir_all("/run/sshd").unwrap();
    let cluster = Cluster::new();
    let [host, ca, host_ca, config, principals, other] =
        ["host", "ssh", "ssh-host", "sshd_config", "principals", "other"]
            .map(|name| cluster.path(name));
    for key in [&host, &other] {
        succeed("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", text(key)]);
    }
    let public = cluster.path("host.pub");
    let names = "localhost,db.c.example";
    let sign = |ca| {
        succeed("ssh-keygen", &["-q", "-s", text(ca), "-I", "h", "-h", "-n", names, text(&public)]);
    };
    sign(&host_ca);
    fs::write(&principals, "bot-x\n").unwrap();
    let port = free_port();
    let written = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {host}\nHostCertificate {host}-cert.pub\n\
         TrustedUserCAKeys {ca}.pub\nAuthorizedPrincipalsFile {principals}\nStrictModes no\n\
         AuthenticationMethods publickey\nPermitRootLogin yes\nUsePAM no\nPidFile none\n",
        host = text(&host),
        ca = text(&ca),
        principals = text(&principals)
    );
    fs::write(&config, written).unwrap();
    let mut daemon = Daemon::start(Command::new(sshd).args(["-D", "-e", "-f", text(&config)]));
    daemon.until("sshd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());

    let directory = cluster.directory("id", &[]);
    for _ in 0..2 {
        let set = cluster.identity("bot-x", "ssh", directory.path());
        directory.lock().unwrap().write(&set).unwrap();
        let output = log_in(directory.path(), port);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(output.stdout, b"logged in\n");
    }
    for (principal, authority) in [("bot-y", "ssh"), ("bot-x", "other")] {
        let set = cluster.identity(principal, authority, directory.path());
        directory.lock().unwrap().write(&set).unwrap();
        let output = log_in(directory.path(), port);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Permission denied"), "{principal} of {authority}: {said}");
    }
}

/// Writes the private keys of the SSH CAs of an authority that has stopped into its cluster's directory.
fn private_keys(world: &World) -> Result<()> {
    let directory = DataDirectory::new(world.path("data"));
    let own = Own::of(&directory, &directory.lock().map_err(|failure| anyhow!(failure.message))?);
    let own = own.map_err(|failure| anyhow!(failure.message))?;
    let store = Arc::new(RedbStore::open(&world.path("data/cluster/store.redb"))?);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let opened = StoredKeyring::open(store, &own, JwtAlgorithm::Es256);
    let opened = runtime.block_on(opened)?.context("no keyring")?;
    let keys = opened.keys();
    for (name, ca) in
        [("ssh-ca.key", keys.ssh.active()), ("ssh-host-ca.key", keys.ssh_host.active())]
    {
        replace_private(&world.path("data/cluster").join(name), ca.private_pem()?.as_bytes())?;
    }
    Ok(())
}

/// What the agent delivers is enough to verify the host: its certificate is of the cluster's SSH CA of hosts, no other.
#[test]
fn ssh_verifies_a_host_with_the_files_that_the_agent_delivers() -> Result<()> {
    if !is_root("an sshd") {
        return Ok(());
    }
    let Some(sshd) = server("sshd") else { return Ok(()) };
    fs::create_dir_all("/run/sshd")?;
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let mut world = World::new(programs!())?;
    world.create(&format!(
        "kind: bot\nversion: v1\nmetadata:\n  name: {BOT}\nspec:\n  roles: []\n  \
         traits:\n    - {{name: logins, values: [root]}}\n"
    ))?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    let delivered = world.path("id");
    let config = format!(
        "proxy_server: {}\nonboarding: {{token: t, ca_pins: [\"{}\"]}}\nstorage: {}\n\
         tpm: {{address: \"{}\"}}\noneshot: true\n\
         services: [{{type: identity, name: id, destination: {}}}]\n",
        world.address(),
        world.pin(),
        text(&world.path("bot")),
        swtpm.tcti(),
        text(&delivered),
    );
    fs::write(world.path("tbot.yaml"), config)?;
    world.agent(&["start", "-c", "tbot.yaml"])?.success()?;

    world.stop()?;
    private_keys(&world)?;

    let [host, public, server] = ["host", "host.pub", "sshd_config"].map(|name| world.path(name));
    succeed("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&host)]);
    let cluster = |name: &str| world.path("data/cluster").join(name);
    let written = format!(
        "HostKey {host}\nHostCertificate {host}-cert.pub\nTrustedUserCAKeys {}\nStrictModes no\n\
         AuthenticationMethods publickey\nPermitRootLogin yes\nUsePAM no\nPidFile none\n",
        text(&cluster("ssh-ca.pub")),
        host = text(&host),
    );
    fs::write(&server, written)?;
    let name = format!("db.{CLUSTER}");
    let log_in_under = |ca: &str| {
        let ca = cluster(ca);
        succeed(
            "ssh-keygen",
            &["-q", "-s", text(&ca), "-I", "h", "-h", "-n", &name, text(&public)],
        );
        // sshd -i speaks on its standard input and output, so no port is needed.
        let proxy = format!("ProxyCommand={} -i -f {}", text(&sshd), text(&server));
        let options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", &proxy];
        let (config, to) = (delivered.join("ssh_config"), format!("root@{name}"));
        run("ssh", &[&["-F", text(&config)], &options[..], &[&to, "echo", "logged in"]].concat())
    };
    let accepted = log_in_under("ssh-host-ca.key");
    ensure!(accepted.stdout == b"logged in\n", "{}", String::from_utf8_lossy(&accepted.stderr));
    // The CA of users is no CA of hosts.
    let refused = String::from_utf8(log_in_under("ssh-ca.key").stderr)?;
    ensure!(refused.contains("Host key verification failed"), "{refused}");
    Ok(())
}
