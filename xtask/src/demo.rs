//! `cargo xtask demo`: the guide from end to end, on a software TPM or on this machine's own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::child::{Guarded, Scratch};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};

use crate::setup::{self, Action, Purpose};
use crate::{cargo, target_directory};

const BOT: &str = "demo-bot";
const TOKEN: &str = "demo-token";
const CLUSTER: &str = "demo.endorse.test";
const DATA: &str = "authority";
const STORAGE: &str = "storage";
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What happens to the demo's directory at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is removed.
    Remove,
    /// It is kept for inspection.
    Keep,
}

/// Runs the demo on the TPM at this address, or else on a new software TPM with EK certificates.
pub fn run(tpm: Option<String>, afterwards: Afterwards) -> Result<()> {
    setup::run(Purpose::Demo, Action::Install)?;
    eprintln!("Building agent and authority; the first time this takes about two minutes ...");
    let mut build = cargo();
    // In one call, so that what both depend on is built once.
    build.args(["build", "--package", "agent", "--package", "authority"]);
    ensure!(build.stdin(Stdio::null()).status()?.success(), "agent and authority do not build");

    let scratch = Scratch::new("endorse-demo")?;
    let demo = Demo {
        directory: scratch.path(),
        programs: target_directory().join("debug"),
        tpm: Tpm::find(tpm)?,
        afterwards,
    };
    let result = demo.walk();
    drop(demo);
    if afterwards == Afterwards::Keep {
        println!("\nThe directory stays: {}", scratch.keep().display());
    }
    result
}

/// The TPM in use, and the CA of its EK certificates where that is known.
struct Tpm {
    tcti: String,
    /// PEM, the root first.
    cas: Vec<String>,
    /// Kept alive.
    _software: Option<Swtpm>,
}

impl Tpm {
    fn find(tcti: Option<String>) -> Result<Self> {
        if let Some(tcti) = tcti {
            return Ok(Self { tcti, cas: Vec::new(), _software: None });
        }
        eprintln!("Manufacturing a software TPM with EK certificates ...");
        let made = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?;
        let cas = vec![made.ca().root_pem().to_owned(), made.ca().issuer_pem().to_owned()];
        let software = made.start()?;
        Ok(Self { tcti: software.tcti(), cas, _software: Some(software) })
    }
}

struct Demo<'a> {
    directory: &'a Path,
    programs: PathBuf,
    tpm: Tpm,
    afterwards: Afterwards,
}

impl Demo<'_> {
    fn walk(&self) -> Result<()> {
        // First, since it also guards the directory: interrupted at any time, the demo leaves nothing
        // behind.
        title("An authority starts, with a new CA");
        let (_authority, address) = self.start_authority()?;
        let status = self.show("authority", &["status", "--data-dir", DATA])?;
        let pin = ca_pin(&status)?;

        title("The host shows its TPM");
        self.show("agent", &["identify", "--tpm", &self.tpm.tcti])?;

        title("The operator creates a bot and allows this TPM to join as it");
        let rule =
            self.show("agent", &["identify", "--tpm", &self.tpm.tcti, "--format", "rule"])?;
        self.create("bot.yaml", &bot())?;
        self.create("token.yaml", &token(&rule, &self.tpm.cas)?)?;

        title("The host joins: no secret was handed over, its TPM is the proof");
        let join = ["join", "--authority", &address, "--token", TOKEN, "--ca-pin", &pin];
        let place = ["--storage", STORAGE, "--tpm", &self.tpm.tcti];
        self.show("agent", &[&join[..], &place[..]].concat())?;
        self.show("agent", &["status", "--storage", STORAGE])?;

        title("The certificate, as others see it");
        let certificate = format!("{STORAGE}/tlscert");
        let summary = ["-noout", "-subject", "-issuer", "-serial", "-dates", "-ext"];
        let extensions = "subjectAltName,keyUsage,extendedKeyUsage";
        let file = ["x509", "-in", &certificate];
        self.show("openssl", &[&file[..], &summary[..], &[extensions]].concat())?;

        title("Used over mutual TLS, with the key in the TPM");
        self.show("agent", &["whoami", "--storage", STORAGE, "--tpm", &self.tpm.tcti])?;

        title("What the authority knows now");
        self.show("authority", &["get", &format!("bot/{BOT}"), "--data-dir", DATA])?;
        self.show("authority", &["audit", "ls", "--data-dir", DATA])?;
        self.show("tail", &["-n", "1", &format!("{DATA}/audit.jsonl")])?;

        title("Done: this host has an identity that rests on its TPM alone");
        Ok(())
    }

    /// Starts the authority and waits until it listens.
    fn start_authority(&self) -> Result<(Guarded, String)> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = address.to_string();
        let start = ["start", "--data-dir", DATA, "--listen", &listen, "--cluster-name", CLUSTER];
        println!("$ {} &", line("authority", &start));
        let log = self.directory.join("authority.log");
        let mut command = self.command("authority", &start);
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let remove = (self.afterwards == Afterwards::Remove).then_some(self.directory);
        let mut authority = Guarded::spawn(&mut command, remove)?;
        let deadline = Instant::now() + START_TIMEOUT;
        let trouble = loop {
            if let Some(status) = authority.exited()? {
                break format!("ended ({status})");
            }
            if TcpStream::connect(address).is_ok() {
                return Ok((authority, listen));
            }
            if Instant::now() > deadline {
                break format!("does not listen after {} s", START_TIMEOUT.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        };
        bail!("the authority {trouble}:\n{}", fs::read_to_string(&log).unwrap_or_default())
    }

    /// Writes a resource, shows it and creates it.
    fn create(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.directory.join(name), text).with_context(|| format!("writing {name}"))?;
        println!("$ cat {name}\n{}", abridged(text));
        self.show("authority", &["create", "--data-dir", DATA, name]).map(drop)
    }

    /// Shows a command line, runs it, shows what it says and returns what it wrote to stdout.
    fn show(&self, program: &str, arguments: &[&str]) -> Result<String> {
        println!("$ {}", line(program, arguments));
        let mut command = self.command(program, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let mut output = String::new();
        let read = child.stdout.take().context("no pipe")?.read_to_string(&mut output);
        let status = child.wait()?;
        read.with_context(|| format!("reading what {program} says"))?;
        println!("{output}");
        ensure!(status.success(), "`{}` failed ({status})", line(program, arguments));
        Ok(output)
    }

    /// A command in the demo's directory; our own programs from the build.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let built = self.programs.join(program);
        let path = if built.is_file() { built.as_os_str() } else { OsStr::new(program) };
        let mut command = Command::new(path);
        command.args(arguments).current_dir(self.directory);
        command
    }
}

