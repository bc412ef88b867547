//! `endorse.v1` for operators, on the unix socket. Who may connect to it is decided there.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use der::pem::LineEnding;
use proto::v1::admin_service_server::AdminService;
use proto::v1::authority::State;
use proto::v1::change_ca_request::Step as WireStep;
use proto::v1::change_ca_response::Change as CaChange;
use proto::v1::create_request::IfExists as WireIfExists;
use proto::v1::create_response::{Change, change::What};
use proto::v1::export_request::Document as WireDocument;
use proto::v1::get_recovery_slots_response::Slot;
use proto::v1::read_table_response::Row;
use proto::v1::{
    AddAuthorityRequest, AddAuthorityResponse, Authority as WireAuthority, BackupRequest,
    BackupResponse, Ca, ChangeCaRequest, ChangeCaResponse, CreateRequest, CreateResponse,
    ExplainJoinRequest, ExplainJoinResponse, ExportRequest, ExportResponse,
    GetRecoverySlotsRequest, GetRecoverySlotsResponse, GetRequest, GetResponse,
    ListAuthoritiesRequest, ListAuthoritiesResponse, ListCasRequest, ListCasResponse,
    ReadTableRequest, ReadTableResponse, RemoveAuthorityRequest, RemoveAuthorityResponse,
    RemoveRequest, RemoveResponse, ReplaceRequest, SetRecoveryKeyRequest, SetRecoveryKeyResponse,
    StatusRequest, StatusResponse,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use super::{endorse_v1, teleport};
use crate::audit::Author;
use crate::backup::Producer;
use crate::issue::CaType;
use crate::keyring::{CaOverview, Caution, Member, MemberState, Step};
use crate::resource::Timestamp;
use crate::service::Authority;
use crate::service::admin::{Admin, AdminError, Page, Stored};
use crate::service::authorities::Members;
use crate::service::ca::Behind;
use crate::service::documents::Document;
use crate::store::{IfExists, Put};

/// Bytes of a backup in one message.
const BACKUP_PIECE: usize = 1024 * 1024;

/// How long an operator may take for a piece: as long as a backup is being made, the store keeps what it shows.
const BACKUP_PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// The service for operators.
pub(crate) struct Operators(Admin);

impl Operators {
    pub(crate) fn new(authority: Arc<Authority>) -> Self {
        Self(Admin(authority))
    }

    /// Who makes this request, now.
    fn author<T>(&self, request: &Request<T>) -> Author {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|peer| peer.peer_cred);
        self.0.author(peer.map(|peer| peer.uid()))
    }
}

