//! What an agent of Teleport gets, taken apart by OpenSSL and ssh-keygen: the identity of a bot, and what it asks for an
//! output. The tables have a line for each field that Teleport's certificates can have; those that are absent here say why.

use std::path::Path;
use std::process::Command;

use base64ct::{Base64, Encoding};
use proto::teleport::legacy::UserCertsRequest;
use proto::teleport::legacy::auth_service_client::AuthServiceClient;
use testkit::forge::Ca;
use testkit::simulated::teleport::Certificates;
use testkit::simulated::{SoftwareTpm, TeleportHost};
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::harness::{Harness, run};
use super::protocols::Protocol;
use super::teleport::{identity, join};

/// Whose certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// Those of a join.
    Identity,
    /// Those that the bot asks for an output, with one of its roles.
    Output,
}

/// Where a field is.
enum In {
    /// In both, with this value.
    Both(&'static str),
    /// In an identity and in an output's certificate, with these values.
    Each(&'static [&'static str], &'static [&'static str]),
    /// In none, for this reason.
    No(&'static str),
}
use In::{Both, Each, No};

impl In {
    fn values(&self, of: Of) -> Vec<&'static str> {
        match (self, of) {
            (Both(value), _) => vec![*value],
            (Each(identity, _), Of::Identity) => identity.to_vec(),
            (Each(_, output), Of::Output) => output.to_vec(),
            (No(reason), _) => {
                assert!(!reason.is_empty());
                Vec::new()
            }
        }
    }
}

const NO_APPLICATIONS: &str = "the cluster has no applications, databases, desktops or Kubernetes";
const NO_CLOUD: &str = "the cluster has no accounts of clouds";
const NO_LOGIN: &str = "a bot does not log in as a person does";
const NO_ACCESS_REQUESTS: &str = "the cluster has no access requests";
const NO_DEVICES: &str = "the cluster has no device trust";
const RENEWABLE: &str = "a client would renew by another call than a join";
const NOT_CLAIMED: &str = "the key's protection is not proven";

/// Stands for the instance's ID.
const INSTANCE: &str = "<instance>";

/// Stands for the hash of the endorsement key.
const EK: &str = "<EK>";

const TRAITS: &str = r#"{"logins":["root"],"team":["a"]}"#;

const JOIN_ATTRIBUTES: &str = r#"{"meta":{"join_method":"tpm","join_token_name":"t"},"tpm":{"ek_pub_hash":"<EK>","ek_cert_serial":"5e:cd:5f:8e","ek_cert_verified":true}}"#;

