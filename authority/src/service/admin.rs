//! The operators' requests. The listener of the socket has checked who may make them.

use std::fmt;
use std::sync::Arc;

use tls::CaPin;
use tracing::{info, warn};

use super::Authority;
use super::documents::Document;
use crate::audit::Author;
use crate::issue::{ClusterName, X509Ca};
use crate::keyring::Member;
use crate::resource::{self, DocumentError, InstanceId, Kind, Name, Resource, Timestamp};
use crate::store::{IfExists, Keyed, Put, Range, StoreError, Table};

/// Bytes of resources after which an answer ends and another one goes on.
const MAX_ANSWER: usize = 1024 * 1024;

/// The operator's side of an authority.
pub(crate) struct Admin(pub(crate) Arc<Authority>);

/// What an operator sees of the authority.
pub(crate) struct Overview {
    pub(crate) cluster: ClusterName,
    pub(crate) version: &'static str,
    /// Who computes signatures and elliptic curves.
    pub(crate) cryptography: ecc::Implementation,
    /// Of each X.509 CA that hosts are to trust; the one that signs is the first.
    pub(crate) ca_pins: Vec<CaPin>,
    pub(crate) warnings: Vec<String>,
    /// The authorities, if several can share the store.
    pub(crate) authorities: Vec<Member>,
    pub(crate) recovery_since: Option<Timestamp>,
    /// When the last backup was made.
    pub(crate) last_backup: Option<Timestamp>,
}

/// The result of storing resources.
pub(crate) struct Stored {
    pub(crate) changes: Vec<Change>,
    /// About what was stored, such as a lock on an unknown target.
    pub(crate) warnings: Vec<String>,
}

/// A resource that was stored.
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) put: Put,
}

/// Which part of a list an answer is to have.
pub(crate) struct Page {
    /// Only what comes after this one, which is [`Listing::next`] of the answer before.
    pub(crate) after: Option<String>,
    /// At most so many; without it, all of them.
    pub(crate) limit: Option<usize>,
}

/// Resources in the order of their names.
pub(crate) struct Listing {
    /// A JSON document each.
    pub(crate) resources: Vec<String>,
    /// The key after which the next page begins, if there are more.
    pub(crate) next: Option<String>,
}

