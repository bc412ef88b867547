//! PostgreSQL takes a service's certificate for a user's, and serves with one itself.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Output};

use agent::config::{Account, Reader};

use super::cluster::Cluster;
use super::{Daemon, free_port, is_root, run, server, text};

pub(crate) const NOBODY: u32 = 65534;

/// A PostgreSQL that knows users by their certificates, and the port that it listens on.
pub(crate) struct Postgres {
    pub(crate) daemon: Daemon,
    pub(crate) port: u16,
}

/// Files of PEM.
pub(crate) struct Pem<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) cas: &'a Path,
}

impl Pem<'_> {
    /// What psql says as `user`, with these files, to a server that it trusts as `mode` says.
    pub(crate) fn ask(&self, port: u16, user: &str, mode: &str) -> Output {
        let target = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} dbname=postgres user={user} \
             sslmode={mode} sslcert={} sslkey={} sslrootcert={}",
            text(self.certificate),
            text(self.key),
            text(self.cas)
        );
        run("psql", &[&target, "--no-psqlrc", "-Atc", "select current_user"])
    }
}

impl Postgres {
    /// One whose superuser is `user`, serving with `own` out of the directory `data`. `None`, said, if it is not installed.
    pub(crate) fn start(data: &Path, user: &str, own: &Pem<'_>) -> Option<Self> {
        Self::start_with(data, user, own, &[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(
        data: &Path,
        user: &str,
        own: &Pem<'_>,
        environment: &[(&'static str, String)],
    ) -> Option<Self> {
        let (postgres, initdb) = (server("postgres")?, server("initdb")?);
        fs::create_dir(data).unwrap();
        chown(data, Some(NOBODY), Some(NOBODY)).unwrap();
        let as_nobody = |program: &Path| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
            command.current_dir("/").env("LC_ALL", "C");
            command
        };
        let made = as_nobody(&initdb)
            .args(["-D", text(data), "-U", user, "--auth=reject", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 cert\n").unwrap();
        let port = free_port();
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", text(data)),
            "ssl=on".into(),
            format!("ssl_cert_file={}", text(own.certificate)),
            format!("ssl_key_file={}", text(own.key)),
            format!("ssl_ca_file={}", text(own.cas)),
            "fsync=off".into(),
        ];
        let mut command = as_nobody(&postgres);
        command.envs(environment.iter().cloned());
        command.args(["-D", text(data)]).args(settings.iter().flat_map(|line| ["-c", line]));
        Some(Self { daemon: Daemon::start(&mut command), port })
    }
}

#[test]
fn postgresql_knows_its_users_by_their_certificates() {
    if !is_root("a PostgreSQL of another user") {
        return;
    }
    let cluster = Cluster::new();
    // PostgreSQL takes a key of root's that its group may read: so an access control list looks.
    let readers = [Reader::User(Account::Id(NOBODY))];
    let own = cluster.directory("server", &readers);
    own.lock().unwrap().write(&cluster.x509("server")).unwrap();
    let [certificate, key, cas] =
        ["svid.pem", "svid.key", "bundle.pem"].map(|name| own.path().join(name));
    let own = Pem { certificate: &certificate, key: &key, cas: &cas };
    let Some(mut postgres) = Postgres::start(&cluster.path("data"), "bot-x", &own) else { return };

    let client = cluster.directory("client", &[]);
    let [certificate, key, cas] =
        ["svid.pem", "svid.key", "bundle.pem"].map(|name| client.path().join(name));
    let shown = Pem { certificate: &certificate, key: &key, cas: &cas };
    let (port, mode) = (postgres.port, "verify-full");
    client.lock().unwrap().write(&cluster.x509("bot-x")).unwrap();
    postgres.daemon.until("PostgreSQL answers", || shown.ask(port, "bot-x", mode).status.success());
    client.lock().unwrap().write(&cluster.x509("bot-x")).unwrap();
    assert_eq!(shown.ask(port, "bot-x", mode).stdout, b"bot-x\n");
    client.lock().unwrap().write(&cluster.x509("bot-y")).unwrap();
    let said = shown.ask(port, "bot-x", mode).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("certificate authentication failed"), "{said}");
    let mut strange = Cluster::new().x509("bot-x");
    strange = strange.with("bundle.pem", fs::read(cluster.path("ca.pem")).unwrap());
    client.lock().unwrap().write(&strange).unwrap();
    assert!(!shown.ask(port, "bot-x", mode).status.success());
}