/// The attributes of the subject: those of X.520, and those of Teleport, which are attributes and no extensions.
const ATTRIBUTES: [(&str, &str, In); 50] = [
    ("2.5.4.10", "O: the roles", Each(&["access", "dev"], &["dev"])),
    ("2.5.4.3", "CN: the user", Both("bot-my-bot")),
    ("2.5.4.11", "OU: usage", No("the certificate is not limited to a kind of service")),
    ("2.5.4.7", "L: a login", Both("root")),
    ("2.5.4.9", "STREET: the cluster that requests are routed to", Both("test.example")),
    ("2.5.4.17", "POSTALCODE: traits", Both(TRAITS)),
    ("1.3.9999.1.1", "Kubernetes users", No(NO_APPLICATIONS)),
    ("1.3.9999.1.2", "Kubernetes groups", No(NO_APPLICATIONS)),
    ("1.3.9999.1.3", "Kubernetes cluster", No(NO_APPLICATIONS)),
    ("1.3.9999.1.4", "application session", No(NO_APPLICATIONS)),
    ("1.3.9999.1.5", "application cluster", No(NO_APPLICATIONS)),
    ("1.3.9999.1.6", "application address", No(NO_APPLICATIONS)),
    ("1.3.9999.1.7", "cluster", Both("test.example")),
    ("1.3.9999.1.8", "second factor", No(NO_LOGIN)),
    ("1.3.9999.1.9", "login address", No(NO_LOGIN)),
    ("1.3.9999.1.10", "application name", No(NO_APPLICATIONS)),
    ("1.3.9999.1.11", "application AWS role", No(NO_CLOUD)),
    ("1.3.9999.1.12", "AWS roles", No(NO_CLOUD)),
    ("1.3.9999.1.13", "renewable", No(RENEWABLE)),
    ("1.3.9999.1.14", "generation", Each(&["1"], &[])),
    ("1.3.9999.1.15", "private key policy", No(NOT_CLAIMED)),
    ("1.3.9999.1.16", "Azure identity", No(NO_CLOUD)),
    ("1.3.9999.1.17", "Azure identities", No(NO_CLOUD)),
    ("1.3.9999.1.18", "GCP account", No(NO_CLOUD)),
    ("1.3.9999.1.19", "GCP accounts", No(NO_CLOUD)),
    ("1.3.9999.1.20", "type of user", No(NO_LOGIN)),
    ("1.3.9999.2.1", "database service", No(NO_APPLICATIONS)),
    ("1.3.9999.2.2", "database protocol", No(NO_APPLICATIONS)),
    ("1.3.9999.2.3", "database user", No(NO_APPLICATIONS)),
    ("1.3.9999.2.4", "database", No(NO_APPLICATIONS)),
    ("1.3.9999.2.5", "databases", No(NO_APPLICATIONS)),
    ("1.3.9999.2.6", "database users", No(NO_APPLICATIONS)),
    ("1.3.9999.2.7", "impersonator", Each(&[], &["bot-my-bot"])),
    ("1.3.9999.2.8", "access requests", No(NO_ACCESS_REQUESTS)),
    ("1.3.9999.2.9", "disallow reissue", Each(&[], &["true"])),
    ("1.3.9999.2.10", "allowed resources", No(NO_ACCESS_REQUESTS)),
    ("1.3.9999.2.11", "system roles", No("a bot is no server of the cluster")),
    ("1.3.9999.2.12", "end of the previous identity", No(NO_LOGIN)),
    ("1.3.9999.2.13", "connection diagnostic", No(NO_APPLICATIONS)),
    ("1.3.9999.2.14", "type of licence", No("the cluster has no licence")),
    ("1.3.9999.2.15", "pinned address", No("the certificate is not bound to an address")),
    ("1.3.9999.2.16", "create Windows user", No(NO_APPLICATIONS)),
    ("1.3.9999.2.17", "limit of desktops", No(NO_APPLICATIONS)),
    ("1.3.9999.2.18", "bot", Both("my-bot")),
    ("1.3.9999.2.19", "database roles", No(NO_APPLICATIONS)),
    ("1.3.9999.2.20", "bot instance", Both(INSTANCE)),
    ("1.3.9999.2.21", "join attributes", Both(JOIN_ATTRIBUTES)),
    ("1.3.9999.3.1", "device", No(NO_DEVICES)),
    ("1.3.9999.3.2", "asset tag of the device", No(NO_DEVICES)),
    ("1.3.9999.3.3", "credential of the device", No(NO_DEVICES)),
];

