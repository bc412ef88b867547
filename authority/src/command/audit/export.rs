//! authority audit export and show

use std::fs::{self, DirBuilder};
use std::io::{BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;

use host::exit::{Exit, Failure};
use host::output::write;
use host::terminal::escape_json;

use super::source::{Source, unreadable};
use crate::audit::Row;
use crate::audit::tree::Hash;
use crate::cli::{AuditExport, AuditShow};
use crate::data_directory::{DataDirectory, private};
use crate::store::{Page, StoreError};

/// Writes the entries of each log, and the signed head of this authority's with its public key.
pub(super) async fn export(export: AuditExport) -> Result<(), Failure> {
    let to = &export.to;
    let failed =
        |cause: std::io::Error| Failure::io(&cause, format!("cannot write to {}", to.display()));
    DirBuilder::new().mode(0o700).create(to).map_err(failed)?;
    let source = Source::open(&export.data).await?;
    let directory = DataDirectory::new(&export.data.data_dir);
    // Before the entries: they are at least those of the head.
    for from in [directory.log_head(), directory.log_public_key()] {
        let content = fs::read(&from)
            .map_err(|cause| Failure::io(&cause, format!("cannot read {}", from.display())))?;
        let name = from.file_name().unwrap_or_default();
        let mut file = private().create_new(true).open(to.join(name)).map_err(failed)?;
        file.write_all(&content).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    let mut report = String::new();
    for log in source.records.logs().await.map_err(|cause| unreadable(&cause))? {
        let name = format!("{log}.jsonl");
        let file = private().create_new(true).open(to.join(&name)).map_err(failed)?;
        let mut lines = BufWriter::new(file);
        let (mut next, mut count) = (0, 0_u64);
        loop {
            let page = source.records.log_page(&log, next).await;
            let page = page.map_err(|cause| unreadable(&cause))?;
            let exported = match &page {
                Page::Entries(entries) if entries.is_empty() => break,
                Page::Entries(entries) => entries.iter().map(exported).collect::<Vec<_>>(),
                Page::Hashes(hashes) => hashes.iter().map(exported_hash).collect(),
            };
            lines.write_all(&exported.concat()).map_err(failed)?;
            count = count.saturating_add(exported.len() as u64);
            next = match page {
                Page::Entries(entries) => entries.last().map_or(next, Row::sequence),
                Page::Hashes(hashes) => next.saturating_add(hashes.len() as u64).saturating_sub(1),
            }
            .saturating_add(1);
        }
        let file = lines.into_inner().map_err(|cause| failed(cause.into_error()))?;
        file.sync_all().map_err(failed)?;
        report.push_str(&format!("{}: {count} entries\n", to.join(name).display()));
    }
    write(report)
}

/// A line of JSON as it is, and a brief entry in hexadecimal.
fn exported(entry: &Row) -> Vec<u8> {
    let line = match entry.is_line() {
        true => entry.entry().to_vec(),
        false => base16ct::lower::encode_string(entry.entry()).into_bytes(),
    };
    [line.as_slice(), b"\n"].concat()
}

/// The hash of a leaf whose entry was removed: 64 digits, and shorter than any brief entry.
fn exported_hash(hash: &Hash) -> Vec<u8> {
    (base16ct::lower::encode_string(hash) + "\n").into_bytes()
}

/// Prints an entry by its number.
pub(super) async fn show(show: AuditShow) -> Result<(), Failure> {
    let source = Source::open(&show.data).await?;
    let missing = |what: String| {
        let advice = "run `authority audit verify` to see which entries there are";
        Failure::new(Exit::Refused, what, advice)
    };
    let logs = source.records.logs().await.map_err(|cause| unreadable(&cause))?;
    let log = match (show.log, logs.as_slice()) {
        (Some(log), _) => log,
        (None, [log]) => log.clone(),
        (None, []) => return Err(missing("the log has no entries".to_owned())),
        (None, _) => {
            let logs = logs.join(", ");
            let advice = "choose one with --log ID";
            return Err(Failure::new(
                Exit::Usage,
                format!("several authorities have a log: {logs}"),
                advice,
            ));
        }
    };
    let removed = source.records.removed_hashes(&log, show.number).await;
    let page = source.records.log_entries(&log, show.number, 1).await;
    let page = page.map_err(|cause| unreadable(&cause))?;
    let entry = page.first().filter(|entry| entry.sequence() == show.number);
    let none = || match removed {
        Ok(Some(_)) => {
            missing(format!("entry {} of log {log} was removed by the retention", show.number))
        }
        _ => missing(format!("log {log} has no entry {}", show.number)),
    };
    let entry = entry.ok_or_else(none)?;
    let damaged = || unreadable(&StoreError::Unreadable(format!("entry {}", show.number)));
    let entry = entry.shown().ok_or_else(damaged)?;
    write(format!("{}\n", escape_json(&format!("{entry:#}"))))
}
