//! authority audit ls

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Split, Write};
use std::path::PathBuf;

use host::clock::Clock;
use host::exit::Failure;
use host::terminal::escape_json;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::warn;

use super::super::table::{Columns, to_seconds};
use super::source::{Source, unreadable};
use crate::audit::Row;
use crate::cli::{AuditLs, ListFormat, Moment};
use crate::data_directory::DataDirectory;
use crate::resource::Timestamp;
use crate::store::Records;

/// Entries that are read at once.
const PAGE: usize = 512;

/// Rows that are put under each other before they are written.
const ROWS: usize = 200;

/// Reads the entries of the log, and from the file what is only there: single refusals.
pub(super) async fn ls(ls: &AuditLs) -> Result<(), Failure> {
    let directory = DataDirectory::new(&ls.data.data_dir);
    let source = Source::find(&ls.data).await?;
    let mut streams = Vec::new();
    if let Some(source) = &source {
        for log in source.records.logs().await.map_err(|cause| unreadable(&cause))? {
            streams.push(Stream::Log(Entries { log, next: Some(0), rows: VecDeque::new() }));
        }
    }
    let lines = Lines::open(directory.audit(), source.is_some())?;
    streams.extend(lines.map(Stream::File));
    let records = source.as_ref().map(|source| &source.records);
    let mut events = Merged { records, streams: Vec::new(), damaged: 0 };
    for stream in streams {
        events.advance(stream).await?;
    }
    let filter = Filter::new(ls);
    let mut output = Output { format: ls.format, columns: Columns::new(TITLES), rows: Vec::new() };
    while let Some((event, time)) = events.next().await? {
        if filter.takes(&event, time) && !output.write(&event)? {
            return Ok(());
        }
    }
    if events.damaged > 0 {
        warn!(lines = events.damaged, "malformed events were skipped");
    }
    output.end()
}

/// What is shown.
struct Filter<'a> {
    ls: &'a AuditLs,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
}

impl<'a> Filter<'a> {
    fn new(ls: &'a AuditLs) -> Self {
        let now = Clock::system().now();
        let at = |moment: Option<Moment>| {
            moment.map(|moment| match moment {
                Moment::At(time) => time.0,
                Moment::Ago(span) => now - span,
            })
        };
        Self { ls, since: at(ls.since), until: at(ls.until) }
    }

    fn takes(&self, event: &Value, time: OffsetDateTime) -> bool {
        let ls = self.ls;
        let is = |field: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| event.get(field).is_some_and(|value| value == wanted))
        };
        self.since.is_none_or(|since| since <= time)
            && self.until.is_none_or(|until| time < until)
            && (!ls.refused || is("outcome", Some("refused")))
            && is("outcome", ls.outcome.map(|outcome| outcome.word()))
            && is("event", ls.event.as_deref())
            && is("bot_name", ls.bot.as_deref())
            && is("bot_instance_id", ls.instance.as_deref())
    }
}

/// An event, and when it was.
type Timed = (Value, OffsetDateTime);

fn timed(event: Value) -> Option<Timed> {
    let time = event.get("time")?.as_str()?.to_owned();
    Some((event, Timestamp::try_from(time).ok()?.0))
}

/// Where events come from, in their order.
enum Stream {
    Log(Entries),
    File(Lines),
}

/// The entries of a log.
struct Entries {
    log: String,
    /// The number of the first one of the next page; none at the end.
    next: Option<u64>,
    rows: VecDeque<Row>,
}

impl Entries {
    async fn next(&mut self, records: &Records) -> Result<Option<Row>, Failure> {
        if let (Some(next), true) = (self.next, self.rows.is_empty()) {
            let page = records.log_entries(&self.log, next, PAGE).await;
            let page = page.map_err(|cause| unreadable(&cause))?;
            let last = page.last().filter(|_| page.len() == PAGE);
            self.next = last.map(|last| last.sequence().saturating_add(1));
            self.rows = page.into();
        }
        Ok(self.rows.pop_front())
    }
}

