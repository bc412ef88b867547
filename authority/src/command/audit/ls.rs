//! authority audit ls

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use host::clock::Clock;
use host::exit::Failure;
use host::output::write;
use host::terminal::escape_json;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::warn;

use super::super::table::{table, to_seconds};
use crate::cli::{AuditLs, ListFormat, Since};
use crate::data_directory::DataDirectory;
use crate::resource::Timestamp;

/// Reads the file itself: the authority need not run.
pub(super) fn ls(ls: &AuditLs) -> Result<(), Failure> {
    let path = DataDirectory::new(&ls.data.data_dir).audit();
    let failed = |cause: &io::Error| Failure::io(cause, format!("cannot read {}", path.display()));
    let file = File::open(&path).map_err(|cause| failed(&cause))?;
    let since = ls.since.map(|since| match since {
        Since::At(time) => time.0,
        Since::Ago(span) => Clock::system().now() - span,
    });
    let (mut rows, mut damaged) = (Vec::new(), 0u64);
    let mut stdout = io::stdout().lock();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|cause| failed(&cause))?;
        let Some((event, time)) = read(&line) else {
            damaged = damaged.saturating_add(u64::from(!line.is_empty()));
            continue;
        };
        let is = |field: &str, wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| event.get(field).is_some_and(|value| value == wanted))
        };
        let wanted = since.is_none_or(|since| since <= time)
            && (!ls.refused || event.get("outcome").is_some_and(|outcome| outcome == "refused"))
            && is("event", &ls.event)
            && is("bot_name", &ls.bot)
            && is("bot_instance_id", &ls.instance);
        match ls.format {
            _ if !wanted => {}
            ListFormat::Text => rows.push(row(&event)),
            ListFormat::Json => match writeln!(stdout, "{}", escape_json(&event.to_string())) {
                Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => {
                    written.map_err(|cause| Failure::io(&cause, "cannot write to stdout"))?
                }
            },
        }
    }
    drop(stdout);
    if damaged > 0 {
        warn!(lines = damaged, "malformed lines in the audit log were skipped");
    }
    match (ls.format, rows.as_slice()) {
        (ListFormat::Json, _) => Ok(()),
        (ListFormat::Text, []) => write("No events found.\n"),
        (ListFormat::Text, rows) => write(table(TITLES, rows)),
    }
}

const TITLES: [&str; 7] = ["Time", "Event", "Result", "Bot", "Token", "EK", "By"];

fn read(line: &[u8]) -> Option<(Value, OffsetDateTime)> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let time = event.get("time")?.as_str()?.to_owned();
    Some((event, Timestamp::try_from(time).ok()?.0))
}

fn row(event: &Value) -> [String; 7] {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let result = match text("refusal") {
        code if code.is_empty() => text("outcome"),
        code => code,
    };
    let time = to_seconds(&text("time"));
    let ek = text("ek_pub_hash").chars().take(16).collect();
    let by = match (text("addr.remote"), event.get("unix_uid").and_then(Value::as_u64)) {
        (remote, _) if !remote.is_empty() => remote,
        (_, Some(uid)) => format!("{} (uid {uid})", text("user")),
        _ => text("user"),
    };
    [time, text("event"), result, text("bot_name"), text("token_name"), ek, by]
}