/// The extensions of the SSH certificate.
const SSH_EXTENSIONS: [(&str, In); 28] = [
    ("permit-pty", Both("")),
    ("permit-port-forwarding", Both("")),
    ("permit-agent-forwarding", No("a bot has no agent to forward")),
    ("permit-X11-forwarding", No("a bot has no display")),
    ("bot-name@goteleport.com", Both("my-bot")),
    ("bot-instance-id@goteleport.com", Both(INSTANCE)),
    ("teleport-roles", Each(&[r#"{"roles":["access","dev"]}"#], &[r#"{"roles":["dev"]}"#])),
    ("teleport-traits", Both(TRAITS)),
    ("teleport-route-to-cluster", Both("test.example")),
    ("generation", Each(&["1"], &[])),
    ("impersonator", Each(&[], &["bot-my-bot"])),
    ("disallow-reissue", Each(&[], &[""])),
    ("renewable", No(RENEWABLE)),
    ("private-key-policy", No(NOT_CLAIMED)),
    ("login-ip", No(NO_LOGIN)),
    ("mfa-verified", No(NO_LOGIN)),
    ("prev-identity-expires", No(NO_LOGIN)),
    ("delegation-session-id@goteleport.com", No(NO_LOGIN)),
    ("github-id@goteleport.com", No(NO_LOGIN)),
    ("github-login@goteleport.com", No(NO_LOGIN)),
    ("teleport-active-requests", No(NO_ACCESS_REQUESTS)),
    ("teleport-allowed-resources", No(NO_ACCESS_REQUESTS)),
    ("teleport-connection-diagnostic-id", No(NO_APPLICATIONS)),
    ("teleport-device-id", No(NO_DEVICES)),
    ("teleport-device-asset-tag", No(NO_DEVICES)),
    ("teleport-device-credential-id", No(NO_DEVICES)),
    ("permit-user-rc", No("no session of a bot runs the files of a user")),
    ("no-touch-required", No("the key is not on a security key")),
];

/// The X.509v3 extensions, and no others.
const X509_EXTENSIONS: [(&str, &str); 4] = [
    ("X509v3 Basic Constraints: critical", "CA:FALSE"),
    // Teleport has keyEncipherment too, for the exchange of keys by RSA, which TLS here does not know.
    ("X509v3 Key Usage: critical", "Digital Signature"),
    ("X509v3 Extended Key Usage:", "TLS Web Client Authentication, TLS Web Server Authentication"),
    // Teleport has none. The name serves software that knows SPIFFE.
    ("X509v3 Subject Alternative Name:", "URI:spiffe://test.example/bot/my-bot"),
];

const BOT: &str = "\
kind: bot
version: v1
metadata: {name: my-bot}
spec:
  roles: [access, dev]
  traits:
    - {name: logins, values: [root]}
    - {name: team, values: [a]}
";

/// A directory with what was issued, and what is known besides.
struct Issued<'d> {
    dir: &'d Path,
    of: Of,
    instance: String,
    ek_hash: String,
}

/// In seconds since 1970.
#[derive(Debug, PartialEq, Eq)]
struct Dates {
    not_before: i64,
    not_after: i64,
}

impl<'d> Issued<'d> {
    /// Writes certificates, the CAs that came with them, and the key that was sent, as files for the tools.
    fn write(dir: &'d Path, protocol: Protocol, made: &Certificates, host: &TeleportHost<'_>) {
        let is_text = protocol == Protocol::Legacy;
        let file = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
        let line = |kind: &str, bytes: &[u8]| match is_text {
            true => bytes.to_vec(),
            false => format!("{kind} {}\n", Base64::encode_string(bytes)).into_bytes(),
        };
        file("leaf", &made.tls);
        let [ca] = made.tls_cas.as_slice() else { panic!("{} CAs", made.tls_cas.len()) };
        file("ca", ca);
        // The first has signed the certificate; the other signs those of hosts.
        let [ssh_ca, _] = made.ssh_cas.as_slice() else { panic!("{} CAs", made.ssh_cas.len()) };
        file("ssh-ca.pub", &line("ecdsa-sha2-nistp256", ssh_ca));
        file("leaf-cert.pub", &line("ecdsa-sha2-nistp256-cert-v01@openssh.com", &made.ssh));
        let sent = host.legacy_init("t").join_request.unwrap();
        file("key.pem", &sent.public_tls_key);
        file("key.pub", &sent.public_ssh_key);
        run(Command::new("openssl").current_dir(dir).args(["x509", "-in", "ca", "-out", "ca.pem"]));
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        let said = run(command.current_dir(self.dir).env("TZ", "UTC").args(arguments));
        String::from_utf8(said).unwrap()
    }

    /// A certificate as OpenSSL prints it.
    fn x509(&self, file: &str, what: &[&str]) -> String {
        self.tool("openssl", &[&["x509", "-noout", "-in", file][..], what].concat())
    }

    /// One line of that, after its `=`.
    fn x509_line(&self, what: &str) -> String {
        let said = self.x509("leaf", &[what, "-dateopt", "iso_8601"]);
        said.trim().split_once('=').unwrap().1.to_owned()
    }

    /// A value of the tables with what it stands for.
    fn meant(&self, value: &str) -> String {
        value.replace(INSTANCE, &self.instance).replace(EK, &self.ek_hash)
    }

    fn assert_subject(&self) {
        let form = ["-nameopt", "sep_multiline,oid,show_type"];
        let said = self.x509("leaf", &[&["-subject"][..], &form].concat());
        let mut found: Vec<_> = said.lines().skip(1).map(|line| line.trim().to_owned()).collect();
        let mut expected = Vec::new();
        for (attribute, what, is_in) in &ATTRIBUTES {
            for value in is_in.values(self.of) {
                expected.push(format!("{attribute}=UTF8STRING:{}", self.meant(value)));
            }
            assert!(!what.is_empty());
        }
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{:?}", self.of);
    }

    fn assert_extensions(&self) {
        let said = self.x509("leaf", &["-text", "-certopt", "no_subject,no_pubkey,no_sigdump"]);
        let (_, all) = said.split_once("X509v3 extensions:\n").unwrap();
        let lines: Vec<_> = all.lines().map(str::trim).collect();
        let found: Vec<_> = lines.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let identifiers = ["X509v3 Subject Key Identifier:", "X509v3 Authority Key Identifier:"];
        let (named, found): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(name, _)| identifiers.contains(name));
        assert_eq!(named.len(), 2, "{said}");
        assert_eq!(found, X509_EXTENSIONS);
        // Teleport's types are of attributes, and of no extension.
        assert!(!said.contains("1.3.9999"), "{said}");
    }

    /// The issuer, whose organization is the cluster for Teleport's clients, and the key.
    fn assert_issuer_and_key(&self) {
        let form = ["-nameopt", "sep_multiline,sname"];
        let issuer = self.x509("leaf", &[&["-issuer"][..], &form].concat());
        let subject = self.x509("ca", &[&["-subject"][..], &form].concat());
        let name = |said: &str| said.lines().skip(1).map(|line| line.trim().to_owned()).collect();
        let (issuer, subject): (Vec<String>, Vec<String>) = (name(&issuer), name(&subject));
        assert_eq!(issuer, subject);
        assert_eq!(issuer[0], "O=test.example");
        let key = std::fs::read_to_string(self.dir.join("key.pem")).unwrap();
        assert_eq!(self.x509("leaf", &["-pubkey"]), key, "the key that the host sent");
        let ca = self.x509("ca", &["-ext", "basicConstraints,keyUsage"]);
        assert!(ca.contains("CA:TRUE") && ca.contains("Certificate Sign, CRL Sign"), "{ca}");
        for purpose in ["sslclient", "sslserver"] {
            let chain =
                ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", "leaf"];
            assert_eq!(self.tool("openssl", &chain), "leaf: OK\n");
        }
    }

    fn dates(&self) -> Dates {
        let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
        let date = |what: &str| {
            let text = self.x509_line(what);
            PrimitiveDateTime::parse(&text, form).unwrap().assume_utc().unix_timestamp()
        };
        Dates { not_before: date("-startdate"), not_after: date("-enddate") }
    }

    /// All that `ssh-keygen -L` prints.
    fn assert_ssh(&self) {
        let fingerprint = |file: &str| {
            let said = self.tool("ssh-keygen", &["-lf", file]);
            said.split(' ').nth(1).unwrap().to_owned()
        };
        let serial = self.x509_line("-serial");
        assert_eq!(serial.len(), 32, "128 bits: {serial}");
        let date = |what: &str| self.x509_line(what).replace(' ', "T").replace('Z', "");
        let mut extensions: Vec<_> = SSH_EXTENSIONS
            .iter()
            .flat_map(|(name, is_in)| {
                is_in.values(self.of).into_iter().map(|value| listed(name, &self.meant(value)))
            })
            .collect();
        extensions.sort();
        let expected = [
            "leaf-cert.pub:".to_owned(),
            "Type: ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate".to_owned(),
            format!("Public key: ECDSA-CERT {}", fingerprint("key.pub")),
            format!("Signing CA: ECDSA {} (using ecdsa-sha2-nistp256)", fingerprint("ssh-ca.pub")),
            "Key ID: \"bot-my-bot\"".to_owned(),
            // The last half of the other certificate's.
            format!("Serial: {}", u64::from_str_radix(&serial[16..], 16).unwrap()),
            format!("Valid: from {} to {}", date("-startdate"), date("-enddate")),
            "Principals:".to_owned(),
            "bot-my-bot".to_owned(),
            "root".to_owned(),
            "-teleport-internal-join".to_owned(),
            // Teleport's is source-address, where an address is pinned.
            "Critical Options: (none)".to_owned(),
            "Extensions:".to_owned(),
        ];
        let said = self.tool("ssh-keygen", &["-Lf", "leaf-cert.pub"]);
        let found: Vec<_> = said.lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(found, [&expected[..], &extensions].concat(), "{:?}", self.of);
    }

    fn assert_all(&self) -> Dates {
        self.assert_subject();
        self.assert_extensions();
        self.assert_issuer_and_key();
        self.assert_ssh();
        self.dates()
    }
}

/// An extension as `ssh-keygen -L` prints it: Teleport's are strings that it does not know, with their lengths.
fn listed(name: &str, value: &str) -> String {
    if name.starts_with("permit-") {
        return name.to_owned();
    }
    if value.is_empty() {
        return format!("{name} UNKNOWN FLAG OPTION");
    }
    let length = u32::try_from(value.len()).unwrap();
    let bytes = [&length.to_be_bytes(), value.as_bytes()].concat();
    let hex = base16ct::lower::encode_string(&bytes);
    format!("{name} UNKNOWN OPTION: {hex} (len {})", bytes.len())
}

/// The CA that came with the certificates vouches for the authority, under both names by which Teleport's clients ask for it.
fn assert_server(harness: &Harness, ca: &Path) {
    for name in ["teleport.cluster.local", "746573742e6578616d706c65.teleport.cluster.local"] {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-verify_return_error", "-alpn", "h2", "-CAfile"]).arg(ca);
        client.args(["-connect", &harness.address.to_string(), "-servername", name]);
        let said = run(client.args(["-verify_hostname", name]).stdin(std::process::Stdio::null()));
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("Verified peername: "), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_and_output_have_each_field_of_teleports_certificates_or_a_reason() {
    for protocol in [Protocol::Teleport, Protocol::Legacy] {
        let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
        let manufacturer = Ca::new("Some TPM CA");
        tpm.certify(&manufacturer, &[0x5e, 0xcd, 0x5f, 0x8e]);
        harness.create(BOT).await;
        let rules = "- ek_certificate_serial: \"5e:cd:5f:8e\"";
        harness.token("t", rules, &[&manufacturer.root().pem()]).await;
        let now = || harness.authority.clock.now().unix_timestamp();

        let host = TeleportHost::new(&tpm);
        let before = now();
        let made = join(protocol, &host, &harness.wire().await).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Issued::write(dir.path(), protocol, &made, &host);
        let instance = harness.instance().await.spec.instance_id.to_string();
        let of = |of, dir| Issued { dir, of, instance: instance.clone(), ek_hash: tpm.ek_hash() };
        let joined = of(Of::Identity, dir.path());
        let dates = joined.assert_all();
        // Six minutes back, and an hour on.
        assert!((before..=now()).contains(&(dates.not_before + 360)), "{dates:?}");
        assert_eq!(dates.not_after - dates.not_before, 3960);
        assert_server(&harness, &dir.path().join("ca.pem"));

        let leaf = joined.tool("openssl", &["x509", "-in", "leaf"]);
        let leaf = der::pem::decode_vec(leaf.as_bytes()).unwrap().1;
        let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
        let output = TeleportHost::new(&tpm);
        let keys = output.legacy_init("t").join_request.unwrap();
        let request = UserCertsRequest {
            username: "bot-my-bot".into(),
            route_to_cluster: "test.example".into(),
            role_requests: vec!["dev".into()],
            use_role_requests: true,
            ssh_public_key: keys.public_ssh_key,
            tls_public_key: keys.public_tls_key,
            ..UserCertsRequest::default()
        };
        let mut auth = AuthServiceClient::new(wire.channel.clone());
        let made = auth.generate_user_certs(request).await.unwrap().into_inner();
        let made = Certificates {
            tls: made.tls,
            tls_cas: made.tls_ca_certs,
            ssh: made.ssh,
            ssh_cas: made.ssh_ca_certs,
        };
        let dir = tempfile::tempdir().unwrap();
        Issued::write(dir.path(), Protocol::Legacy, &made, &output);
        let issued = of(Of::Output, dir.path()).assert_all();
        assert_eq!(issued.not_after, dates.not_after, "it ends with the identity");
        assert!((before..=now()).contains(&(issued.not_before + 360)), "{issued:?}");
    }
}