/// Why an operator's request failed.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// The document is wrong.
    Document(DocumentError),
    /// A kind, a name or a choice is wrong.
    InvalidArgument(String),
    /// There is no such resource.
    NotFound(Kind, String),
    /// The store failed.
    Store(StoreError),
    /// The authority's own fault.
    Internal(String),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(cause) => cause.fmt(f),
            Self::InvalidArgument(cause) | Self::Internal(cause) => f.write_str(cause),
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

    pub(crate) async fn status(&self) -> Result<Overview, AdminError> {
        let keys = self.0.issuer.keyring().keys();
        let pin = |ca: &Arc<X509Ca>| {
            let pin = CaPin::of_certificate(ca.certificate());
            pin.map_err(|cause| AdminError::Internal(cause.to_string()))
        };
        Ok(Overview {
            cluster: self.0.issuer.cluster().clone(),
            version: env!("CARGO_PKG_VERSION"),
            cryptography: ecc::implementation(),
            ca_pins: keys.x509.trusted().map(pin).collect::<Result<_, _>>()?,
            warnings: self.0.warnings().await,
            authorities: self.sharing().await?,
            recovery_since: self.recovery_since().await?,
            last_backup: self.0.records.last_backup().await.map_err(AdminError::Store)?,
        })
    }

    /// Rows of a table that the log consists of or tells of, and whether there are more.
    pub(crate) async fn rows(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Keyed>, bool), AdminError> {
        let unknown = || AdminError::InvalidArgument(format!("table {table:?} cannot be read"));
        let table = Table::of_the_log().find(|one| one.in_events() == table);
        let range = Range { table: table.ok_or_else(unknown)?, prefix, after, limit };
        Ok(self.0.records.rows(range, MAX_ANSWER).await?)
    }

    /// The public keys of the cluster as a document.
    pub(crate) fn export(&self, document: Document) -> Result<String, AdminError> {
        let content = self.0.document(document);
        content.map_err(|cause| AdminError::Internal(cause.to_string()))?.ok_or_else(|| {
            AdminError::InvalidArgument(
                "the issuer of JWTs has no URL: set `jwt.issuer` in the authority's configuration"
                    .to_owned(),
            )
        })
    }

    /// Stores a YAML stream of documents: all of them, or none.
    pub(crate) async fn create(
        &self,
        yaml: &str,
        if_exists: IfExists,
        author: Author,
    ) -> Result<Stored, AdminError> {
        let resources = resource::read(yaml).map_err(AdminError::Document)?;
        self.put(resources, if_exists, author).await
    }

    /// Stores a document in the place of a resource that is still as it was read.
    pub(crate) async fn replace(
        &self,
        yaml: &str,
        was: &str,
        author: Author,
    ) -> Result<Stored, AdminError> {
        let resources = resource::read(yaml).map_err(AdminError::Document)?;
        let [resource] = &resources[..] else {
            return Err(AdminError::InvalidArgument("not one resource".into()));
        };
        let was = Resource::from_json(resource.kind(), was);
        let was = was.map_err(|cause| AdminError::InvalidArgument(cause.to_string()))?;
        if was.name() != resource.name() {
            let message = format!("{} {:?} is another one", was.kind(), was.name().as_str());
            return Err(AdminError::InvalidArgument(message));
        }
        self.put(resources, IfExists::ReplaceThis(Arc::new(was)), author).await
    }

    async fn put(
        &self,
        resources: Vec<Resource>,
        if_exists: IfExists,
        author: Author,
    ) -> Result<Stored, AdminError> {
        let resources = Arc::new(resources);
        let (records, put) = (self.0.records.clone(), Arc::clone(&resources));
        let puts = async move { records.put(&put, if_exists, author).await };
        let puts = self.0.audited(puts).await?;
        let changes = resources.iter().zip(puts).map(|(resource, put)| {
            let (kind, name) = (resource.kind(), resource.name().to_string());
            let replaced = put == Put::Replaced;
            info!(kind = kind.to_string(), name, replaced, "resource stored");
            Change { kind, name, put }
        });
        let changes = changes.collect();
        Ok(Stored { changes, warnings: self.warnings(&resources).await })
    }

    /// The resources are stored even if the warnings cannot be determined.
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

    /// The resource of this kind with this name, or all of the kind if the name is empty.
    pub(crate) async fn get(
        &self,
        kind: &str,
        name: &str,
        page: Page,
    ) -> Result<Listing, AdminError> {
        let kind = kind_named(kind)?;
        match Which::read(kind, name)? {
            Which::All(bot) => self.list(kind, bot.as_ref(), page).await,
            Which::One(name) => {
                let resource = self.0.records.resource(kind, &name).await?;
                let resource = resource.filter(|one| !self.is_gone(one));
                let resource = resource.ok_or(AdminError::NotFound(kind, name))?;
                Ok(Listing { resources: vec![json(&resource)?], next: None })
            }
        }
    }

    /// As many as are asked for, or fit into an answer.
    async fn list(
        &self,
        kind: Kind,
        bot: Option<&Name>,
        page: Page,
    ) -> Result<Listing, AdminError> {
        // A token may be as large as all the others together.
        let at_once = if kind == Kind::Token { 1 } else { 64 };
        let Page { mut after, limit } = page;
        let (limit, max_bytes) = match limit {
            None => (usize::MAX, usize::MAX),
            Some(limit) => (limit, MAX_ANSWER),
        };
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
                    return Ok(Listing { resources, next: after });
                }
            }
            if ended {
                return Ok(Listing { resources, next: None });
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
        kind: &str,
        name: &str,
        author: Author,
    ) -> Result<(), AdminError> {
        let kind = kind_named(kind)?;
        let Which::One(name) = Which::read(kind, name)? else {
            return Err(AdminError::InvalidArgument(format!(
                "{kind} {name:?} is not a valid name"
            )));
        };
        let (records, removed) = (self.0.records.clone(), name.clone());
        let remove = async move { records.remove(kind, &removed, author).await };
        self.0.audited(remove).await?;
        info!(%kind, %name, "resource removed");
        Ok(())
    }
}

fn json(resource: &Resource) -> Result<String, AdminError> {
    serde_json::to_string(resource).map_err(|cause| AdminError::Internal(cause.to_string()))
}

fn kind_named(word: &str) -> Result<Kind, AdminError> {
    Kind::from_word(word).ok_or_else(|| {
        AdminError::InvalidArgument(format!("unknown kind {word:?}; use {}", Kind::NAMES))
    })
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
    AdminError::InvalidArgument(cause.0)
}
