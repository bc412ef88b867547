//! OpenSSH's server and client with what the agent has for them: keys on the sockets of its SSH agents, host certificates in files.

mod sshd;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use testkit::swtpm::{Kind, Swtpm};
use tests::host::{Host, until};
use tests::programs;
use tests::tpm::start;
use tests::world::{BOT, World, run};

use self::sshd::{Running, Sshd};

/// A user who may use no agent.
const STRANGER: u32 = 35;

/// Allows the host its names.
const SSHD: &str = "kind: workload_identity\nversion: v1\nmetadata: {name: sshd}\nspec:\n  bots: {labels: {\"*\": \"*\"}}\n  \
                    ssh: {host: {principals: [\"{{ user.bot_name }}\", \"{{ user.bot_name }}.example.org\"]}}\n";

/// A host with an SSH agent and host certificates, with keys in the TPM or not. `more` belongs to the service of the sshd.
fn host(swtpm: &Swtpm, key: &str, more: &str) -> Result<Host> {
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    host.world.create(SSHD)?;
    let [user, sshd, files] = ["run/user", "run/sshd", "host"].map(|name| host.path(name));
    let socket = match key {
        "tpm" => format!(", listen: \"unix://{}\"", sshd.display()),
        _ => String::new(),
    };
    host.configure(&format!(
        "  - {{type: ssh-agent, name: user, listen: \"unix://{}\", key: {key}}}\n  - {{type: ssh_host, name: sshd, principals: \
         [{BOT}, {BOT}.example.org], destination: {}, key: {key}{socket}{more}}}\n",
        user.display(),
        files.display()
    ))?;
    host.start()?;
    Ok(host)
}

/// Runs a program with an agent, as a user.
fn with_agent(socket: &Path, user: Option<u32>, words: &[&str]) -> Result<Output> {
    let mut command = match user {
        None => Command::new(words[0]),
        Some(user) => {
            let mut command = Command::new("setpriv");
            let user = user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", words[0]]);
            command
        }
    };
    Ok(command.args(&words[1..]).env("SSH_AUTH_SOCK", socket).output()?)
}

fn said(output: &Output) -> String {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{stdout}{stderr}")
}

/// The keys that an agent offers.
fn offered(socket: &Path) -> Result<String> {
    let listed = with_agent(socket, None, &["ssh-add", "-L"])?;
    ensure!(listed.status.success(), "{}", said(&listed));
    Ok(String::from_utf8(listed.stdout)?)
}

/// Lets other users pass through the directories of a path.
fn open_way(path: &Path) -> Result<()> {
    for directory in path.ancestors().skip(1) {
        let mode = fs::metadata(directory)?.permissions().mode();
        if mode & 0o005 != 0o005 {
            fs::set_permissions(directory, Permissions::from_mode(mode | 0o055))?;
        }
    }
    Ok(())
}

fn is_root(what: &str) -> Result<bool> {
    let is_root = run("id", &["-u"])?.trim() == "0";
    if !is_root {
        println!("skipped: {what} needs root");
    }
    Ok(is_root)
}

