//! The examples of docs/workloads.md with files: nginx and PostgreSQL serve with a workload identity, and know their clients by one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::swtpm::{Kind, Swtpm};
use tests::host::Host;
use tests::programs;
use tests::tpm::start;
use tests::world::World;

use super::nginx::configuration;
use super::postgresql::{NOBODY, Pem, Postgres};
use super::{Daemon, free_port, is_root, run, server, text};

/// A server, and two clients, one of which is to be let in.
const IDENTITIES: &str = "kind: workload_identity
version: v1
metadata: {name: server}
spec:
  bots: {names: [my-bot]}
  spiffe: {id: /server, x509: {dns_sans: [localhost]}}
---
kind: workload_identity
version: v1
metadata: {name: app}
spec:
  bots: {names: [my-bot]}
  spiffe: {id: /app, x509: {subject_template: {common_name: app}}}
---
kind: workload_identity
version: v1
metadata: {name: other}
spec:
  bots: {names: [my-bot]}
  spiffe: {id: /other, x509: {subject_template: {common_name: other}}}
";

/// A host whose agent has written the files of the three services.
fn host(swtpm: &Swtpm) -> Host {
    let mut host = Host::new(World::new(programs!()).unwrap(), &swtpm.tcti()).unwrap();
    host.world.create(IDENTITIES).unwrap();
    let service = |name: &str| {
        format!(
            "  - {{type: x509, name: {name}, selector: {{name: {name}}}, format: nginx, destination: {}}}\n",
            text(&host.path(name))
        )
    };
    let services: String = ["server", "app", "other"].map(service).concat();
    host.configure(&services).unwrap();
    host.start().unwrap();
    host.wait_healthy().unwrap();
    host
}

/// Certificate, key and CAs of a service.
fn files(directory: &Path) -> [PathBuf; 3] {
    ["fullchain.pem", "privkey.pem", "ca.pem"].map(|name| directory.join(name))
}

#[test]
fn nginx_knows_its_clients_by_their_subject() {
    let Some(nginx) = server("nginx") else { return };
    let swtpm = start(Kind::P256).unwrap();
    let host = host(&swtpm);
    let (port, [certificate, key, cas]) = (free_port(), files(&host.path("server")));
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), "NAME", port);
    let config = config.replace("NAME.pem", text(&certificate)).replace("NAME.key", text(&key));
    let config =
        config.replace("http {", "http { map $ssl_client_s_dn $known { default 0; CN=app 1; }");
    let verified = format!(
        "ssl_client_certificate {}; ssl_verify_client on; if ($known = 0) {{ return 403; }}",
        text(&cas)
    );
    let config =
        config.replace("ssl_session_cache off;", &format!("ssl_session_cache off; {verified}"));
    let path = directory.path().join("nginx.conf");
    fs::write(&path, config).unwrap();
    let mut daemon = Daemon::start(Command::new(nginx).args(["-c", text(&path)]));
    let url = format!("https://localhost:{port}/");
    let curl = |name: &str| {
        let [certificate, key, cas] = files(&host.path(name));
        let shown = ["--cert", text(&certificate), "--key", text(&key), "--cacert", text(&cas)];
        let output = run("curl", &[&["-sS", "--ipv4", &url], &shown[..]].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    daemon.until("nginx answers", || curl("app") == "page served");
    let refused = curl("other");
    assert!(refused.contains("403 Forbidden"), "{refused}");
}

#[test]
fn postgresql_knows_its_users_by_their_subject() {
    if !is_root("a PostgreSQL of another user") {
        return;
    }
    let swtpm = start(Kind::P256).unwrap();
    let host = host(&swtpm);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let own = files(&host.path("server")).map(|file| {
        let copy = directory.path().join(file.file_name().unwrap());
        fs::copy(&file, &copy).unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o600)).unwrap();
        chown(&copy, Some(NOBODY), Some(NOBODY)).unwrap();
        copy
    });
    let [certificate, key, cas] = &own;
    let own = Pem { certificate, key, cas };
    let started = Postgres::start(&directory.path().join("data"), "app", &own);
    let Some(mut postgres) = started else { return };
    let port = postgres.port;
    let ask = |name: &str| {
        let [certificate, key, cas] = files(&host.path(name));
        let shown = Pem { certificate: &certificate, key: &key, cas: &cas };
        shown.ask(port, "app", "verify-full")
    };
    postgres.daemon.until("PostgreSQL answers", || ask("app").status.success());
    assert_eq!(ask("app").stdout, b"app\n");
    let said = ask("other").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("certificate authentication failed"), "{said}");
}
