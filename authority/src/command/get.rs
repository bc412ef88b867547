//! authority get, authority rm

use host::clock::Clock;
use host::exit::Failure;
use host::output::write;
use host::terminal::{escape_json, is_printable};
use proto::v1::admin_service_client::AdminServiceClient;
use proto::v1::{GetRequest, RemoveRequest};
use serde::Serialize;
use time::OffsetDateTime;
use tonic::transport::Channel;

use super::client::{connect, refused};
use crate::cli::{Format, Get, Rm, Selection};
use crate::resource::{self, Kind, Resource};

pub(super) async fn get(get: Get) -> Result<(), Failure> {
    let mut authority = connect(&get.data).await?;
    let request =
        GetRequest { kind: get.which.kind.to_string(), name: get.which.some.words().to_owned() };
    let resources = resources(&mut authority, get.which.kind, request).await?;
    let now = Clock::system().now();
    let shown: Vec<_> = resources.iter().map(|resource| Shown::new(resource, now)).collect();
    write(match (get.format, shown.as_slice()) {
        (Format::Yaml, all) => yaml(all)?,
        (Format::Json, [one]) if matches!(get.which.some, Selection::One(_)) => json(one)?,
        (Format::Json, all) => json(&all)?,
    })
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
            Resource::Bot(_) | Resource::Token(_) | Resource::BotInstance(_) => None,
        };
        Self { resource, status }
    }
}

pub(super) async fn rm(rm: Rm) -> Result<(), Failure> {
    let mut authority = connect(&rm.data).await?;
    let (kind, name) = (rm.which.kind, rm.which.some.words());
    let request = RemoveRequest { kind: kind.to_string(), name: name.to_owned() };
    authority.remove(request).await.map_err(|cause| refused(&cause))?;
    write(format!("{kind} {name:?} has been removed\n"))
}

/// What the authority has of a kind.
pub(super) async fn resources(
    authority: &mut AdminServiceClient<Channel>,
    kind: Kind,
    request: GetRequest,
) -> Result<Vec<Resource>, Failure> {
    let response = authority.get(request).await.map_err(|cause| refused(&cause))?.into_inner();
    let resources = response.resources.iter().map(|json| Resource::from_json(kind, json));
    resources.collect::<Result<Vec<_>, _>>().map_err(Failure::bug)
}

fn yaml(resources: &[Shown<'_>]) -> Result<String, Failure> {
    let document = |resource: &Shown<'_>| {
        let text = resource::to_yaml(resource).map_err(Failure::bug)?;
        let is_harmless = text.chars().all(|c| is_printable(c) || c == '\n');
        // JSON is YAML, and has an escape for every character.
        if is_harmless { Ok(text) } else { json(resource) }
    };
    let documents: Result<Vec<_>, _> = resources.iter().map(document).collect();
    documents.map(|documents| documents.join("---\n"))
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| escape_json(&text) + "\n").map_err(Failure::bug)
}
