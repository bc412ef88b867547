//! authority get, authority rm

use host::clock::Clock;
use host::exit::Failure;
use host::output::write;
use host::terminal::{escape_json, is_printable};
use proto::v1::GetRequest;
use serde::Serialize;
use time::OffsetDateTime;

use super::client::{Operator, connect, refused};
use super::resources;
use crate::cli::which::{Asked, Selection, Which};
use crate::cli::{Format, Get, Rm};
use crate::resource::{self, Kind, Resource};

pub(super) async fn get(get: Get) -> Result<(), Failure> {
    let mut authority = connect(&get.data).await?;
    let is_list = !matches!(&get.which[..], [Asked::Some(Which { some: Selection::One(_), .. })]);
    let mut output = Output { format: get.format, is_list, count: 0, now: Clock::system().now() };
    for which in get.which.iter().flat_map(kinds) {
        let mut answers = Answers::new(&mut authority, which.kind, which.some.words());
        while let Some(resources) = answers.next().await? {
            write(output.next(&resources)?)?;
        }
    }
    write(output.end())
}

/// What can be created again is everything.
fn kinds(asked: &Asked) -> Vec<Which> {
    const ALL: [Kind; 4] = [Kind::Bot, Kind::Token, Kind::Lock, Kind::WorkloadIdentity];
    match asked {
        Asked::All => ALL.map(|kind| Which { kind, some: Selection::All }).to_vec(),
        Asked::Some(which) => vec![which.clone()],
    }
}

/// Resources as text, one after the other.
struct Output {
    format: Format,
    is_list: bool,
    count: usize,
    now: OffsetDateTime,
}

impl Output {
    fn next(&mut self, resources: &[Resource]) -> Result<String, Failure> {
        let mut text = String::new();
        for resource in resources {
            let shown = Shown::new(resource, self.now);
            match (self.format, self.count) {
                (Format::Yaml, 0) => {}
                (Format::Yaml, _) => text.push_str("---\n"),
                (Format::Json, _) if !self.is_list => {}
                (Format::Json, 0) => text.push_str("[\n"),
                (Format::Json, _) => text.push_str(",\n"),
            }
            match self.format {
                Format::Yaml => text.push_str(&yaml(&shown)?),
                Format::Json if self.is_list => text.push_str(&indented(&json(&shown)?)),
                Format::Json => text.push_str(&json(&shown)?),
            }
            self.count = self.count.saturating_add(1);
        }
        Ok(text)
    }

    fn end(&self) -> &'static str {
        match (self.format, self.count) {
            (Format::Json, 0) => "[]\n",
            (Format::Json, _) if self.is_list => "\n]\n",
            (Format::Json | Format::Yaml, _) => "",
        }
    }
}

/// A resource alone.
pub(super) fn document(resource: &Resource, format: Format) -> Result<String, Failure> {
    let shown = Shown::new(resource, Clock::system().now());
    match format {
        Format::Yaml => yaml(&shown),
        Format::Json => json(&shown),
    }
}

/// A value of an array, without the end of its last line.
fn indented(json: &str) -> String {
    let lines: Vec<_> = json.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// A resource as it is shown. What is not part of its document is ignored when that is created again.
#[derive(Serialize)]
struct Shown<'r> {
    #[serde(flatten)]
    resource: &'r Resource,
    /// Of a lock; a bot instance has a status of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<LockStatus>,
}

#[derive(Serialize)]
struct LockStatus {
    /// A lock that has ended stays on record for a while.
    in_force: bool,
}

impl<'r> Shown<'r> {
    fn new(resource: &'r Resource, now: OffsetDateTime) -> Self {
        let status = match resource {
            Resource::Lock(lock) => Some(LockStatus { in_force: lock.in_force(now) }),
            Resource::Bot(_)
            | Resource::Token(_)
            | Resource::BotInstance(_)
            | Resource::WorkloadIdentity(_) => None,
        };
        Self { resource, status }
    }
}

pub(super) async fn rm(rm: Rm) -> Result<(), Failure> {
    let mut authority = connect(&rm.data).await?;
    let (kind, name) = (rm.which.kind, rm.which.some.words());
    resources::remove(&mut authority, kind, name).await?;
    write(format!("{kind} {name:?} has been removed\n"))
}

/// Resources in one answer at most.
const LIMIT: u32 = 1000;

/// The resources of a kind, one page after the other.
pub(super) struct Answers<'a> {
    authority: &'a mut Operator,
    kind: Kind,
    /// None after the last one.
    request: Option<GetRequest>,
}

impl<'a> Answers<'a> {
    /// All of the kind if the name is empty.
    pub(super) fn new(authority: &'a mut Operator, kind: Kind, name: &str) -> Self {
        let (kind_name, name) = (kind.to_string(), name.to_owned());
        let request = GetRequest { kind: kind_name, name, after: String::new(), limit: LIMIT };
        Self { authority, kind, request: Some(request) }
    }

    async fn next(&mut self) -> Result<Option<Vec<Resource>>, Failure> {
        let Some(request) = self.request.take() else { return Ok(None) };
        let response = self.authority.get(request.clone()).await;
        let response = response.map_err(|cause| refused(&cause))?.into_inner();
        if !response.next.is_empty() {
            self.request = Some(GetRequest { after: response.next, ..request });
        }
        let resources = response.resources.iter().map(|json| Resource::from_json(self.kind, json));
        resources.collect::<Result<Vec<_>, _>>().map(Some).map_err(Failure::bug)
    }

    /// All of them, in memory at once.
    pub(super) async fn all(mut self) -> Result<Vec<Resource>, Failure> {
        let mut all = Vec::new();
        while let Some(resources) = self.next().await? {
            all.extend(resources);
        }
        Ok(all)
    }
}

fn yaml(resource: &Shown<'_>) -> Result<String, Failure> {
    let text = resource::to_yaml(resource).map_err(Failure::bug)?;
    let is_harmless = text.chars().all(|c| is_printable(c) || c == '\n');
    // JSON is YAML, and has an escape for every character.
    if is_harmless { Ok(text) } else { json(resource) }
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| escape_json(&text) + "\n").map_err(Failure::bug)
}