#[test]
fn login_needs_no_file_but_the_ca_and_no_key_outside_of_the_tpm() -> Result<()> {
    let Some(server) = Sshd::program()? else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let mut host = host(&swtpm, "tpm", "")?;
    host.wait_healthy()?;
    let user = host.path("run/user");
    ensure!(!host.path("host/ssh_host").exists(), "the private key in a file");

    let listed = offered(&user)?;
    let [certificate, key] = listed.lines().collect::<Vec<_>>()[..] else {
        anyhow::bail!("{listed}");
    };
    ensure!(certificate.starts_with("ecdsa-sha2-nistp256-cert-v01@openssh.com "), "{certificate}");
    ensure!(key.starts_with("ecdsa-sha2-nistp256 ") && key.ends_with(" user"), "{key}");
    let short = with_agent(&user, None, &["ssh-add", "-l"])?;
    assert_eq!(said(&short).matches("256 SHA256:").count(), 2, "{}", said(&short));
    for change in [&["-D"][..], &["-d", "-"], &["-x"]] {
        let mut words =
            vec!["sh", "-c", "echo \"$0\" | SSH_ASKPASS_REQUIRE=never ssh-add \"$@\"", key];
        words.extend(change);
        let changed = with_agent(&user, None, &words)?;
        ensure!(!changed.status.success(), "{change:?}: {}", said(&changed));
    }
    assert_eq!(offered(&user)?, listed);

    let sshd =
        Sshd::new(&host, server, &format!("HostKeyAgent {}\n", host.path("run/sshd").display()))?;
    let login = sshd.ssh(&user, BOT, &["echo", "logged", "in"])?;
    ensure!(login.status.success() && login.stdout == b"logged in\n", "{}", said(&login));
    // Another thread writes the log.
    host.until_logged("signed for SSH name=user", 1)?;
    host.until_logged("signed for SSH name=sshd", 1)?;
    // Under another name the certificate is not the host's.
    let other = sshd.ssh(&user, "other.example.org", &["true"])?;
    ensure!(said(&other).contains("Host key verification failed"), "{}", said(&other));

    let git = sshd.clone_repository(&user)?;
    ensure!(git.status.success(), "{}", said(&git));
    assert_eq!(fs::read_to_string(host.path("clone/file"))?, "content\n");
    let clone = host.path("clone").display().to_string();
    let key_of_git = format!("user.signingKey=key::{key}");
    let git = ["git", "-C", &clone, "-c", "user.name=x", "-c", "user.email=x@x"];
    let commit = [
        "-c",
        "gpg.format=ssh",
        "-c",
        &key_of_git,
        "commit",
        "-q",
        "--allow-empty",
        "-S",
        "-m",
        "x",
    ];
    let signed = with_agent(&user, None, &[&git[..], &commit].concat())?;
    ensure!(signed.status.success(), "{}", said(&signed));
    let commit = run("git", &["-C", &clone, "cat-file", "commit", "HEAD"])?;
    ensure!(commit.contains("-----BEGIN SSH SIGNATURE-----"), "{commit}");

    // The agent comes back with the same keys, at once for sshd.
    host.signal("TERM")?;
    host.ended()?;
    ensure!(!user.exists(), "the agent leaves its socket");
    host.start()?;
    host.wait_healthy()?;
    let again = offered(&user)?;
    assert_eq!(again.lines().nth(1), listed.lines().nth(1));
    let login = sshd.ssh(&user, &format!("{BOT}.example.org"), &["true"])?;
    ensure!(login.status.success(), "{}", said(&login));
    let audit = fs::read_to_string(host.world.path("data/audit.jsonl"))?;
    let issued = audit.lines().filter(|line| line.contains("\"event\":\"workload.ssh_host\""));
    let issued: Vec<&str> = issued.collect();
    ensure!(!issued.is_empty(), "{audit}");
    ensure!(issued.iter().all(|line| line.contains("\"key_location\":\"tpm\"")), "{issued:#?}");
    Ok(())
}

#[test]
fn sshd_needs_its_key_while_the_authority_is_away() -> Result<()> {
    let Some(server) = Sshd::program()? else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let mut host = host(&swtpm, "tpm", "")?;
    host.wait_healthy()?;
    let socket = host.path("run/sshd");
    let before = offered(&socket)?;
    host.signal("TERM")?;
    host.ended()?;
    host.world.stop()?;
    let is_ready = |message: &&String| message.starts_with("READY=1");
    let starts = |host: &Host| host.notifications().iter().filter(is_ready).count();
    let ready = starts(&host);
    host.start()?;
    // systemd starts sshd then.
    until(|| {
        ensure!(starts(&host) > ready, "not ready: {}", host.log());
        Ok(())
    })?;
    assert_eq!(offered(&socket)?, before);
    let sshd = Sshd::new(&host, server, &format!("HostKeyAgent {}\n", socket.display()))?;
    let exchanged = sshd.ssh(&host.path("run/user"), BOT, &["true"])?;
    // The user's certificate is only in memory, so there is none; the host is known.
    ensure!(said(&exchanged).contains("Permission denied"), "{}", said(&exchanged));
    Ok(())
}

#[test]
fn callers_that_mode_or_rules_exclude_are_refused() -> Result<()> {
    if !is_root("another user")? {
        return Ok(());
    }
    let swtpm = start(Kind::P256)?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let [closed, ruled] = ["run/closed", "run/ruled"].map(|name| host.path(name));
    let rule = "rules: [{unix: {uid: 0}}]";
    host.configure(&format!(
        "  - {{type: ssh-agent, name: closed, listen: \"unix://{}\", mode: \"0600\"}}\n  \
         - {{type: ssh-agent, name: ruled, listen: \"unix://{}\", mode: \"0666\", {rule}}}\n",
        closed.display(),
        ruled.display()
    ))?;
    host.start()?;
    host.wait_healthy()?;
    open_way(&closed)?;
    // A socket that was removed is made again.
    fs::remove_file(&closed)?;
    host.signal("HUP")?;
    until(|| offered(&closed))?;
    open_way(&closed)?;
    for socket in [&closed, &ruled] {
        ensure!(offered(socket)?.lines().count() == 2, "{}", host.log());
        let refused = with_agent(socket, Some(STRANGER), &["ssh-add", "-L"])?;
        ensure!(!refused.status.success() && refused.stdout.is_empty(), "{}", said(&refused));
    }
    host.until_logged("it matches none of the rules", 1)
}

