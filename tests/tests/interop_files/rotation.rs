//! nginx, sshd and PostgreSQL with what a real authority issues to a real daemon, while it rotates.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use agent::config::{Account, Reader};
use anyhow::{Context, Result, ensure};
use testkit::child::Guarded;
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::world::{BOT, World};

use super::cluster::Cluster;
use super::nginx::{Check, configuration, request};
use super::postgresql::{Pem, Postgres};
use super::{Daemon, free_port, is_root, run, server, succeed, text};

const ROTATIONS: usize = 6;

/// What the daemon keeps fresh, in a directory that others can enter.
struct Kept {
    directory: tempfile::TempDir,
}

impl Kept {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        text(&self.path(name)).to_owned()
    }

    fn configuration(&self, world: &World, tpm: &str) -> String {
        let at = |name: &str| self.file(name);
        format!(
            "proxy_server: {}\nonboarding: {{token: t, ca_pins: [\"{}\"]}}\nstorage: {}\n\
             tpm: {{address: \"{tpm}\"}}\nservices:\n\
             - {{type: x509, name: web, destination: {}, reload: {{signal: HUP, pid_file: {}}}}}\n\
             - {{type: identity, name: id, destination: {}}}\n",
            world.address(),
            world.pin(),
            at("bot"),
            at("web"),
            at("nginx.pid"),
            at("id"),
        )
    }
}

fn sshd(kept: &Kept, port: u16) -> Option<Daemon> {
    let sshd = server("sshd")?;
    fs::create_dir_all("/run/sshd").unwrap();
    let (host, config) = (kept.file("host"), kept.path("sshd_config"));
    succeed("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", &host]);
    let written = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {host}\nTrustedUserCAKeys {}\nStrictModes no\n\
         AuthenticationMethods publickey\nPermitRootLogin yes\nUsePAM no\nPidFile none\n",
        kept.file("bot/sshcacerts")
    );
    fs::write(&config, written).unwrap();
    Some(Daemon::start(Command::new(sshd).args(["-D", "-e", "-f", text(&config)])))
}

