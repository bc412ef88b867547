//! The state of a stream of requests and responses: which are answered, and when something is sent unasked.

use host::terminal::escape;
use proto::envoy::Any;
use proto::envoy::core::Node;
use proto::envoy::discovery::{DiscoveryRequest, DiscoveryResponse};
use tonic::Status;

use super::secrets::{SECRET_TYPE, Wanted};
use crate::config::SdsNames;
use crate::workload_api::Identities;

/// Names in a request.
const MAX_NAMES: usize = 256;

/// Bytes of Envoy's reason that go into the log.
const MAX_REASON: usize = 512;

/// What a request or a change leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    Send(DiscoveryResponse),
    Nothing,
    /// Envoy has rejected the last response, for this reason. It is not sent again.
    Rejected(String),
}

/// One stream.
pub(super) struct Conversation {
    names: SdsNames,
    /// Of the first request; Envoy states it only there.
    node: Option<Node>,
    /// What is asked for; `None` before the first request.
    wanted: Option<Wanted>,
    /// The nonce of the last response. Until there is one, the nonce of a request is of an earlier stream.
    nonce: Option<u64>,
    sent: Vec<Any>,
}

impl Conversation {
    pub(super) fn new(names: &SdsNames) -> Self {
        Self { names: names.clone(), node: None, wanted: None, nonce: None, sent: Vec::new() }
    }

    /// A request: the first one, an acknowledgement, or one for other names.
    ///
    /// # Errors
    /// It is invalid, or asks for what the caller may not have. The stream ends.
    pub(super) fn request(
        &mut self,
        request: DiscoveryRequest,
        identities: &Identities,
    ) -> Result<Reply, Status> {
        if !matches!(request.type_url.as_str(), "" | SECRET_TYPE) {
            return Err(Status::invalid_argument(format!("type_url is not {SECRET_TYPE}")));
        }
        if request.resource_names.len() > MAX_NAMES {
            return Err(Status::invalid_argument(format!("more than {MAX_NAMES} resource names")));
        }
        if let Some(node) = request.node {
            self.node.get_or_insert(node);
        }
        let is_stale = |nonce: u64| {
            !request.response_nonce.is_empty() && text(nonce) != request.response_nonce
        };
        if self.nonce.is_some_and(is_stale) {
            return Ok(Reply::Nothing);
        }
        let wanted = Wanted::new(request.resource_names, &self.names, self.node.as_ref());
        if self.wanted.as_ref() != Some(&wanted) {
            self.wanted = Some(wanted);
            return self.send(identities);
        }
        Ok(match request.error_detail {
            Some(error) => {
                let reason: String = error.message.chars().take(MAX_REASON).collect();
                Reply::Rejected(escape(&reason))
            }
            None => Reply::Nothing,
        })
    }

    /// The identities have changed.
    ///
    /// # Errors
    /// The caller may no longer have what it asked for. The stream ends.
    pub(super) fn changed(&mut self, identities: &Identities) -> Result<Reply, Status> {
        let Some(wanted) = &self.wanted else { return Ok(Reply::Nothing) };
        match wanted.secrets(identities)? == self.sent {
            true => Ok(Reply::Nothing),
            false => self.send(identities),
        }
    }

    fn send(&mut self, identities: &Identities) -> Result<Reply, Status> {
        let Some(wanted) = &self.wanted else { return Ok(Reply::Nothing) };
        let resources = wanted.secrets(identities)?;
        resources.clone_into(&mut self.sent);
        let version = self.nonce.map_or(0, |nonce| nonce.wrapping_add(1));
        self.nonce = Some(version);
        Ok(Reply::Send(DiscoveryResponse {
            version_info: version.to_string(),
            resources,
            type_url: SECRET_TYPE.to_owned(),
            nonce: text(version),
        }))
    }
}

/// A nonce is compared with that of the same stream only.
fn text(nonce: u64) -> String {
    format!("{nonce:08x}")
}