/// An agent that reloads an sshd with what is in `directory`, and that sshd.
fn reloading<'s>(
    host: &Host,
    sshd: &'s Sshd,
    config: &Path,
    address: SocketAddr,
) -> Result<Running<'s>> {
    let running = sshd.listen(config, address)?;
    host.until_logged("reloaded service=sshd", 1)?;
    running.is_back()?;
    host.wait_healthy()?;
    Ok(running)
}

/// The settings of a reload hook for the sshd with this configuration and pid file.
fn reload(config: &Path, pid_file: &Path, address: SocketAddr) -> String {
    let (config, pid_file) = (config.display(), pid_file.display());
    format!(
        ", reload: {{signal: HUP, pid_file: {pid_file}, timeout: 2s, sshd: {{address: \"{address}\", config: {config}}}}}"
    )
}

#[test]
fn renewal_reaches_sshd_and_leaves_open_sessions_alone() -> Result<()> {
    let Some(server) = Sshd::program()? else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (directory, address) = (tempfile::tempdir()?, sshd::address());
    let (config, pid_file) = (directory.path().join("config"), directory.path().join("pid"));
    let host = host(&swtpm, "software", &reload(&config, &pid_file, address))?;
    let key = host.path("host/ssh_host");
    until(|| Ok(fs::metadata(&key)?))?;
    let sshd = Sshd::new(&host, server, &format!("PidFile {}\n", pid_file.display()))?;
    let running = reloading(&host, &sshd, &config, address)?;

    let user = host.path("run/user");
    let mut session = running.session(&user)?;
    session.ask()?;
    let before = (offered(&user)?, running.certificate()?);
    let reloads = host.count("reloaded service=sshd");
    host.signal("USR1")?;
    host.until_logged("reloaded service=sshd", reloads + 1)?;
    let served = running.certificate()?;
    ensure!(offered(&user)? != before.0 && served != before.1, "not renewed: {}", host.log());
    assert_eq!(served, sshd::blob(&host.path("host/ssh_host-cert.pub"))?);
    session.ask()?;
    ensure!(running.log_in(&user)?.status.success(), "no login after the renewal");
    Ok(())
}

/// sshd ends with a configuration that it does not understand.
#[test]
fn sshd_with_a_wrong_configuration_is_reported_and_not_reloaded() -> Result<()> {
    let Some(server) = Sshd::program()? else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (directory, address) = (tempfile::tempdir()?, sshd::address());
    let (config, pid_file) = (directory.path().join("config"), directory.path().join("pid"));
    let host = host(&swtpm, "software", &reload(&config, &pid_file, address))?;
    let key = host.path("host/ssh_host");
    until(|| Ok(fs::metadata(&key)?))?;
    let sshd = Sshd::new(&host, server, &format!("PidFile {}\n", pid_file.display()))?;
    let running = reloading(&host, &sshd, &config, address)?;
    let mut session = running.session(&host.path("run/user"))?;
    session.ask()?;
    let right = fs::read_to_string(&config)?;
    fs::write(&config, format!("{right}Nonsense yes\n"))?;
    host.signal("USR1")?;
    host.until_logged("sshd would not start with", 1)?;
    fs::write(&config, &right)?;
    host.wait_healthy()?;
    session.ask()?;
    Ok(())
}

/// sshd goes on without a certificate that does not belong to its key, and says nothing.
#[test]
fn sshd_that_does_not_serve_the_new_certificate_is_reported() -> Result<()> {
    let Some(server) = Sshd::program()? else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (directory, address) = (tempfile::tempdir()?, sshd::address());
    let (config, pid_file) = (directory.path().join("config"), directory.path().join("pid"));
    let host = host(&swtpm, "software", &reload(&config, &pid_file, address))?;
    let [key, certificate] =
        ["ssh_host", "ssh_host-cert.pub"].map(|name| host.path("host").join(name));
    until(|| Ok(fs::metadata(&key)?))?;
    let sshd = Sshd::new(&host, server, &format!("PidFile {}\n", pid_file.display()))?;
    let running = reloading(&host, &sshd, &config, address)?;
    let former = directory.path().join("former-cert.pub");
    fs::copy(&certificate, &former)?;
    let right = fs::read_to_string(&config)?;
    let wrong = right.replace(&*certificate.to_string_lossy(), &former.to_string_lossy());
    ensure!(wrong != right, "{right}");
    fs::write(&config, wrong)?;
    host.signal("USR1")?;
    host.until_logged("does not serve the new certificate", 1)?;
    fs::write(&config, &right)?;
    host.wait_healthy()?;
    assert_eq!(running.certificate()?, sshd::blob(&certificate)?);
    Ok(())
}