fn log_in(kept: &Kept, port: u16) -> Result<()> {
    let key = fs::read_to_string(kept.path("host.pub"))?;
    fs::write(kept.path("known"), format!("[localhost]:{port} {key}"))?;
    let options = [
        format!("UserKnownHostsFile={}", kept.file("known")),
        "StrictHostKeyChecking=yes".into(),
        "BatchMode=yes".into(),
        "IdentitiesOnly=yes".into(),
        format!("CertificateFile={}", kept.file("id/key-cert.pub")),
    ];
    let (key, port) = (kept.file("id/key"), port.to_string());
    let mut arguments = vec!["-F", "none", "-i", &key, "-p", &port];
    arguments.extend(options.iter().flat_map(|option| ["-o", option.as_str()]));
    let said = run("ssh", &[&arguments[..], &["root@localhost", "echo", "logged in"]].concat());
    ensure!(said.stdout == b"logged in\n", "{}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

/// A server with a certificate of its own, which knows the users of the cluster whose CAs are in `bundle`.
fn postgres(own: &Cluster, bundle: &Path, user: &str) -> Option<Postgres> {
    let directory = own.directory("server", &[Reader::User(Account::Id(65534))]);
    let set = own.x509("localhost").with("bundle.pem", fs::read(bundle).unwrap());
    directory.lock().unwrap().write(&set).unwrap();
    let [certificate, key, cas] =
        ["svid.pem", "svid.key", "bundle.pem"].map(|name| directory.path().join(name));
    let pem = Pem { certificate: &certificate, key: &key, cas: &cas };
    Postgres::start(&own.path("data"), user, &pem)
}

#[test]
fn rotating_credentials_serve_tls_and_log_in() -> Result<()> {
    if !is_root("an sshd") {
        return Ok(());
    }
    let Some(nginx) = server("nginx") else { return Ok(()) };
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
    let world = World::new(programs!())?;
    world.create(&format!(
        "kind: bot\nversion: v1\nmetadata:\n  name: {BOT}\nspec:\n  roles: []\n  \
         traits:\n    - {{name: logins, values: [root]}}\n"
    ))?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    let kept = Kept { directory: tempfile::tempdir()? };
    fs::set_permissions(kept.path(""), fs::Permissions::from_mode(0o755))?;
    let config = kept.configuration(&world, &swtpm.tcti());
    fs::write(world.path("tbot.yaml"), &config)?;
    // The first files, before a server uses them: there is nothing to reload yet.
    let reload = format!(", reload: {{signal: HUP, pid_file: {}}}", kept.file("nginx.pid"));
    let first = format!("{}oneshot: true\n", config.replace(&reload, ""));
    fs::write(world.path("first.yaml"), first)?;
    world.agent(&["start", "-c", "first.yaml"])?.success()?;

    let [web, ssh] = [(); 2].map(|()| free_port());
    let bundle = kept.path("web/bundle.pem");
    let certificate = kept.file("web/svid");
    fs::write(kept.path("nginx.conf"), configuration(&kept.path(""), &certificate, web))?;
    let mut served = Daemon::start(Command::new(nginx).args(["-c", &kept.file("nginx.conf")]));
    served.until("nginx answers", || request(web, &bundle, Check::Chain).is_ok());
    let Some(mut sshd) = sshd(&kept, ssh) else { return Ok(()) };
    sshd.until("sshd listens", || TcpStream::connect(("127.0.0.1", ssh)).is_ok());

    let user = format!("bot-{BOT}");
    let own = Cluster::new();
    let Some(mut postgres) = postgres(&own, &bundle, &user) else { return Ok(()) };
    let shown = Pem {
        certificate: &kept.path("web/svid.pem"),
        key: &kept.path("web/svid.key"),
        cas: &own.path("ca.pem"),
    };
    let query = || shown.ask(postgres.port, &user, "verify-full");
    postgres.daemon.until("PostgreSQL answers", || query().status.success());

    let log = fs::File::create(world.path("agent.log"))?;
    let mut command = world.agent_command(&["start", "-c", "tbot.yaml"]);
    let daemon = Guarded::spawn(command.stderr(log), None)?;
    let logged = |words: &str| {
        let log = fs::read_to_string(world.path("agent.log")).unwrap_or_default();
        log.matches(words).count()
    };
    served.until("the daemon is ready", || logged("all credentials are valid") == 1);
    let (done, requests) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut seen = vec![request(web, &bundle, Check::Chain).map_err(anyhow::Error::msg)?];
    thread::scope(|scope| -> Result<()> {
        let client = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                request(web, &bundle, Check::Chain)?;
                requests.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), String>(())
        });
        let mut rotate = |rotation: usize| -> Result<()> {
            succeed("sh", &["-c", "kill -USR1 \"$1\"", "kill", &daemon.id().to_string()]);
            for service in ["web", "id"] {
                let issued = format!("issued name={service}");
                served.until(&issued, || logged(&issued) == rotation);
            }
            served.until("the new certificate is served", || {
                request(web, &bundle, Check::Chain).is_ok_and(|now| !seen.contains(&now))
            });
            seen.push(request(web, &bundle, Check::Chain).map_err(anyhow::Error::msg)?);
            let said = query();
            let error = String::from_utf8_lossy(&said.stderr);
            ensure!(said.stdout == format!("{user}\n").as_bytes(), "PostgreSQL: {error}");
            log_in(&kept, ssh)
        };
        let rotated = (1..=ROTATIONS).try_for_each(&mut rotate);
        done.store(true, Ordering::Relaxed);
        client.join().ok().context("a client panics")?.map_err(anyhow::Error::msg)?;
        rotated
    })?;
    println!("{ROTATIONS} rotations, {requests:?} requests, none failed");
    ensure!(requests.into_inner() > 8 && logged(" WARN ") == 0);
    Ok(())
}
