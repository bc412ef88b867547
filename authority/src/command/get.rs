//! authority get, authority rm

use proto::v1::{GetRequest, RemoveRequest};
use serde::Serialize;

use super::client::{connect, refused};
use super::{bug, print};
use crate::cli::{Format, Get, Rm};
use crate::exit::Failure;
use crate::resource::{self, Resource};

pub(super) async fn get(get: Get) -> Result<(), Failure> {
    let mut authority = connect(&get.data).await?;
    let request = GetRequest {
        kind: get.which.kind.to_string(),
        name: get.which.name.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let response = authority.get(request).await.map_err(|cause| refused(&cause))?.into_inner();
    let resources = response.resources.iter().map(|json| Resource::from_json(get.which.kind, json));
    let resources = resources.collect::<Result<Vec<_>, _>>().map_err(bug)?;
    print(match (get.format, resources.as_slice()) {
        (Format::Yaml, all) => yaml(all)?,
        (Format::Json, [one]) if get.which.name.is_some() => json(one)?,
        (Format::Json, all) => json(&all)?,
    })
}

pub(super) async fn rm(rm: Rm) -> Result<(), Failure> {
    let mut authority = connect(&rm.data).await?;
    let (kind, name) = rm.which;
    let request = RemoveRequest { kind: kind.to_string(), name: name.to_string() };
    authority.remove(request).await.map_err(|cause| refused(&cause))?;
    print(format!("{kind} {:?} has been removed\n", name.as_str()))
}

fn yaml(resources: &[Resource]) -> Result<String, Failure> {
    let documents: Result<Vec<_>, _> = resources.iter().map(resource::to_yaml).collect();
    documents.map(|documents| documents.join("---\n")).map_err(bug)
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(bug)
}
