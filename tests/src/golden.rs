//! Golden messages: exchanges with TPMs, kept in `tpm2/testdata`, where the crate `tpm2` reads and writes them again.
//!
//! The tests that make them run the same commands each time. With `UPDATE=1` they are recorded again; without it what a
//! file has must still be what a TPM is asked and what it answers, but for nonces, random bytes and signatures.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use base16ct::lower::encode_string as hex;
use testkit::bus::{command_code, response_code};
use tpm2::commands::by_code;
use tpm2::transport::Exchange;

/// One exchange and what it shows.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it shows.
    pub title: String,
    /// Where it is from.
    pub provenance: String,
    /// The exchange.
    pub exchange: Exchange,
}

/// The messages of one file.
#[derive(Clone, Copy, Debug)]
pub struct Golden<'g> {
    /// Its path under `tpm2/testdata`.
    pub file: &'g str,
    /// What is in it, for its first line.
    pub about: &'g str,
    /// The command that records it again.
    pub again: &'g str,
}

/// Everything that is on record.
pub fn all() -> Result<Vec<Entry>> {
    let directory = testdata();
    let mut entries = parse(&fs::read_to_string(directory.join("golden.txt"))?)?;
    for file in fs::read_dir(directory.join("golden"))? {
        let file = file?.path();
        let text = fs::read_to_string(&file)?;
        entries.extend(parse(&text).with_context(|| file.display().to_string())?);
    }
    Ok(entries)
}

/// A link to the sources leads to where they are.
fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tpm2/testdata")
}

impl Golden<'_> {
    /// Records `entries` if that is asked for, and compares what is on record with them.
    pub fn agree(&self, entries: &[Entry]) -> Result<()> {
        let file = testdata().join(self.file);
        if env::var_os("UPDATE").is_some_and(|value| value == "1") {
            fs::create_dir_all(file.parent().context("a directory")?)?;
            fs::write(&file, self.text(entries)?)?;
        }
        let text = fs::read_to_string(&file).with_context(|| self.file.to_owned())?;
        let stored = parse(&text)?;
        let titles = |entries: &[Entry]| -> Vec<String> {
            entries.iter().map(|entry| entry.title.clone()).collect()
        };
        ensure!(
            titles(&stored) == titles(entries),
            "{} has other messages; to record it again: {}",
            self.file,
            self.again
        );
        for (stored, now) in stored.iter().zip(entries) {
            ensure!(shape(stored) == shape(now), "{}: {} has changed", self.file, now.title);
        }
        Ok(())
    }

    fn text(&self, entries: &[Entry]) -> Result<String> {
        let mut text = format!(
            "# {}\n# `=` says what the exchange shows, `>` is the command, `<` the answer.\n# {} \
             records them again.\n",
            self.about, self.again
        );
        for Entry { title, provenance, exchange } in entries {
            let name = by_code(command_code(&exchange.command)).map_or("unknown", |c| c.name);
            write!(text, "\n= {name}: {title}; {provenance}\n")?;
            writeln!(text, "> {}", hex(&exchange.command))?;
            writeln!(text, "< {}", hex(&exchange.response))?;
        }
        Ok(text)
    }
}

/// What stays the same from one run to the next.
fn shape(entry: &Entry) -> impl PartialEq {
    let Exchange { command, response } = &entry.exchange;
    let tags = [command.get(..2), response.get(..2)].map(|tag| tag.map(<[u8]>::to_vec));
    (command_code(command), response_code(response), command.len(), tags)
}

fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(title) = lines.next() {
        let title = title.strip_prefix("= ").context("no title")?;
        let (_, title) = title.split_once(": ").context("no command")?;
        let (title, provenance) = title.rsplit_once("; ").context("no provenance")?;
        let mut octets = |sign: &str| -> Result<Vec<u8>> {
            let line = lines.next().and_then(|line| line.strip_prefix(sign));
            let digits = line.with_context(|| format!("{title}: no {sign:?}"))?;
            base16ct::lower::decode_vec(digits).with_context(|| format!("{title}: {digits:?}"))
        };
        let exchange = Exchange { command: octets("> ")?, response: octets("< ")? };
        let (title, provenance) = (title.to_owned(), provenance.to_owned());
        entries.push(Entry { title, provenance, exchange });
    }
    Ok(entries)
}
