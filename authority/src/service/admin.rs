//! The operator's requests. Who may make them is decided where the socket is.

use std::fmt;
use std::sync::Arc;

use proto::v1::create_request::IfExists as WireIfExists;
use proto::v1::create_response::{Change, change::What};
use proto::v1::{
    CreateRequest, CreateResponse, GetRequest, GetResponse, RemoveRequest, RemoveResponse,
    StatusResponse,
};
use tls::CaPin;
use tracing::{info, warn};

use super::Authority;
use crate::audit::Author;
use crate::issue::X509Authority;
use crate::resource::{self, DocumentError, InstanceId, Kind, Name, Resource};
use crate::store::{IfExists, Put, StoreError};

/// Bytes of resources after which an answer ends and another one goes on.
const MAX_ANSWER: usize = 1024 * 1024;

/// The operator's side of an authority.
pub(crate) struct Admin(pub(crate) Arc<Authority>);

/// Why an operator's request failed.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// The document is wrong.
    Document(DocumentError),
    /// A kind, a name or a choice is wrong.
    Word(String),
    /// There is no such resource.
    NotFound(Kind, String),
    /// The store did not do it.
    Store(StoreError),
    /// The authority's own fault.
    Internal(String),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(cause) => cause.fmt(f),
            Self::Word(cause) | Self::Internal(cause) => f.write_str(cause),
            Self::NotFound(kind, name) => write!(f, "{kind} {name:?} not found"),
            Self::Store(cause) => cause.fmt(f),
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(cause: StoreError) -> Self {
        Self::Store(cause)
    }
}

impl Admin {
    /// Who makes a request now: the user of this number, if the system knows.
    pub(crate) fn author(&self, uid: Option<u32>) -> Author {
        Author::operator(uid, self.0.clock.now())
    }

    pub(crate) async fn status(&self) -> Result<StatusResponse, AdminError> {
        let keys = self.0.issuer.keyring().keys();
        let pin = |ca: &Arc<X509Authority>| {
            let pin = CaPin::of_certificate(ca.certificate());
            pin.map(|pin| pin.to_string()).map_err(|cause| AdminError::Internal(cause.to_string()))
        };
        Ok(StatusResponse {
            cluster: self.0.issuer.cluster().to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            ca_pins: keys.x509.trusted().map(pin).collect::<Result<_, _>>()?,
            warnings: self.0.warnings().await,
        })
    }

    pub(crate) async fn create(
        &self,
        request: &CreateRequest,
        author: Author,
    ) -> Result<CreateResponse, AdminError> {
        let if_exists = match request.if_exists() {
            WireIfExists::Refuse => IfExists::Refuse,
            WireIfExists::Replace => IfExists::Replace,
            WireIfExists::Unspecified => {
                return Err(AdminError::Word("if_exists must be set".into()));
            }
        };
        let resources = resource::read(&request.yaml).map_err(AdminError::Document)?;
        let resources = Arc::new(resources);
        let (records, put) = (self.0.records.clone(), Arc::clone(&resources));
        let puts = async move { records.put(&put, if_exists, author).await };
        let puts = self.0.audited(puts).await?;
        let changes = resources.iter().zip(puts).map(|(resource, put)| {
            let (kind, name) = (resource.kind().to_string(), resource.name().to_string());
            let what = match put {
                Put::Created => What::Created,
                Put::Replaced => What::Replaced,
            };
            info!(kind, name, replaced = put == Put::Replaced, "resource stored");
            Change { kind, name, what: what.into() }
        });
        let changes = changes.collect();
        Ok(CreateResponse { changes, warnings: self.warnings(&resources).await })
    }

    /// What is stored is stored, whatever becomes of the doubts.
    async fn warnings(&self, resources: &[Resource]) -> Vec<String> {
        let (mut all, now) = (Vec::new(), self.0.clock.now());
        for resource in resources {
            match self.0.resource_warnings(resource, now).await {
                Ok(doubts) => all.extend(doubts),
                Err(cause) => warn!(%cause, "cannot check the stored resources for warnings"),
            }
        }
        all
    }

