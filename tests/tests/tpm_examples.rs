//! The examples of the crates `tpm2` and `verifier`, run against a software TPM: each leaves nothing loaded.

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::thread;

use anyhow::{Result, anyhow, ensure};
use testkit::swtpm::Kind;
use tests::tpm::{Way, start, way};
use tpm2::Tpm;
use tpm2::transport::{Record, Recording};

#[allow(dead_code, reason = "`main` is for `cargo run --example approve`")]
#[path = "../../tpm2/examples/approve.rs"]
mod approve;
#[allow(dead_code, reason = "`main` is for `cargo run --example credential`")]
#[path = "../../tpm2/examples/credential.rs"]
mod credential;
#[allow(dead_code, reason = "`main` is for `cargo run --example csr`")]
#[path = "../../tpm2/examples/csr.rs"]
mod csr;
#[allow(dead_code, reason = "`main` is for `cargo run --example dump`")]
#[path = "../../tpm2/examples/dump.rs"]
mod dump;
#[allow(dead_code, reason = "`main` is for `cargo run --example hierarchies`")]
#[path = "../../tpm2/examples/hierarchies.rs"]
mod hierarchies;
#[allow(dead_code, reason = "`main` is for `cargo run --example import`")]
#[path = "../../tpm2/examples/import.rs"]
mod import;
#[allow(dead_code, reason = "`main` is for `cargo run --example key_file`")]
#[path = "../../tpm2/examples/key_file.rs"]
mod key_file;
#[allow(dead_code, reason = "`main` is for `cargo run --example nv`")]
#[path = "../../tpm2/examples/nv.rs"]
mod nv;
#[allow(dead_code, reason = "`main` is for `cargo run --example pin`")]
#[path = "../../tpm2/examples/pin.rs"]
mod pin;
#[allow(dead_code, reason = "`main` is for `cargo run --example properties`")]
#[path = "../../tpm2/examples/properties.rs"]
mod properties;
#[allow(dead_code, reason = "`main` is for `cargo run --example rsa`")]
#[path = "../../tpm2/examples/rsa.rs"]
mod rsa;
#[allow(dead_code, reason = "`main` is for `cargo run --example seal`")]
#[path = "../../tpm2/examples/seal.rs"]
mod seal;
#[allow(dead_code, reason = "`main` is for `cargo run --example sessions`")]
#[path = "../../tpm2/examples/sessions.rs"]
mod sessions;
#[allow(dead_code, reason = "`main` is for `cargo run --example sign`")]
#[path = "../../tpm2/examples/sign.rs"]
mod sign;
#[allow(dead_code, reason = "`main` is for `cargo run --example threads`")]
#[path = "../../tpm2/examples/threads.rs"]
mod threads;
#[allow(dead_code, reason = "`main` is for `cargo run --example values`")]
#[path = "../../verifier/examples/values.rs"]
mod values;

type Recorded = Tpm<Record<Way>>;

/// Runs an example, and shows what it sent as the example `dump` does.
fn runs(example: fn(&mut Recorded) -> Result<(), Box<dyn Error>>) -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    example(&mut tpm).map_err(|error| anyhow!("{error:?}"))?;
    drop(tpm);
    let handles = swtpm.handles()?;
    ensure!(handles.transient.is_empty() && handles.loaded_sessions.is_empty(), "{handles:?}");
    let exchanges = recording.exchanges();
    let stream: Vec<_> = exchanges.iter().flat_map(|one| [&one.command, &one.response]).collect();
    let stream: Vec<u8> = stream.into_iter().flatten().copied().collect();
    let text = dumped(&stream)?;
    ensure!(text.matches("\n  answer: ").count() == exchanges.len(), "{text}");
    ensure!(!text.contains("malformed") && !text.contains("PIN"), "{text}");
    Ok(())
}

/// What the example `dump` shows.
fn dumped(stream: &[u8]) -> Result<String> {
    let mut out = Vec::new();
    dump::dump(stream, &mut out).map_err(|error| anyhow!("{error}"))?;
    Ok(String::from_utf8(out)?)
}