fn title(text: &str) {
    println!("\n--- {text}\n");
}

/// A command line as one would type it.
fn line(program: &str, arguments: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = arguments.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            (*word).to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    [program.to_owned()].into_iter().chain(quoted).collect::<Vec<_>>().join(" ")
}

/// The same with the inside of certificates left out.
fn abridged(text: &str) -> String {
    let mut inside = false;
    let mut shown = String::new();
    for line in text.lines() {
        let ends = line.contains("-----END ");
        if !inside || ends {
            shown.push_str(line);
            shown.push('\n');
        }
        if line.contains("-----BEGIN ") {
            inside = true;
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            shown.push_str(&format!("{indent}...\n"));
        }
        inside &= !ends;
    }
    shown
}

fn bot() -> String {
    format!("kind: bot\nversion: v1\nmetadata:\n  name: {BOT}\nspec:\n  roles: []\n")
}

/// A token that allows the TPM of this rule, and asks for its EK certificate where a CA is given.
pub(crate) fn token(rule: &str, cas: &[String]) -> Result<String> {
    let mut text = format!(
        "kind: token\nversion: v2\nmetadata:\n  name: {TOKEN}\nspec:\n  roles: [Bot]\n  \
         join_method: tpm\n  bot_name: {BOT}\n  tpm:\n"
    );
    if !cas.is_empty() {
        text.push_str("    ekcert_allowed_cas:\n");
        for pem in cas {
            text.push_str("      - |\n");
            text.push_str(&indented(certificate_of(pem)?, 8));
        }
    }
    text.push_str("    allow:\n");
    text.push_str(&indented(rule, 6));
    Ok(text)
}

/// The certificate alone, without what certtool writes above it.
fn certificate_of(pem: &str) -> Result<&str> {
    let begin = pem.find("-----BEGIN CERTIFICATE-----");
    begin.and_then(|at| pem.get(at..)).context("the EK CA is no PEM certificate")
}

/// The text moved right as a whole, so that its leftmost line stands at `column`.
fn indented(text: &str, column: usize) -> String {
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let left = lines().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines().map(|line| format!("{:column$}{}\n", "", line.get(left..).unwrap_or(line))).collect()
}

/// The pin in the answer of `authority status`: `sha256:` and 64 hexadecimal digits.
pub(crate) fn ca_pin(status: &str) -> Result<String> {
    let pin = status.split_whitespace().find(|word| {
        let digits = word.strip_prefix("sha256:").unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    Ok(pin.context("`authority status` shows no CA pin")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_put_together() {
        let rule = "- description: \"host\"\n  ek_public_hash: \"ab\"\n";
        let pem = "Subject: x\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let expected = "\
spec:
  roles: [Bot]
  join_method: tpm
  bot_name: demo-bot
  tpm:
    ekcert_allowed_cas:
      - |
        -----BEGIN CERTIFICATE-----
        AAAA
        -----END CERTIFICATE-----
    allow:
      - description: \"host\"
        ek_public_hash: \"ab\"
";
        let made = token(rule, &[pem.to_owned()]).unwrap();
        assert!(made.ends_with(expected), "{made}");
        assert!(token(&indented(rule, 6), &[]).unwrap().ends_with(
            "  tpm:\n    allow:\n      - description: \"host\"\n        ek_public_hash: \"ab\"\n"
        ));
        let shown = abridged(&made);
        assert!(
            !shown.contains("AAAA") && shown.contains("        ...\n        -----END"),
            "{shown}"
        );
        assert!(shown.ends_with("ek_public_hash: \"ab\"\n"));
    }

    #[test]
    fn the_pin_is_found() {
        let pin = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(ca_pin(&format!("Cluster  x\nCA pin   {pin}\n")).unwrap(), pin);
        assert!(ca_pin("CA pin sha256:12").is_err());
    }

    #[test]
    fn command_lines_can_be_pasted() {
        assert_eq!(line("a", &["b c", "", "d'e", "f:g=h,i"]), r"a 'b c' '' 'd'\''e' f:g=h,i");
    }
}
