//! A host whose configuration has no pin joins an authority with a public name, which a CA of the system vouches for. A private
//! root in `SSL_CERT_FILE` stands for a public CA.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::world::{Said, World, run};

/// Teleport's guide, with a name and a token filled in.
const GUIDE: &str = "version: v2
proxy_server: ADDRESS
onboarding:
  join_method: tpm
  token: my-bot-token
storage:
  type: directory
  path: /var/lib/teleport/bot
# outputs will be filled in during the completion of an access guide.
outputs: []
";

fn openssl(arguments: &str) -> Result<()> {
    run("openssl", &arguments.split(' ').collect::<Vec<_>>()).map(drop)
}

/// A root, an intermediate CA, and a server's certificate for `localhost`, in `directory`.
fn public_pki(directory: &Path) -> Result<()> {
    let at = |name: &str| directory.join(name).display().to_string();
    fs::write(directory.join("ca.ext"), "basicConstraints=critical,CA:TRUE\n")?;
    let leaf = "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n";
    fs::write(directory.join("leaf.ext"), leaf)?;
    for name in ["root", "issuer", "leaf", "other"] {
        let (key, request) = (at(&format!("{name}.key")), at(&format!("{name}.csr")));
        openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {key}"))?;
        openssl(&format!("req -new -key {key} -subj /CN={name} -out {request}"))?;
    }
    let sign = |name: &str, by: &str, extensions: &str| {
        let by = match by {
            "" => format!("-key {}", at(&format!("{name}.key"))),
            by => format!("-CA {0}.pem -CAkey {0}.key -CAcreateserial", at(by)),
        };
        let (of, extensions) = (at(name), at(extensions));
        openssl(&format!(
            "x509 -req -in {of}.csr {by} -days 2 -sha256 -extfile {extensions} -out {of}.pem"
        ))
    };
    sign("root", "", "ca.ext")?;
    sign("other", "", "ca.ext")?;
    sign("issuer", "root", "ca.ext")?;
    sign("leaf", "issuer", "leaf.ext")?;
    let read = |name: &str| fs::read_to_string(directory.join(name));
    Ok(fs::write(directory.join("chain.pem"), read("leaf.pem")? + &read("issuer.pem")?)?)
}

/// An authority with a public name, whose certificate is in `pki`, and a host with a TPM that it lets in.
struct Site {
    world: World,
    tpm: Swtpm,
}

impl Site {
    fn new(pki: &Path) -> Result<Self> {
        let mut world = World::absent(programs!())?;
        let config = format!(
            "public_addr: localhost\nhttps_keypairs:\n  - cert_file: {}\n    key_file: {}\n",
            pki.join("chain.pem").display(),
            pki.join("leaf.key").display()
        );
        fs::write(world.path("authority.yaml"), config)?;
        world.start(&["-c", "authority.yaml"])?;
        world.create_bot()?;
        let tpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
        world.allow("my-bot-token", &world.rule(&tpm.tcti())?, &[])?;
        let site = Self { world, tpm };
        site.configure(&site.address()?)?;
        Ok(site)
    }

    fn address(&self) -> Result<String> {
        let (_, port) = self.world.address().rsplit_once(':').context("no port")?;
        Ok(format!("localhost:{port}"))
    }

    fn configure(&self, address: &str) -> Result<()> {
        let text = GUIDE.replace("ADDRESS", address);
        fs::write(self.world.path("tbot.yaml"), &text)?;
        // The doctor looks at what the file says alone.
        let storage = self.world.path("bot").display().to_string();
        let text = text.replace("/var/lib/teleport/bot", &storage);
        Ok(fs::write(self.world.path("doctor.yaml"), text)?)
    }

    /// A command of the agent on this host, whose system trusts the CAs in a file.
    fn agent(&self, arguments: &[&str], roots: &Path) -> Result<Said> {
        let mut command = self.world.agent_command(arguments);
        command.env("SSL_CERT_FILE", roots).env("AGENT_TPM", self.tpm.tcti());
        command.env("AGENT_STORAGE", self.world.path("bot"));
        Said::by(&mut command)
    }

    fn run_once(&self, roots: &Path) -> Result<Said> {
        self.agent(&["start", "-c", "tbot.yaml", "--oneshot"], roots)
    }
}