#[test]
fn approve_runs() -> Result<()> {
    runs(approve::example)
}

#[test]
fn credential_runs() -> Result<()> {
    runs(credential::example)
}

#[test]
fn csr_runs() -> Result<()> {
    runs(csr::example)
}

#[test]
fn hierarchies_runs() -> Result<()> {
    runs(hierarchies::example)
}

#[test]
fn import_runs() -> Result<()> {
    runs(import::example)
}

#[test]
fn key_file_runs() -> Result<()> {
    runs(key_file::example)
}

#[test]
fn nv_runs() -> Result<()> {
    runs(nv::example)
}

#[test]
fn pin_runs() -> Result<()> {
    runs(pin::example)
}

#[test]
fn properties_runs() -> Result<()> {
    runs(properties::example)
}

#[test]
fn rsa_runs() -> Result<()> {
    runs(rsa::example)
}

#[test]
fn seal_runs() -> Result<()> {
    runs(seal::example)
}

#[test]
fn sessions_runs() -> Result<()> {
    runs(sessions::example)
}

#[test]
fn sign_runs() -> Result<()> {
    runs(sign::example)
}

#[test]
fn values_runs() -> Result<()> {
    runs(values::example)
}

#[test]
fn threads_runs() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    threads::example(way(&swtpm)?).map_err(|error| anyhow!("{error:?}"))
}

/// A client of ours behind the proxy: what passes is annotated, and answered as the TPM answers.
#[test]
fn dump_annotates_what_passes_between_a_client_and_a_tpm() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = way(&swtpm)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    let mut client = Tpm::open(&format!("swtpm:path={}", path.display()))?;
    let client = thread::spawn(move || -> Result<()> {
        rsa::example(&mut client).map_err(|error| anyhow!("{error:?}"))
    });
    let mut shown = Vec::new();
    let (stream, _) = listener.accept()?;
    dump::proxy(&stream, &stream, &mut tpm, &mut shown).map_err(|error| anyhow!("{error}"))?;
    drop(stream);
    client.join().map_err(|_| anyhow!("the client panicked"))??;
    let shown = String::from_utf8(shown)?;
    ensure!(shown.starts_with("TPM2_CreatePrimary: CreatePrimary {"), "{shown}");
    ensure!(shown.contains("TPM2_RSA_Decrypt: ") && !shown.contains("malformed"), "{shown}");
    Ok(())
}

/// The answers of a counter, as `docs/cookbook.md` shows them: the password `value` is in both commands.
#[test]
fn dump_shows_recorded_messages_as_the_cookbook_does() -> Result<()> {
    const GOLDEN: &str = include_str!("../../tpm2/testdata/golden/nv.txt");
    const SHOWN: &str = include_str!("../../tpm2/examples/dump.txt");
    let counter = GOLDEN.split("\n= ").filter(|one| one.contains(": a counter; "));
    let hexadecimal = counter.flat_map(str::lines).filter_map(|line| line.split_once(' '));
    let messages = hexadecimal.filter(|(sign, _)| matches!(*sign, ">" | "<"));
    let stream: Result<Vec<_>, _> =
        messages.map(|(_, digits)| base16ct::mixed::decode_vec(digits)).collect();
    let messages = stream?;
    let last = messages.last().map_or(0, Vec::len);
    let stream = messages.concat();
    let text = dumped(&stream)?;
    ensure!(text == SHOWN, "{text}");
    // Of a stream that is cut off, what is there is shown, and then where the end is.
    for (end, reason) in
        [(stream.len() - 1, "within a message"), (stream.len() - last, "before the answer")]
    {
        let mut out = Vec::new();
        let error = dump::dump(&stream[..end], &mut out).err().map(|error| error.to_string());
        ensure!(error.as_ref().is_some_and(|error| error.contains(reason)), "{end}: {error:?}");
        let out = String::from_utf8(out)?;
        ensure!(
            out.contains("TPM2_NV_Read: NvRead {") && out.contains("answer: malformed"),
            "{out}"
        );
    }
    Ok(())
}
