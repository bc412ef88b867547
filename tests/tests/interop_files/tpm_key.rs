//! OpenSSL, nginx, curl and PostgreSQL use a service's key that stays in the TPM, by OpenSSL's provider and through tpm2-abrmd: the
//! provider needs more objects in the TPM at the same time than a TPM has room for.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testkit::swtpm::{Kind, Swtpm};
use tests::host::Host;
use tests::programs;
use tests::tpm::start_tcp;
use tests::world::World;

use super::nginx::configuration;
use super::postgresql::{NOBODY, Pem, Postgres};
use super::{Daemon, free_port, is_root, server, text};

/// The default provider first, and the TPM for signatures.
const OPENSSL_CONF: &str = "openssl_conf = init
[init]
providers = providers
alg_section = algorithms
[providers]
default = active
tpm2 = active
[active]
activate = 1
[algorithms]
default_properties = ?tpm2.signature=yes
";

/// A bus on which all users may be: that of a session, which is not the machine's.
const BUS: &str = r#"<busconfig><type>session</type><listen>unix:path=PATH</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"#;

/// A host that has stopped, with the files of its service, and the TPM that its resource manager shares.
struct Machine {
    directory: TempDir,
    /// What programs must be told.
    environment: Vec<(&'static str, String)>,
    _manager: Daemon,
    _bus: Daemon,
    _swtpm: Swtpm,
}

impl Machine {
    /// With a certificate for a key in its TPM. `None`, said, if there is no resource manager.
    fn new() -> Option<Self> {
        let manager = server("tpm2-abrmd")?;
        let swtpm = start_tcp(Kind::P256).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        issue(&swtpm, directory.path());

        let at = |name: &str| directory.path().join(name);
        let (config, socket) = (at("bus.conf"), at("bus"));
        fs::write(&config, BUS.replace("PATH", text(&socket))).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.args(["--nofork", "--print-address", "--config-file", text(&config)]);
        let mut bus = Daemon::start(command.stdout(Stdio::piped()));
        let mut address = String::new();
        let stdout = bus.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        let bus_address = ("DBUS_SESSION_BUS_ADDRESS", address.trim().to_owned());
        let mut command = Command::new(manager);
        command.args(["--session", "--allow-root", &format!("--tcti={}", swtpm.tcti())]);
        let mut manager = Daemon::start(command.envs([bus_address.clone()]).stdout(Stdio::null()));
        let ready = ["-T", "tabrmd:bus_type=session", "properties-fixed"];
        manager.until("the resource manager answers", || {
            let mut command = Command::new("tpm2_getcap");
            let output = command.args(ready).envs([bus_address.clone()]).output().unwrap();
            output.status.success()
        });
        fs::write(at("openssl.cnf"), OPENSSL_CONF).unwrap();
        let environment = vec![
            bus_address,
            ("OPENSSL_CONF", text(&at("openssl.cnf")).to_owned()),
            ("TPM2OPENSSL_TCTI", "tabrmd:bus_type=session".to_owned()),
        ];
        Some(Self { directory, environment, _manager: manager, _bus: bus, _swtpm: swtpm })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program that can use the TPM.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// What `openssl s_client` says after a request with the certificate and the key in the TPM.
    fn request(&self, port: u16, version: &str) -> Result<String, String> {
        let [certificate, key, bundle] =
            ["svid.pem", "svid.key", "bundle.pem"].map(|name| self.path(name));
        let mut client = self
            .command("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-ign_eof", version])
            .args(["-verify_return_error", "-CAfile", text(&bundle)])
            .args(["-cert", text(&certificate), "-key", text(&key)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = client.stdin.take().unwrap().write_all(b"GET / HTTP/1.0\r\n\r\n");
        let output = client.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && said.to_lowercase().contains("200 ok") {
            return Ok(said);
        }
        Err(format!("{said}\n{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// What the peers of the service know it by: its name in the DNS, and its user name.
const IDENTITY: &str = "kind: workload_identity
version: v1
metadata: {name: db}
spec:
  bots: {names: [my-bot]}
  spiffe: {id: /db, x509: {dns_sans: [localhost], subject_template: {common_name: app}}}
";

/// Has an agent write the files of a service whose key is in this TPM, and stops it.
fn issue(swtpm: &Swtpm, directory: &Path) {
    let mut host = Host::new(World::new(programs!()).unwrap(), &swtpm.tcti()).unwrap();
    host.world.create(IDENTITY).unwrap();
    let service = "  - {type: x509, name: db, key: tpm, selector: {name: db}, destination: ";
    host.configure(&format!("{service}{}}}\n", text(&host.path("db")))).unwrap();
    host.start().unwrap();
    host.wait_healthy().unwrap();
    host.signal("TERM").unwrap();
    host.ended().unwrap();
    for name in ["svid.pem", "svid.key", "bundle.pem"] {
        fs::copy(host.path("db").join(name), directory.join(name)).unwrap();
    }
    for name in ["svid.pem", "bundle.pem"] {
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o644)).unwrap();
    }
    let key = fs::read_to_string(directory.join("svid.key")).unwrap();
    assert!(key.starts_with("-----BEGIN TSS2 PRIVATE KEY-----\n"), "{key}");
}

#[test]
fn openssl_serves_and_connects_with_a_key_in_the_tpm() {
    let Some(machine) = Machine::new() else { return };
    let port = free_port();
    let [certificate, key, bundle] =
        ["svid.pem", "svid.key", "bundle.pem"].map(|name| machine.path(name));
    let mut command = machine.command("openssl");
    command.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")]);
    command.args(["-cert", text(&certificate), "-key", text(&key), "-CAfile", text(&bundle)]);
    command.args(["-Verify", "1", "-verify_return_error"]).stdout(Stdio::null());
    let mut daemon = Daemon::start(&mut command);
    daemon.until("s_server answers", || machine.request(port, "-tls1_3").is_ok());
    machine.request(port, "-tls1_2").unwrap();
}

#[test]
fn nginx_and_curl_use_a_key_in_the_tpm() {
    let Some(nginx) = server("nginx") else { return };
    if !is_root("an nginx with workers that may use the TPM") {
        return;
    }
    let Some(machine) = Machine::new() else { return };
    let [certificate, key, bundle] =
        ["svid.pem", "svid.key", "bundle.pem"].map(|name| machine.path(name));
    let (port, config) = (free_port(), machine.path("nginx.conf"));
    let variables: String =
        machine.environment.iter().map(|(name, _)| format!("env {name};\n")).collect();
    let own = configuration(&machine.path(""), text(&machine.path("svid")), port);
    let verified = format!(
        "ssl_protocols TLSv1.2 TLSv1.3; ssl_verify_client on; ssl_client_certificate {};",
        text(&bundle)
    );
    let own = own.replace("ssl_session_cache off;", &format!("ssl_session_cache off; {verified}"));
    fs::write(&config, format!("user root;\n{variables}{own}")).unwrap();
    let mut command = machine.command(nginx);
    let mut daemon = Daemon::start(command.args(["-c", text(&config)]));
    daemon.until("nginx answers", || machine.request(port, "-tls1_3").is_ok());

    let url = format!("https://localhost:{port}/");
    let curl = |arguments: &[&str]| {
        let mut command = machine.command("curl");
        command.args(["-sS", "--ipv4", "--cacert", text(&bundle), &url]).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said + &String::from_utf8_lossy(&output.stderr)
    };
    let shown = ["--cert", text(&certificate), "--key", text(&key)];
    for version in [["--tls-max", "1.3"], ["--tls-max", "1.2"]] {
        assert_eq!(curl(&[&shown[..], &version].concat()), "page served");
    }
    let refused = curl(&[]);
    assert!(refused.contains("No required SSL certificate"), "{refused}");
}

#[test]
fn postgresql_and_libpq_use_a_key_in_the_tpm() {
    if !is_root("a PostgreSQL of another user") {
        return;
    }
    let Some(machine) = Machine::new() else { return };
    let [certificate, key, cas] =
        ["svid.pem", "svid.key", "bundle.pem"].map(|name| machine.path(name));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    // Both ends have the key of the same TPM; each its own copy of the file, which others must not read.
    let own_key = machine.path("postgres.key");
    fs::copy(&key, &own_key).unwrap();
    fs::set_permissions(&own_key, Permissions::from_mode(0o600)).unwrap();
    chown(&own_key, Some(NOBODY), Some(NOBODY)).unwrap();
    let own = Pem { certificate: &certificate, key: &own_key, cas: &cas };
    let (data, user) = (machine.path("data"), "app");
    let started = Postgres::start_with(&data, user, &own, &machine.environment);
    let Some(mut postgres) = started else { return };
    let target = |key: &Path| {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user={user} \
             sslmode=verify-full sslcert={} sslkey={} sslrootcert={}",
            postgres.port,
            text(&certificate),
            text(key),
            text(&cas)
        )
    };
    let target = target(&key);
    let ask = || {
        let mut command = machine.command("psql");
        command.args([&target, "--no-psqlrc", "-Atc", "select current_user"]).output().unwrap()
    };
    postgres.daemon.until("PostgreSQL answers", || ask().status.success());
    assert_eq!(ask().stdout, b"app\n");
}