#[test]
fn guides_file_without_a_pin_is_valid_and_joins_by_the_systems_cas() -> Result<()> {
    let pki = tempfile::tempdir()?;
    public_pki(pki.path())?;
    let site = Site::new(pki.path())?;
    let root = pki.path().join("root.pem");
    let trust = format!("the system's 1 CA in {}", root.display());

    let check = site.agent(&["check", "-c", "tbot.yaml"], &root)?.success()?;
    ensure!(
        check.contains(&format!("Trusted by:   {trust}, until the host has joined")),
        "{check}"
    );

    // A place without a CA is named, though another has one.
    let certs = pki.path().join("certs");
    fs::create_dir(&certs)?;
    fs::copy(&root, certs.join("root.pem"))?;
    let missing = pki.path().join("missing.pem");
    let mut check = site.world.agent_command(&["check", "-c", "tbot.yaml"]);
    check.env("AGENT_TPM", site.tpm.tcti()).env("AGENT_STORAGE", site.world.path("bot"));
    check.env("SSL_CERT_FILE", &missing).env("SSL_CERT_DIR", &certs);
    let check = Said::by(&mut check)?.success()?;
    let warning = format!("names no CA certificate: {}: ", missing.display());
    ensure!(check.contains(&warning) && check.contains("the system's 1 CA"), "{check}");

    // Another CA than the server's: nothing is stored, and the advice names the ways out.
    let other = pki.path().join("other.pem");
    let refused = site.run_once(&other)?;
    ensure!(refused.code == Some(69), "{refused:?}");
    ensure!(refused.err.contains("no CA that this system trusts"), "{}", refused.err);
    ensure!(refused.err.contains("SSL_CERT_FILE"), "{}", refused.err);
    ensure!(!site.world.path("bot/identity.json").exists());

    // An honest host leaves no refusal in the audit log, though it finds out the protocol without a certificate.
    let seen = site.agent(&["doctor", "-c", "doctor.yaml"], &root)?.out;
    ensure!(seen.contains(&trust), "{seen}");
    site.run_once(&root)?.success()?;
    site.world.granted()?;
    let storage = site.world.path("bot").display().to_string();
    let status = site.agent(&["status", "--storage", &storage], &root)?.success()?;
    ensure!(status.contains(&format!("at the join by {trust}")), "{status}");
    ensure!(status.contains(site.world.pin()), "{status}");

    // A host that has joined needs the trust bundle alone.
    let whoami = ["whoami", "--storage", &storage, "--tpm", &site.tpm.tcti()];
    site.agent(&whoami, &other)?.success()?;
    let seen = site.agent(&["doctor", "-c", "doctor.yaml"], &root)?.out;
    ensure!(seen.contains(&format!("trusted by {trust}, and by the trust bundle")), "{seen}");
    let seen = site.agent(&["doctor", "-c", "doctor.yaml"], &other)?.out;
    ensure!(seen.contains("no CA that this system trusts"), "{seen}");
    ensure!(seen.contains("renewals work, since the trust bundle has its CA"), "{seen}");
    Ok(())
}

/// `agent join` has the rules of the file: only an address of a server with a public name needs no CA.
#[test]
fn join_without_a_pin_is_authenticated_by_the_systems_cas() -> Result<()> {
    let pki = tempfile::tempdir()?;
    public_pki(pki.path())?;
    let site = Site::new(pki.path())?;
    let (address, storage) = (site.address()?, site.world.path("joined").display().to_string());
    let join = |server: &str, more: &[&str], roots: &str| {
        let arguments = ["join", server, &address, "--token", "my-bot-token"];
        let storage = ["--storage", &storage];
        site.agent(&[&arguments[..], &storage, more].concat(), &pki.path().join(roots))
    };

    let refused = join("--auth-server", &[], "root.pem")?;
    let [message, advice] = refused.failure(64)?;
    ensure!(message.contains("no CA of the authority is given"), "{message}");
    ensure!(advice.contains("--ca-pin") && advice.contains("--authority"), "{advice}");
    let refused = join("--proxy-server", &[], "other.pem")?;
    ensure!(refused.failure(69)?[0].contains("no CA that this system trusts"), "{refused:?}");
    ensure!(!Path::new(&storage).join("identity.json").exists());

    for protocol in ["teleport", "endorse"] {
        join("--proxy-server", &["--protocol", protocol], "root.pem")?.success()?;
        let root = pki.path().join("root.pem");
        let status = site.agent(&["status", "--storage", &storage], &root)?.success()?;
        let trust = format!("at the join by the system's 1 CA in {}", root.display());
        ensure!(status.contains(&trust), "{status}");
        ensure!(status.contains(&format!("Protocol:    {protocol}\n")), "{status}");
    }
    let pin = site.world.pin().to_owned();
    join("--auth-server", &["--ca-pin", &pin], "other.pem")?.success()?;
    Ok(())
}

/// Another authority with a certificate for the same name is not the one that the host has joined.
#[test]
fn public_certificate_is_not_enough_after_the_join() -> Result<()> {
    let pki = tempfile::tempdir()?;
    public_pki(pki.path())?;
    let (site, impostor) = (Site::new(pki.path())?, Site::new(pki.path())?);
    let root = pki.path().join("root.pem");
    site.run_once(&root)?.success()?;

    site.configure(&impostor.address()?)?;
    let seen = site.agent(&["doctor", "-c", "doctor.yaml"], &root)?;
    ensure!(seen.out.contains("a join would trust the server, but a renewal does not"), "{seen:?}");
    ensure!(seen.out.contains("also for the server name authority.endorse.internal"), "{seen:?}");
    ensure!(seen.code == Some(69), "{seen:?}");
    Ok(())
}
