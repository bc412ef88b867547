//! Teleport's guide to hosts with a TPM, with `tbot` as a link to the agent and `tctl` as a link to the
//! authority.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::child::Scratch;

use super::Walk;
use crate::vm::{Guest, Report};

pub(super) const WALK: Walk = Walk {
    name: "teleport",
    script: include_bytes!("../scripts/teleport.sh"),
    refused: &[
        ("untrusted", 69, &["no CA that this system trusts", "ca_pins"]),
        ("role", 65, &["role.yaml", "role"]),
        ("removed", 1, &["refused by the authority"]),
    ],
    check,
};

fn check(report: &Report, guest: &Guest) -> Result<()> {
    identified(report, guest)?;
    says(report, "cluster-status", &["Cluster  example.teleport.sh\n"])?;
    says(report, "bot", &["bot", "example", "created"])?;
    says(report, "token", &["token", "my-bot-token", "created"])?;
    for name in ["status", "unit-status"] {
        says(report, name, &["active (running)"])?;
    }
    output(report)?;
    renewed(report)?;
    shown(report)?;
    says(report, "why", &["bot_unknown"])?;
    for name in ["unit-verify", "same", "failed"] {
        let said = report.success(name)?;
        ensure!(said.is_empty(), "{name}:\n{said}");
    }
    Ok(())
}

fn says(report: &Report, name: &str, words: &[&str]) -> Result<()> {
    report.refused(name, 0, words)
}

/// The key and the certificate that tpm2-tools and OpenSSL find in the same TPM.
fn identified(report: &Report, guest: &Guest) -> Result<()> {
    let tpm = guest.made.start_tcp()?;
    let scratch = Scratch::new("endorse-walk")?;
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let (pem, der, certificate) = (at("ek.pem"), at("ek.der"), at("certificate"));
    tpm.tool("tpm2_readpublic", &["-c", "0x81010001", "-f", "pem", "-o", &pem])?;
    run("openssl", &["pkey", "-pubin", "-in", &pem, "-outform", "DER", "-out", &der], b"")?;
    let said = run("openssl", &["dgst", "-sha256", "-r", &der], b"")?;
    let hash = said.split(' ').next().context("a hash")?;
    tpm.tool("tpm2_nvread", &["0x01c00002", "-o", &certificate])?;
    let read = ["x509", "-inform", "DER", "-in", &certificate, "-noout", "-serial"];
    let said = run("openssl", &read, b"")?;
    let digits = said.trim().strip_prefix("serial=").context("a serial")?.to_lowercase();
    let pairs: Vec<_> =
        (0..digits.len()).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect();
    let expected = format!(
        "TPM Information\nEK Public Hash: {hash}\nEK Certificate Detected: true\nEK Certificate Serial: {}\n",
        pairs.join(":")
    );
    let said = report.success("identify")?;
    ensure!(said == expected, "tbot tpm identify does not say\n{expected}but\n{said}");
    Ok(())
}

/// What the service wrote, seen by OpenSSL and OpenSSH.
fn output(report: &Report) -> Result<()> {
    let files = report.success("output")?;
    for file in ["identity", "key", "key-cert.pub", "known_hosts", "ssh_config", "tlscert"] {
        ensure!(files.lines().any(|line| line == file), "no {file} in\n{files}");
    }
    let subject =
        ["commonName                = bot-example", "organizationName          = example-role"];
    says(report, "subject", &subject)?;
    says(report, "chain", &["tlscert: OK"])?;
    let (key, certified) = (report.success("key")?, report.success("certified")?);
    ensure!(key == certified, "the certificate is for another key:\n{certified}\nnot\n{key}");
    let ssh = report.success("ssh-certificate")?;
    let said = run("ssh-keygen", &["-L", "-f", "-"], ssh.as_bytes())?;
    for words in ["Key ID: \"bot-example\"", "                root\n", "teleport-roles"] {
        ensure!(said.contains(words), "no {words:?} in the SSH certificate:\n{said}");
    }
    says(report, "known-hosts", &["@cert-authority ", "example.teleport.sh"])
}

/// The same bot instance, a generation later.
fn renewed(report: &Report) -> Result<()> {
    let (before, after) = (instance(report, "before")?, instance(report, "after")?);
    ensure!(before.id == after.id, "a renewal made another instance");
    ensure!(before.generation < after.generation, "the generation is {}", after.generation);
    // The unit that tbot writes goes on with the identity, under another service manager's eye.
    ensure!(instance(report, "unit-same")?.id == before.id, "another unit made another instance");
    Ok(())
}

struct Instance {
    id: String,
    generation: u64,
}

/// The only instance.
fn instance(report: &Report, name: &str) -> Result<Instance> {
    let all: Vec<Value> = serde_json::from_str(report.success(name)?)?;
    let [instance] = all.as_slice() else { anyhow::bail!("{} instances", all.len()) };
    let id = instance["spec"]["instance_id"].as_str().context("an ID")?.to_owned();
    let generation = instance["status"]["generation"].as_u64().context("a generation")?;
    Ok(Instance { id, generation })
}

/// What tctl lists.
fn shown(report: &Report) -> Result<()> {
    let id = instance(report, "before")?.id;
    says(report, "bots", &["example", "bot-example", "example-role"])?;
    says(report, "tokens", &["my-bot-token", "tpm"])?;
    says(report, "instances", &[&id, "tpm", " vm "])?;
    says(report, "instance", &[&id])?;
    says(report, "get-bot", &["kind: bot\n", "name: example\n", "- example-role\n"])?;
    says(report, "get-token", &["kind: token\n", "name: my-bot-token\n", "bot_name: example\n"])
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    child.stdin.take().context("a pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
