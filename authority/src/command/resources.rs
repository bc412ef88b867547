//! Resources that commands read, create, replace and remove.

use host::exit::Failure;
use proto::v1::create_request::IfExists;
use proto::v1::{CreateRequest, RemoveRequest, ReplaceRequest};

use super::client::{Operator, refused};
use super::get::Answers;
use crate::resource::{Bot, Kind, Resource, Token};
use crate::wire::status::{Answer, answer};

/// The resource of this kind and name.
pub(super) async fn one(
    authority: &mut Operator,
    kind: Kind,
    name: &str,
) -> Result<Resource, Failure> {
    let found = Answers::new(authority, kind, name).all().await?;
    found.into_iter().next().ok_or_else(|| Failure::bug("a response without a resource"))
}

/// The bot of this name.
pub(super) async fn bot(authority: &mut Operator, name: &str) -> Result<Bot, Failure> {
    match one(authority, Kind::Bot, name).await? {
        Resource::Bot(bot) => Ok(bot),
        _ => Err(Failure::bug("a response with a resource of another kind")),
    }
}

/// The token of this name.
pub(super) async fn token(authority: &mut Operator, name: &str) -> Result<Token, Failure> {
    match one(authority, Kind::Token, name).await? {
        Resource::Token(token) => Ok(token),
        _ => Err(Failure::bug("a response with a resource of another kind")),
    }
}

/// Creates a resource, and returns what the authority warns of.
pub(super) async fn create(
    authority: &mut Operator,
    resource: &Resource,
) -> Result<Vec<String>, Failure> {
    let request = CreateRequest { yaml: json(resource)?, if_exists: IfExists::Refuse.into() };
    let response = authority.create(request).await.map_err(|cause| match answer(&cause) {
        Answer::Exists => Failure {
            advice: format!(
                "choose another name, or change it with `authority edit {}/{}`; nothing was changed",
                resource.kind(),
                resource.name()
            ),
            ..refused(&cause)
        },
        _ => refused(&cause),
    })?;
    Ok(response.into_inner().warnings)
}

/// Puts a resource in the place of one that is still as it was read.
pub(super) async fn replace(
    authority: &mut Operator,
    resource: &Resource,
    was: &Resource,
) -> Result<Vec<String>, Failure> {
    let request = ReplaceRequest { yaml: json(resource)?, was: json(was)? };
    let response = authority.replace(request).await.map_err(|cause| refused(&cause))?;
    Ok(response.into_inner().warnings)
}

/// Removes a resource.
pub(super) async fn remove(
    authority: &mut Operator,
    kind: Kind,
    name: &str,
) -> Result<(), Failure> {
    let request = RemoveRequest { kind: kind.to_string(), name: name.to_owned() };
    authority.remove(request).await.map(drop).map_err(|cause| refused(&cause))
}

/// JSON is YAML.
fn json(resource: &Resource) -> Result<String, Failure> {
    serde_json::to_string(resource).map_err(Failure::bug)
}
