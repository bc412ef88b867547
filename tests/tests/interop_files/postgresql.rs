//! PostgreSQL takes a service's certificate for a user's, and serves with one itself.

use std::fs;
use std::os::unix::fs::chown;
use std::process::{Command, Output};

use agent::config::{Account, Reader};

use super::cluster::Cluster;
use super::{Daemon, free_port, is_root, run, server, text};

const NOBODY: u32 = 65534;

#[test]
fn postgresql_knows_its_users_by_their_certificates() {
    if !is_root("a PostgreSQL of another user") {
        return;
    }
    let (Some(postgres), Some(initdb)) = (server("postgres"), server("initdb")) else { return };
    let cluster = Cluster::new();
    let data = cluster.path("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    let as_nobody = |program: &std::path::Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command.current_dir("/").env("LC_ALL", "C");
        command
    };
    let made = as_nobody(&initdb)
        .args(["-D", text(&data), "-U", "bot-x", "--auth=reject", "--no-sync"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 cert\n").unwrap();

    // PostgreSQL takes a key of root's that its group may read: so an access control list looks.
    let readers = [Reader::User(Account::Id(NOBODY))];
    let own = cluster.directory("server", &readers);
    own.lock().unwrap().write(&cluster.x509("server")).unwrap();
    let port = free_port();
    let file = |name: &str| text(&own.path().join(name)).to_owned();
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        format!("unix_socket_directories={}", text(&data)),
        "ssl=on".into(),
        format!("ssl_cert_file={}", file("svid.pem")),
        format!("ssl_key_file={}", file("svid.key")),
        format!("ssl_ca_file={}", file("bundle.pem")),
        "fsync=off".into(),
    ];
    let mut command = as_nobody(&postgres);
    command.args(["-D", text(&data)]).args(settings.iter().flat_map(|line| ["-c", line]));
    let mut daemon = Daemon::start(&mut command);

    let client = cluster.directory("client", &[]);
    let ask = |user: &str| -> Output {
        let file = |name: &str| text(&client.path().join(name)).to_owned();
        let target = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} dbname=postgres user={user} \
             sslmode=verify-full sslcert={} sslkey={} sslrootcert={}",
            file("svid.pem"),
            file("svid.key"),
            file("bundle.pem")
        );
        run("psql", &[&target, "--no-psqlrc", "-Atc", "select current_user"])
    };
    client.lock().unwrap().write(&cluster.x509("bot-x")).unwrap();
    daemon.until("PostgreSQL answers", || ask("bot-x").status.success());
    client.lock().unwrap().write(&cluster.x509("bot-x")).unwrap();
    assert_eq!(ask("bot-x").stdout, b"bot-x\n");
    client.lock().unwrap().write(&cluster.x509("bot-y")).unwrap();
    let said = String::from_utf8_lossy(&ask("bot-x").stderr).into_owned();
    assert!(said.contains("certificate authentication failed"), "{said}");
    let mut strange = Cluster::new().x509("bot-x");
    strange = strange.with("bundle.pem", fs::read(cluster.path("ca.pem")).unwrap());
    client.lock().unwrap().write(&strange).unwrap();
    assert!(!ask("bot-x").status.success());
}
