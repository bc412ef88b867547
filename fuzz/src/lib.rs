//! Hostile bytes for every trust boundary.
//!
//! A [`Target`] takes any bytes, gives them to what reads them in the product, and asserts what must hold of the
//! answer: not that nothing panics, but that what was accepted is canonical, was signed, says the same when it is read
//! again, and leaves nothing behind. `seeds/` has real messages for each, `regressions/` what once failed.
//! `cargo test -p fuzz` runs them all and some thousand deterministic changes of them; `cargo xtask fuzz` runs
//! libFuzzer.

mod address;
mod ca_bundle;
mod cluster;
mod command_line;
mod connection_upgrade;
mod control_groups;
mod ek_certificate;
mod ek_chain;
mod ek_spki;
mod event_log;
pub mod fixtures;
mod identity;
mod join_request;
mod join_result;
mod join_uri;
mod jwt_claims;
mod jwt_svid;
mod key_file;
mod mutation;
mod prove_key;
mod resource;
mod sds_stream;
mod ssh_agent;
mod subject_key;
mod teleport_answer;
pub mod teleport_call;
mod teleport_join;
mod teleport_result;
mod tpm_attest;
mod tpm_command;
mod tpm_credential;
mod tpm_dialogue;
mod tpm_public;
mod tpm_response;
mod tpm_signature;
mod web_request;
mod workload;
mod workload_call;
mod workload_connection;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use mutation::Mutator;

/// The result of an input. Reporting it shows that the seeds reach the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was believed, and every property of what is believed held.
    Accepted,
    /// It was refused with an error.
    Refused,
}

/// One trust boundary.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directories.
    pub name: &'static str,
    /// Reads the input and asserts what must hold.
    pub run: fn(&[u8]) -> Verdict,
    /// Changed inputs in a smoke run: fewer where an input costs much.
    pub smoke: u32,
}

/// All of them.
pub const TARGETS: [Target; 36] = [
    Target { name: "tpm_response", run: tpm_response::run, smoke: 20_000 },
    Target { name: "tpm_dialogue", run: tpm_dialogue::run, smoke: 3_000 },
    Target { name: "tpm_public", run: tpm_public::run, smoke: 20_000 },
    Target { name: "tpm_command", run: tpm_command::run, smoke: 20_000 },
    Target { name: "tpm_attest", run: tpm_attest::run, smoke: 20_000 },
    Target { name: "tpm_signature", run: tpm_signature::run, smoke: 20_000 },
    Target { name: "tpm_credential", run: tpm_credential::run, smoke: 3_000 },
    Target { name: "key_file", run: key_file::run, smoke: 10_000 },
    Target { name: "event_log", run: event_log::run, smoke: 3_000 },
    Target { name: "ek_certificate", run: ek_certificate::run, smoke: 5_000 },
    Target { name: "ek_spki", run: ek_spki::run, smoke: 5_000 },
    Target { name: "ek_chain", run: ek_chain::run, smoke: 1_500 },
    Target { name: "join_request", run: join_request::run, smoke: 1_500 },
    Target { name: "teleport_join", run: teleport_join::newer, smoke: 1_500 },
    Target { name: "teleport_legacy_join", run: teleport_join::older, smoke: 1_500 },
    Target { name: "teleport_call", run: teleport_call::run, smoke: 1_500 },
    Target { name: "subject_key", run: subject_key::run, smoke: 5_000 },
    Target { name: "prove_key", run: prove_key::run, smoke: 1_500 },
    Target { name: "web_request", run: web_request::run, smoke: 5_000 },
    Target { name: "join_result", run: join_result::run, smoke: 1_500 },
    Target { name: "teleport_result", run: teleport_result::run, smoke: 1_500 },
    Target { name: "teleport_answer", run: teleport_answer::run, smoke: 10_000 },
    Target { name: "identity", run: identity::run, smoke: 3_000 },
    Target { name: "ca_bundle", run: ca_bundle::run, smoke: 3_000 },
    Target { name: "connection_upgrade", run: connection_upgrade::run, smoke: 20_000 },
    Target { name: "resource", run: resource::run, smoke: 5_000 },
    Target { name: "jwt_claims", run: jwt_claims::run, smoke: 1_500 },
    Target { name: "control_groups", run: control_groups::run, smoke: 20_000 },
    Target { name: "workload_connection", run: workload_connection::run, smoke: 20_000 },
    Target { name: "workload_call", run: workload_call::run, smoke: 3_000 },
    Target { name: "sds_stream", run: sds_stream::run, smoke: 3_000 },
    Target { name: "ssh_agent", run: ssh_agent::run, smoke: 10_000 },
    Target { name: "jwt_svid", run: jwt_svid::run, smoke: 3_000 },
    Target { name: "address", run: address::run, smoke: 20_000 },
    Target { name: "command_line", run: command_line::run, smoke: 1_500 },
    Target { name: "join_uri", run: join_uri::run, smoke: 20_000 },
];

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Real messages.
    pub fn seeds(&self) -> io::Result<Vec<Input>> {
        inputs(&self.directory("seeds"))
    }

    /// Inputs that once failed, if there are any.
    pub fn regressions(&self) -> io::Result<Vec<Input>> {
        match inputs(&self.directory("regressions")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    fn directory(&self, kind: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(self.name)
    }
}

/// A file with an input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The files of a directory by name, so that every run is the same.
fn inputs(directory: &Path) -> io::Result<Vec<Input>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let read = |path: PathBuf| fs::read(&path).map(|bytes| Input { path, bytes });
    paths.into_iter().map(read).collect()
}

/// Cuts an input into parts that each stand behind their 16-bit length; what is left after the last is the last part.
fn parts(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        data = rest;
        Some(part)
    })
}

/// The inverse of cutting.
#[must_use]
pub fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for part in parts {
        let length = u16::try_from(part.len()).expect("parts of an input are short");
        data.extend(length.to_be_bytes());
        data.extend(*part);
    }
    data
}

/// What people and logs are shown must not steer a terminal or end a line.
#[track_caller]
fn assert_harmless(text: &str) {
    assert!(text.chars().all(host::terminal::is_printable), "not printable: {text:?}");
}
