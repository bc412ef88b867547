//! The files of OpenSSH's client: `known_hosts` as sshd(8) describes it, `ssh_config` as ssh_config(5) does.

use std::fmt::Write;
use std::path::Path;

use host::exit::{Exit, Failure};
use p256::ecdsa::VerifyingKey;

use super::{Identity, unusable};
use crate::ssh;

/// A line of authorized_keys.
pub(super) fn public_key(key: &VerifyingKey) -> String {
    // It begins with its type.
    let line = ssh::key::line(&ssh::key::blob(key)).unwrap_or_default();
    format!("{line}\n")
}

/// The lines of `known_hosts` for the cluster's SSH CAs of hosts.
pub(super) fn known_hosts(identity: &Identity<'_>) -> Result<String, Failure> {
    let (host, cluster) = (identity.authority_host, identity.cluster);
    // A pattern, or a character that ends a word, would make the CA valid for other hosts.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    for name in [host, cluster] {
        if name.is_empty() || !name.chars().all(plain) {
            return Err(unusable(&format!("{name:?} is not a host name")));
        }
    }
    let mut text = String::new();
    for ca in identity.ssh.host_cas {
        let mut words = ca.split_ascii_whitespace();
        let (Some(kind), Some(key)) = (words.next(), words.next()) else {
            return Err(unusable("an SSH CA key that is not a valid key"));
        };
        writeln!(text, "@cert-authority {host},{cluster},*.{cluster} {kind} {key} type=host")
            .map_err(Failure::bug)?;
    }
    Ok(text)
}

/// For `ssh -F DIRECTORY/ssh_config HOST`.
pub(super) fn config(directory: &Path) -> Result<String, Failure> {
    let absolute =
        std::path::absolute(directory).map_err(|cause| Failure::io(&cause, directory.display()))?;
    let writable = absolute.to_str().filter(|text| {
        !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) && !text.contains("${")
    });
    let directory = writable.ok_or_else(|| {
        Failure::new(
            Exit::Config,
            format!("the path {} cannot be written in an ssh_config", directory.display()),
            "choose another directory, or set `ssh_config: off`",
        )
    })?;
    let directory = directory.replace('%', "%%");
    Ok(format!(
        "# Rewritten at each renewal. Use: ssh -F \"{directory}/ssh_config\" HOST\n\
         Host *\n    \
             IdentityFile \"{directory}/key\"\n    \
             CertificateFile \"{directory}/key-cert.pub\"\n    \
             IdentitiesOnly yes\n    \
             UserKnownHostsFile \"{directory}/known_hosts\" ~/.ssh/known_hosts\n"
    ))
}