#[tonic::async_trait]
impl AdminService for Operators {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let overview = self.0.status().await?;
        Ok(Response::new(StatusResponse {
            cluster: overview.cluster.to_string(),
            version: overview.version.to_owned(),
            cryptography: overview.cryptography.to_string(),
            ca_pins: overview.ca_pins.iter().map(ToString::to_string).collect(),
            warnings: overview.warnings,
            authorities: overview.authorities.into_iter().map(wire_authority).collect(),
            recovery_since: time(overview.recovery_since),
            last_backup: time(overview.last_backup),
        }))
    }

    async fn create(
        &self,
        request: Request<CreateRequest>,
    ) -> Result<Response<CreateResponse>, Status> {
        let author = self.author(&request);
        let request = request.into_inner();
        let stored = self.0.create(&request.yaml, if_exists(&request)?, author).await?;
        Ok(Response::new(stored.into()))
    }

    async fn replace(
        &self,
        request: Request<ReplaceRequest>,
    ) -> Result<Response<CreateResponse>, Status> {
        let author = self.author(&request);
        let ReplaceRequest { yaml, was } = request.into_inner();
        let stored = self.0.replace(&yaml, &was, author).await?;
        Ok(Response::new(stored.into()))
    }

    async fn export(
        &self,
        request: Request<ExportRequest>,
    ) -> Result<Response<ExportResponse>, Status> {
        let document = match request.into_inner().document() {
            WireDocument::SpiffeBundle => Document::SpiffeBundle,
            WireDocument::Jwks => Document::Jwks,
            WireDocument::OpenidConfiguration => Document::OpenIdConfiguration,
            WireDocument::Unspecified => {
                let message = "the document is not specified, or unknown";
                return Err(AdminError::InvalidArgument(message.to_owned()).into());
            }
        };
        Ok(Response::new(ExportResponse { content: self.0.export(document)? }))
    }

    type BackupStream = ReceiverStream<Result<BackupResponse, Status>>;

    async fn backup(
        &self,
        request: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let author = self.author(&request);
        let authority = Arc::clone(&self.0.0);
        let made = Timestamp(authority.clock.now());
        let snapshot = authority.snapshot().await.map_err(AdminError::Store)?;
        let backup = Producer::new(snapshot, made).await.map_err(AdminError::Store)?;
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            if send(backup, &sender).await
                && let Err(cause) = authority.backed_up(made, author).await
            {
                // The command fails: a backup that is not in the log is not complete.
                is_taken(&sender, Err(AdminError::Store(cause).into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let GetRequest { kind, name, after, limit } = request.into_inner();
        let page = Page {
            after: Some(after).filter(|after| !after.is_empty()),
            limit: usize::try_from(limit).ok().filter(|limit| *limit > 0),
        };
        let listing = self.0.get(&kind, &name, page).await?;
        let (resources, next) = (listing.resources, listing.next.unwrap_or_default());
        Ok(Response::new(GetResponse { resources, next }))
    }

    async fn read_table(
        &self,
        request: Request<ReadTableRequest>,
    ) -> Result<Response<ReadTableResponse>, Status> {
        let ReadTableRequest { table, prefix, after, limit } = request.into_inner();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (rows, more) = self.0.rows(&table, &prefix, after.as_deref(), limit).await?;
        let rows = rows.into_iter().map(|(key, value)| Row { key, value }).collect();
        Ok(Response::new(ReadTableResponse { rows, more }))
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        let author = self.author(&request);
        let RemoveRequest { kind, name } = request.into_inner();
        self.0.remove(&kind, &name, author).await?;
        Ok(Response::new(RemoveResponse {}))
    }

    async fn list_authorities(
        &self,
        _: Request<ListAuthoritiesRequest>,
    ) -> Result<Response<ListAuthoritiesResponse>, Status> {
        let Members { members, keyring } = self.0.authorities().await?;
        let authorities = members.into_iter().map(wire_authority).collect();
        Ok(Response::new(ListAuthoritiesResponse { authorities, keyring }))
    }

    async fn add_authority(
        &self,
        request: Request<AddAuthorityRequest>,
    ) -> Result<Response<AddAuthorityResponse>, Status> {
        let author = self.author(&request);
        let added = self.0.add_authority(&request.into_inner().request, author).await?;
        Ok(Response::new(AddAuthorityResponse { id: added.id, name: added.name.to_string() }))
    }

    async fn remove_authority(
        &self,
        request: Request<RemoveAuthorityRequest>,
    ) -> Result<Response<RemoveAuthorityResponse>, Status> {
        let author = self.author(&request);
        let name = self.0.remove_authority(&request.into_inner().authority, author).await?;
        Ok(Response::new(RemoveAuthorityResponse { name: name.to_string() }))
    }

    async fn set_recovery_key(
        &self,
        request: Request<SetRecoveryKeyRequest>,
    ) -> Result<Response<SetRecoveryKeyResponse>, Status> {
        let author = self.author(&request);
        self.0.set_recovery_key(&request.into_inner().public_key, author).await?;
        Ok(Response::new(SetRecoveryKeyResponse {}))
    }

    async fn get_recovery_slots(
        &self,
        _: Request<GetRecoverySlotsRequest>,
    ) -> Result<Response<GetRecoverySlotsResponse>, Status> {
        let slots = self.0.recovery_slots().await?.into_iter().map(|slot| Slot {
            r#type: slot.ca_type.as_str().to_owned(),
            state: slot.state.as_str().to_owned(),
            key_id: slot.key_id,
            wrapped: slot.wrapped.unwrap_or_default(),
        });
        Ok(Response::new(GetRecoverySlotsResponse { slots: slots.collect() }))
    }

    async fn explain_join(
        &self,
        request: Request<ExplainJoinRequest>,
    ) -> Result<Response<ExplainJoinResponse>, Status> {
        let formats = [&endorse_v1::FORMAT, &teleport::kept::FORMAT];
        let explanation = self.0.explain(&request.into_inner().join_id, &formats).await?;
        let explanation = serde_json::to_string(&explanation)
            .map_err(|cause| AdminError::Internal(cause.to_string()))?;
        Ok(Response::new(ExplainJoinResponse { explanation }))
    }

    async fn list_cas(
        &self,
        _: Request<ListCasRequest>,
    ) -> Result<Response<ListCasResponse>, Status> {
        let cas = self.0.cas().await?.into_iter();
        let cas = cas.map(|(ca, behind)| wire_ca(ca, behind)).collect::<Result<_, _>>()?;
        Ok(Response::new(ListCasResponse { cas }))
    }

    async fn change_ca(
        &self,
        request: Request<ChangeCaRequest>,
    ) -> Result<Response<ChangeCaResponse>, Status> {
        let author = self.author(&request);
        let request = request.into_inner();
        let (step, rotates) = match request.step() {
            WireStep::Prepare => (Step::Prepare, false),
            WireStep::Activate => (Step::Activate, false),
            WireStep::Retire => (Step::Retire, false),
            WireStep::Rotate => (Step::Prepare, true),
            WireStep::Taint => (Step::Taint, false),
            WireStep::Revoke => (Step::Revoke, false),
            WireStep::Unspecified => {
                return Err(AdminError::InvalidArgument("step must be set".into()).into());
            }
        };
        let caution = if request.force { Caution::Force } else { Caution::Wait };
        let types = request.types.iter().map(|word| {
            let unknown = || AdminError::InvalidArgument(format!("unknown type of CA {word:?}"));
            CaType::ALL.into_iter().find(|one| one.as_str() == word).ok_or_else(unknown)
        });
        let types = types.collect::<Result<Vec<_>, _>>()?;
        let changed = self.0.change_cas(&types, step, caution, rotates, author).await?;
        let changes = changed.changes.into_iter().map(|change| CaChange {
            r#type: change.ca_type.as_str().to_owned(),
            step: change.step.as_str().to_owned(),
            key_id: change.key_id,
        });
        Ok(Response::new(ChangeCaResponse { changes: changes.collect(), left: changed.left }))
    }
}

fn wire_ca(ca: CaOverview, behind: Option<Behind>) -> Result<Ca, AdminError> {
    let public_key = match ca.ca_type {
        CaType::X509 => {
            let der = Base64::decode_vec(&ca.public).unwrap_or_default();
            der::pem::encode_string("CERTIFICATE", LineEnding::LF, &der)
                .map_err(|cause| AdminError::Internal(cause.to_string()))?
        }
        CaType::Ssh | CaType::SshHost => format!("{}\n", ca.public),
        CaType::Jwt => String::new(),
    };
    let is_behind = behind.as_ref().is_some_and(|behind| !behind.is_none());
    let text = behind.as_ref().filter(|_| is_behind).map(ToString::to_string);
    let (authorities, instances, named) = behind
        .map(|behind| (behind.authorities, behind.instances, behind.named))
        .unwrap_or_default();
    let state = if ca.tainted.is_some() { "tainted" } else { ca.state.as_str() };
    Ok(Ca {
        r#type: ca.ca_type.as_str().to_owned(),
        key_id: ca.key_id,
        state: state.to_owned(),
        since: ca.since.to_string(),
        not_after: time(ca.not_after),
        public_key,
        rotating: ca.is_rotating,
        authorities_behind: authorities,
        instances_behind: instances,
        instances: named,
        behind: text.unwrap_or_default(),
    })
}

fn wire_authority(member: Member) -> WireAuthority {
    let state = match member.state {
        MemberState::Live => State::Live,
        MemberState::Missing => State::Missing,
        MemberState::Removed => State::Removed,
    };
    WireAuthority {
        id: member.id,
        name: member.name.to_string(),
        state: state.into(),
        seen: time(member.seen),
        version: member.version.unwrap_or_default(),
        address: member.address.unwrap_or_default(),
        keyring: member.keyring.unwrap_or_default(),
    }
}

/// RFC 3339; empty for none.
fn time(time: Option<Timestamp>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// Sends a backup as fast as it is taken; returns whether it was taken to its end.
async fn send(mut backup: Producer, sender: &BackupSender) -> bool {
    loop {
        let bytes = match backup.next().await {
            Ok(None) => return true,
            Ok(Some(part)) => part.encode().map_err(|cause| Status::internal(cause.to_string())),
            Err(cause) => Err(AdminError::Store(cause).into()),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(status) => {
                is_taken(sender, Err(status)).await;
                return false;
            }
        };
        for piece in bytes.chunks(BACKUP_PIECE) {
            if !is_taken(sender, Ok(BackupResponse { content: piece.to_vec() })).await {
                return false;
            }
        }
    }
}

type BackupSender = mpsc::Sender<Result<BackupResponse, Status>>;

/// Sends a message; returns whether the operator is still there and takes it in time.
async fn is_taken(sender: &BackupSender, message: Result<BackupResponse, Status>) -> bool {
    matches!(timeout(BACKUP_PIECE_TIMEOUT, sender.send(message)).await, Ok(Ok(())))
}

impl From<Stored> for CreateResponse {
    fn from(stored: Stored) -> Self {
        let changes = stored.changes.into_iter().map(|change| Change {
            kind: change.kind.to_string(),
            name: change.name,
            what: match change.put {
                Put::Created => What::Created.into(),
                Put::Replaced => What::Replaced.into(),
            },
        });
        Self { changes: changes.collect(), warnings: stored.warnings }
    }
}

fn if_exists(request: &CreateRequest) -> Result<IfExists, AdminError> {
    match request.if_exists() {
        WireIfExists::Refuse => Ok(IfExists::Refuse),
        WireIfExists::Replace => Ok(IfExists::Replace),
        WireIfExists::Unspecified => {
            Err(AdminError::InvalidArgument("if_exists must be set".into()))
        }
    }
}