/// The lines of the file.
struct Lines {
    path: PathBuf,
    lines: Split<BufReader<File>>,
    /// Entries of the log come from there.
    without_entries: bool,
}

impl Lines {
    /// None if there is no file, but a log.
    fn open(path: PathBuf, without_entries: bool) -> Result<Option<Self>, Failure> {
        match File::open(&path) {
            Ok(file) => {
                let lines = BufReader::new(file).split(b'\n');
                Ok(Some(Self { path, lines, without_entries }))
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound && without_entries => Ok(None),
            Err(cause) => Err(Failure::io(&cause, format!("cannot read {}", path.display()))),
        }
    }
}

/// The events of several streams, by time.
struct Merged<'a> {
    records: Option<&'a Records>,
    /// With the next event of each.
    streams: Vec<(Stream, Timed)>,
    damaged: u64,
}

impl Merged<'_> {
    async fn next(&mut self) -> Result<Option<Timed>, Failure> {
        let streams = self.streams.iter().enumerate();
        let Some((first, _)) = streams.min_by_key(|(_, (_, (_, time)))| *time) else {
            return Ok(None);
        };
        let (stream, event) = self.streams.remove(first);
        self.advance_at(first, stream).await?;
        Ok(Some(event))
    }

    async fn advance(&mut self, stream: Stream) -> Result<(), Failure> {
        self.advance_at(self.streams.len(), stream).await
    }

    /// Reads the next event of a stream, and puts both back in their place, unless there is none.
    async fn advance_at(&mut self, place: usize, mut stream: Stream) -> Result<(), Failure> {
        loop {
            let event = match (&mut stream, self.records) {
                (Stream::Log(entries), Some(records)) => {
                    let Some(entry) = entries.next(records).await? else { return Ok(()) };
                    entry.shown().and_then(timed)
                }
                (Stream::Log(_), None) => return Ok(()),
                (Stream::File(Lines { path, lines, without_entries }), _) => {
                    let Some(line) = lines.next() else { return Ok(()) };
                    let line = line.map_err(|cause| {
                        Failure::io(&cause, format!("cannot read {}", path.display()))
                    })?;
                    let event: Option<Value> = serde_json::from_slice(&line).ok();
                    let is_entry = event.as_ref().is_some_and(|event| event.get("seq").is_some());
                    if line.is_empty() || (is_entry && *without_entries) {
                        continue;
                    }
                    event.and_then(timed)
                }
            };
            match event {
                Some(event) => {
                    self.streams.insert(place, (stream, event));
                    return Ok(());
                }
                None => self.damaged = self.damaged.saturating_add(1),
            }
        }
    }
}

/// What was found, as it is found.
struct Output {
    format: ListFormat,
    columns: Columns<7>,
    rows: Vec<[String; 7]>,
}

const TITLES: [&str; 7] = ["Time", "Event", "Result", "Bot", "Token", "EK", "By"];

impl Output {
    /// False if nobody reads any more.
    fn write(&mut self, event: &Value) -> Result<bool, Failure> {
        match self.format {
            ListFormat::Json => print(&format!("{}\n", escape_json(&event.to_string()))),
            ListFormat::Text => {
                self.rows.push(row(event));
                if self.rows.len() < ROWS { Ok(true) } else { self.flush() }
            }
        }
    }

    fn flush(&mut self) -> Result<bool, Failure> {
        let text = self.columns.lines(&self.rows);
        self.rows.clear();
        print(&text)
    }

    fn end(mut self) -> Result<(), Failure> {
        match self.format {
            ListFormat::Text if self.rows.is_empty() && self.columns.is_new() => {
                print("No events found.\n").map(|_| ())
            }
            ListFormat::Text => self.flush().map(|_| ()),
            ListFormat::Json => Ok(()),
        }
    }
}

/// False if nobody reads any more.
fn print(text: &str) -> Result<bool, Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => {
            written.map(|()| true).map_err(|cause| Failure::io(&cause, "cannot write to stdout"))
        }
    }
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
