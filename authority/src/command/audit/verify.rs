//! authority audit verify

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use host::exit::{Exit, Failure};
use host::output::write;
use serde_json::json;

use super::source::{Source, unreadable};
use crate::audit::checkpoint::{LogPublicKey, claimed};
use crate::audit::replay::{Finding, shown_root};
use crate::cli::{AuditVerify, ListFormat};
use crate::data_directory::DataDirectory;
use crate::store::{KeptHead, Verified};

/// What is not known without a head that was kept elsewhere.
const UNKNOWN: &str = "without --head it is not known whether the end of the log was cut off, the whole store was replaced by an older one, or \
                       everything was written again by someone with the keys of the authority";

pub(super) async fn verify(verify: AuditVerify) -> Result<(), Failure> {
    let directory = DataDirectory::new(&verify.data.data_dir);
    let key = public_key(&directory)?;
    let kept: Vec<_> = verify.head.iter().map(|file| kept(file, &key)).collect::<Result<_, _>>()?;
    let source = Source::open(&verify.data).await?;
    let verified = source.records.verify(&kept).await.map_err(|cause| unreadable(&cause))?;
    match verify.format {
        ListFormat::Text => write(text(&verified, &kept))?,
        ListFormat::Json => write(json(&verified, &kept))?,
    }
    match verified.findings.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Data,
            "the log or the records were changed",
            "keep the store and the heads as they are, and find out who could write to them; docs/authority.md, section The log",
        )),
    }
}

fn public_key(directory: &DataDirectory) -> Result<LogPublicKey, Failure> {
    let path = directory.log_public_key();
    let shown = path.display();
    let text = fs::read_to_string(&path)
        .map_err(|cause| Failure::io(&cause, format!("cannot read {shown}")))?;
    text.trim_end().parse().map_err(|cause| {
        let advice = "start the authority: it writes the file again";
        Failure::new(Exit::Data, format!("{shown}: {cause}"), advice)
    })
}

/// A head that was kept elsewhere. That of another authority with the same database is signed with another key, which is not
/// known here.
fn kept(file: &Path, key: &LogPublicKey) -> Result<KeptHead, Failure> {
    let shown = file.display();
    let note = fs::read_to_string(file)
        .map_err(|cause| Failure::io(&cause, format!("cannot read {shown}")))?;
    let wrong = |cause: &dyn std::fmt::Display| {
        let advice = "give a file with a signed head, as the authority has written it to log.head";
        Failure::new(Exit::Data, format!("{shown}: {cause}"), advice)
    };
    let (origin, head) = claimed(&note).ok_or_else(|| wrong(&"it is not the head of a log"))?;
    if origin == key.origin().to_string() {
        key.open(&note).map_err(|cause| wrong(&cause))?;
    }
    let authority = origin.rsplit_once('/').map_or(origin, |(_, authority)| authority);
    Ok((authority.to_owned(), head))
}

fn text(verified: &Verified, kept: &[KeptHead]) -> String {
    let mut text = String::new();
    for (log, head) in &verified.logs {
        let _ = writeln!(text, "log {log}: size {}, root {}", head.size, shown_root(head));
    }
    for (log, head) in kept {
        let is_found = !verified.findings.iter().any(|(of, finding)| {
            of.as_ref() == Some(log)
                && matches!(finding, Finding::Rewritten(_) | Finding::Cut(..) | Finding::Missing(_))
        });
        if is_found {
            let _ = writeln!(text, "log {log}: it extends the head of size {}", head.size);
        }
    }
    for (log, first) in &verified.kept_from {
        let _ = writeln!(
            text,
            "log {log}: entries before {first} were removed by the retention, and are verified by their hashes alone"
        );
    }
    let _ = writeln!(text, "records: {} compared with the log", verified.records);
    for (log, finding) in &verified.findings {
        let log = log.as_ref().map(|log| format!("log {log}: ")).unwrap_or_default();
        let _ = writeln!(text, "WRONG: {log}{finding}");
    }
    if verified.more > 0 {
        let _ = writeln!(text, "WRONG: {} more findings", verified.more);
    }
    if verified.findings.is_empty() {
        text.push_str("verified\n");
    }
    if kept.is_empty() {
        let _ = writeln!(text, "note: {UNKNOWN}");
    }
    text
}

fn json(verified: &Verified, kept: &[KeptHead]) -> String {
    let head =
        |(log, head): &KeptHead| json!({"log": log, "size": head.size, "root": shown_root(head)});
    let finding = |(log, finding): &(Option<String>, Finding)| json!({"log": log, "finding": finding.to_string()});
    let report = json!({
        "verified": verified.findings.is_empty(),
        "logs": verified.logs.iter().map(head).collect::<Vec<_>>(),
        "heads": kept.iter().map(head).collect::<Vec<_>>(),
        "kept_from": verified.kept_from.iter().cloned().collect::<BTreeMap<_, _>>(),
        "records": verified.records,
        "findings": verified.findings.iter().map(finding).collect::<Vec<_>>(),
        "more_findings": verified.more,
    });
    format!("{report:#}\n")
}
