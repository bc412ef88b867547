//! Reloads an sshd, which ends if its configuration is wrong, and continues without a certificate that it cannot use.

use std::thread;
use std::time::Duration;

use host::exit::{Exit, Failure};
use rustix::process::geteuid;

use super::reload::{self, Reloaded, command};
use crate::config::{Reload, Sshd};

/// How long one question for the certificate may take.
const SCAN_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before the second question, doubled by each further one: sshd re-executes itself, and keeps count of clients that do not
/// log in.
const MIN_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// Checks sshd's configuration, runs the reload hook, and waits until sshd serves the certificate, a line of authorized_keys. It
/// blocks for three times the configured time at most.
///
/// # Errors
/// The configuration is wrong; as [`reload::run`]; sshd serves another certificate, or none.
pub fn reload(reload: &Reload, sshd: &Sshd, certificate: &str) -> Result<Reloaded, Failure> {
    check(sshd, reload.timeout)?;
    let reloaded = reload::run(reload)?;
    wait(sshd, certificate, reload.timeout)?;
    Ok(reloaded)
}

/// `sshd -t`, which needs the host keys. Where the agent is not root, the systemd unit of sshd does it before it reloads.
fn check(sshd: &Sshd, limit: Duration) -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let config = sshd.config.display().to_string();
    // sshd has to be called by an absolute path.
    let checked = command("/usr/sbin/sshd", &["-t", "-f", &config], limit);
    checked.map(drop).map_err(|failure| {
        let message = format!("sshd would not start with {config}: {}", failure.message);
        let advice = "correct it; sshd was not reloaded and goes on as it was";
        Failure::new(Exit::Config, message, advice)
    })
}

fn wait(sshd: &Sshd, certificate: &str, limit: Duration) -> Result<(), Failure> {
    let (mut pause, mut waited) = (MIN_PAUSE, Duration::ZERO);
    loop {
        let served = scan(sshd)?;
        if certificate.split_ascii_whitespace().nth(1).is_some_and(|key| served.contains(key)) {
            return Ok(());
        }
        if waited >= limit {
            let message = format!("sshd at {} does not serve the new certificate", sshd.address);
            let advice = "check HostKey, HostCertificate and, for a key in the TPM, HostKeyAgent in sshd's \
                          configuration, and sshd's log; the agent will retry";
            return Err(Failure::new(Exit::Unavailable, message, advice));
        }
        thread::sleep(pause);
        waited = waited.saturating_add(pause);
        pause = pause.saturating_mul(2).min(MAX_PAUSE);
    }
}

/// The host certificate that sshd serves for ECDSA, among other words; nothing while it does not listen.
fn scan(sshd: &Sshd) -> Result<String, Failure> {
    let (host, port) = (sshd.address.ip().to_string(), sshd.address.port().to_string());
    let arguments = ["-c", "-T", "5", "-t", "ecdsa", "-p", &port, &host];
    match command("ssh-keyscan", &arguments, SCAN_TIMEOUT) {
        Ok(scanned) => Ok(scanned.output),
        // Some versions fail where nothing listens.
        Err(failure) if failure.exit == Exit::Unavailable => Ok(String::new()),
        Err(failure) => Err(Failure { advice: "install OpenSSH's client".into(), ..failure }),
    }
}