    pub(crate) async fn get(&self, request: &GetRequest) -> Result<GetResponse, AdminError> {
        let kind = kind(&request.kind)?;
        match Which::read(kind, &request.name)? {
            Which::All(bot) => self.list(kind, bot.as_ref(), request).await,
            Which::One(name) => {
                let resource = self.0.records.resource(kind, &name).await?;
                let resource = resource.filter(|one| !self.is_gone(one));
                let resource = resource.ok_or(AdminError::NotFound(kind, name))?;
                Ok(GetResponse { resources: vec![json(&resource)?], next: String::new() })
            }
        }
    }

    /// As many as are asked for, or fit into an answer.
    async fn list(
        &self,
        kind: Kind,
        bot: Option<&Name>,
        request: &GetRequest,
    ) -> Result<GetResponse, AdminError> {
        // A token may be as large as all the others together.
        let at_once = if kind == Kind::Token { 1 } else { 64 };
        let (limit, max_bytes) = match request.limit {
            0 => (usize::MAX, usize::MAX),
            limit => (limit as usize, MAX_ANSWER),
        };
        let mut after = Some(request.after.clone()).filter(|after| !after.is_empty());
        let (mut resources, mut bytes) = (Vec::new(), 0);
        loop {
            let page = self.0.records.page(kind, bot, after.as_deref(), at_once).await?;
            let ended = page.len() < at_once;
            for (key, resource) in page {
                after = Some(key);
                if self.is_gone(&resource) {
                    continue;
                }
                let text = json(&resource)?;
                bytes = text.len().saturating_add(bytes);
                resources.push(text);
                if resources.len() >= limit || bytes >= max_bytes {
                    return Ok(GetResponse { resources, next: after.unwrap_or_default() });
                }
            }
            if ended {
                return Ok(GetResponse { resources, next: String::new() });
            }
        }
    }

    /// Whether it has ended, and is removed a little later.
    fn is_gone(&self, resource: &Resource) -> bool {
        let now = self.0.clock.now();
        resource.kind() == Kind::BotInstance && resource.metadata().expired(now)
    }

    pub(crate) async fn remove(
        &self,
        request: &RemoveRequest,
        author: Author,
    ) -> Result<RemoveResponse, AdminError> {
        let kind = kind(&request.kind)?;
        let Which::One(name) = Which::read(kind, &request.name)? else {
            return Err(AdminError::Word(format!("{kind} {:?} is not a valid name", request.name)));
        };
        let (records, removed) = (self.0.records.clone(), name.clone());
        let remove = async move { records.remove(kind, &removed, author).await };
        self.0.audited(remove).await?;
        info!(%kind, %name, "resource removed");
        Ok(RemoveResponse {})
    }
}

fn json(resource: &Resource) -> Result<String, AdminError> {
    serde_json::to_string(resource).map_err(|cause| AdminError::Internal(cause.to_string()))
}

fn kind(word: &str) -> Result<Kind, AdminError> {
    Kind::from_word(word)
        .ok_or_else(|| AdminError::Word(format!("unknown kind {word:?}: {}", Kind::WORDS)))
}

/// Which resources of a kind.
enum Which {
    /// All; of bot instances maybe only those of a bot.
    All(Option<Name>),
    /// The one with this name, or, of a bot instance, with this path.
    One(String),
}

impl Which {
    fn read(kind: Kind, words: &str) -> Result<Self, AdminError> {
        let name = |word: &str| word.parse::<Name>().map_err(word_refused);
        Ok(match (kind, words.split_once('/')) {
            (_, None) if words.is_empty() => Self::All(None),
            (Kind::BotInstance, None) => Self::All(Some(name(words)?)),
            (Kind::BotInstance, Some((bot, id))) => {
                let id: InstanceId = id.parse().map_err(word_refused)?;
                Self::One(resource::instance_path(&name(bot)?, &id))
            }
            (_, _) => Self::One(name(words)?.to_string()),
        })
    }
}

fn word_refused(cause: resource::Invalid) -> AdminError {
    AdminError::Word(cause.0)
}
