//! Whether the files of a service are what a program that uses them needs, in the eyes of OpenSSL.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// A set that changes while it is read is read again, so often.
const ATTEMPTS: u32 = 5;

/// The files of a service by what is in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) certificate: &'static str,
    pub(super) key: &'static str,
    pub(super) bundle: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    bundle: Vec<u8>,
}

/// Judges sets of files; what has not changed since the last time is not given to OpenSSL again.
#[derive(Debug)]
pub(super) struct Judge {
    /// The authority's X.509 CA certificate, PEM.
    ca: PathBuf,
    /// By directory: the files, and when the certificate expires or what is wrong with them.
    known: BTreeMap<PathBuf, (Files, Result<i64, String>)>,
}

impl Judge {
    pub(super) const fn new(ca: PathBuf) -> Self {
        Self { ca, known: BTreeMap::new() }
    }

    /// Fails unless certificate, key and bundle belong together, chain to the CA, and are valid at `now`, seconds since
    /// 1970.
    pub(super) fn judge(&mut self, directory: &Path, names: Names, now: i64) -> Result<(), String> {
        let files = read(directory, names).map_err(|error| format!("{error:#}"))?;
        let known = self.known.get(directory).filter(|(known, _)| *known == files);
        let not_after = match known {
            Some((_, verdict)) => verdict.clone(),
            None => {
                let verdict = expiry(&files, &self.ca).map_err(|error| format!("{error:#}"));
                self.known.insert(directory.to_owned(), (files, verdict.clone()));
                verdict
            }
        }?;
        if now <= not_after {
            return Ok(());
        }
        Err(format!("the certificate expired {} s ago", now - not_after))
    }
}

/// Reads one set, not parts of two.
fn read(directory: &Path, names: Names) -> Result<Files> {
    let link = || fs::read_link(directory.join("..data")).ok();
    for _ in 0..ATTEMPTS {
        let before = link();
        let files = read_once(directory, names);
        if link() == before {
            return files;
        }
    }
    bail!("the files changed {ATTEMPTS} times while they were read")
}

fn read_once(directory: &Path, names: Names) -> Result<Files> {
    let file = |name: &str| fs::read(directory.join(name)).with_context(|| name.to_owned());
    let key = directory.join(names.key);
    let mode = fs::metadata(&key).context(names.key)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{} has mode {:o}", names.key, mode & 0o7777);
    Ok(Files {
        certificate: file(names.certificate)?,
        key: file(names.key)?,
        bundle: file(names.bundle)?,
    })
}

/// When the certificate expires, if everything else is right.
fn expiry(files: &Files, ca: &Path) -> Result<i64> {
    let description = ["x509", "-noout", "-pubkey", "-enddate", "-dateopt", "iso_8601"];
    let described = openssl(&description, &files.certificate).context("the certificate")?;
    let public = openssl(&["pkey", "-pubout"], &files.key).context("the private key")?;
    ensure!(described.contains(public.trim()), "the private key is not the certificate's");
    let trusted = fs::read(ca).with_context(|| format!("reading {}", ca.display()))?;
    ensure!(files.bundle.trim_ascii() == trusted.trim_ascii(), "the bundle is not the CA");
    let path = ca.to_str().context("a path that is not UTF-8")?;
    openssl(&["verify", "-no_check_time", "-CAfile", path], &files.certificate)?;
    let date = described.lines().find_map(|line| line.strip_prefix("notAfter="));
    let date = date.context("openssl shows no notAfter")?;
    unix_time(date).with_context(|| format!("not a date: {date}"))
}

fn openssl(arguments: &[&str], input: &[u8]) -> Result<String> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run openssl")?;
    let mut pipe = child.stdin.take().context("no pipe")?;
    // It may end before it has read everything; its exit status says so.
    let _ = pipe.write_all(input);
    drop(pipe);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = message.lines().last().unwrap_or_default().to_owned();
        return Err(anyhow!("openssl {}: {line}", arguments.first().unwrap_or(&"")));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Seconds since 1970 of a date such as `2026-11-29 13:16:34Z`.
fn unix_time(date: &str) -> Option<i64> {
    let (day, time) = date.trim().strip_suffix('Z')?.split_once(' ')?;
    let numbers = |text: &str, separator| -> Option<[i64; 3]> {
        let parts: Option<Vec<i64>> = text.split(separator).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(day, '-')?, numbers(time, ':')?);
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::child::Scratch;
    use testkit::forge::Ca;

    const NAMES: Names = Names { certificate: "cert", key: "key", bundle: "ca" };

    #[test]
    fn dates_of_openssl_are_read() {
        assert_eq!(unix_time("1970-01-01 00:00:00Z"), Some(0));
        assert_eq!(unix_time("2026-11-29 13:16:34Z"), Some(1_795_958_194));
        assert_eq!(unix_time("2024-02-29 23:59:59Z"), Some(1_709_251_199));
        assert_eq!(unix_time("2024-03-01 00:00:00Z"), Some(1_709_251_200));
        assert_eq!(unix_time("Nov 29 13:16:34 2026 GMT"), None);
    }

    /// A self-signed certificate is its own CA.
    fn set(directory: &Path, name: &str) {
        let ca = Ca::new(name);
        fs::write(directory.join("key"), ca.key_pem()).unwrap();
        fs::set_permissions(directory.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(directory.join("cert"), ca.root().pem()).unwrap();
        fs::write(directory.join("ca"), ca.root().pem()).unwrap();
    }

    #[test]
    fn damaged_foreign_and_expired_files_are_found() {
        let (ours, other) =
            (Scratch::new("endorse-soak").unwrap(), Scratch::new("endorse-soak").unwrap());
        set(ours.path(), "ours");
        set(other.path(), "other");
        let (directory, now) = (ours.path(), 1_600_000_000);
        let trusted = directory.join("trusted");
        fs::copy(directory.join("ca"), &trusted).unwrap();
        let mut judge = Judge::new(trusted);
        judge.judge(directory, NAMES, now).unwrap();
        judge.judge(directory, NAMES, now).unwrap();
        let late = judge.judge(directory, NAMES, 10_000_000_000).unwrap_err();
        assert!(late.contains("expired"), "{late}");

        let whole = ["cert", "key", "ca"].map(|name| fs::read(directory.join(name)).unwrap());
        for (index, name) in ["cert", "key", "ca"].into_iter().enumerate() {
            let path = directory.join(name);
            let foreign = fs::read(other.path().join(name)).unwrap();
            for damage in [&b""[..], &foreign] {
                fs::write(&path, damage).unwrap();
                judge.judge(directory, NAMES, now).unwrap_err();
            }
            fs::remove_file(&path).unwrap();
            judge.judge(directory, NAMES, now).unwrap_err();
            fs::write(&path, &whole[index]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            judge.judge(directory, NAMES, now).unwrap();
        }
        fs::set_permissions(directory.join("key"), fs::Permissions::from_mode(0o666)).unwrap();
        let readable = judge.judge(directory, NAMES, now).unwrap_err();
        assert!(readable.contains("mode 666"), "{readable}");
    }
}
