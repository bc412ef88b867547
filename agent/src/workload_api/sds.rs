//! Envoy's Secret Discovery Service, version 3: the same identities in the form that Envoy configures its TLS with.
//!
//! [`Conversation`] decides what a request on a stream is answered with; [`secrets`] makes the content.

mod conversation;
mod secrets;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use proto::envoy::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use proto::envoy::secret::secret_discovery_service_server::SecretDiscoveryService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use self::conversation::{Conversation, Reply};
use super::server::{Peer, Served};
use super::updates;
use super::{Identities, Subscription};

#[tonic::async_trait]
impl SecretDiscoveryService for Served {
    type DeltaSecretsStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(
            "DeltaSecrets is not supported: use StreamSecrets (api_type GRPC)",
        ))
    }

    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (peer, subscription) = self.subscription(&request).await?;
        let (sender, stream) = mpsc::channel(1);
        let (requests, served) = (request.into_inner(), self.clone());
        let open = peer.counts().streams.begin();
        tokio::spawn(async move {
            let _open = open;
            let end = tokio::select! {
                end = served.answer(requests, subscription, &sender) => end,
                status = ended(&peer) => status,
                () = sender.closed() => return,
            };
            // An Envoy that has gone does not need the reason.
            let _ = sender.send(Err(end)).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let (_, mut subscription) = self.subscription(&request).await?;
        let identities = updates::first(&mut subscription).await?;
        let mut conversation = Conversation::new(&self.sds_names);
        match conversation.request(request.into_inner(), &identities)? {
            // Not of a stream: without version and nonce.
            Reply::Send(response) => Ok(Response::new(DiscoveryResponse {
                version_info: String::new(),
                nonce: String::new(),
                ..response
            })),
            Reply::Nothing | Reply::Rejected(_) => {
                Err(Status::internal("a request without response"))
            }
        }
    }
}

async fn ended(peer: &Arc<Peer>) -> Status {
    peer.ended().await
}

impl Served {
    /// Answers the requests of a stream, and sends what has changed in between, until its end.
    async fn answer(
        &self,
        mut requests: Streaming<DiscoveryRequest>,
        mut subscription: Subscription,
        sender: &mpsc::Sender<Result<DiscoveryResponse, Status>>,
    ) -> Status {
        let result: Result<std::convert::Infallible, Status> = async {
            let mut identities: Arc<Identities> = updates::first(&mut subscription).await?;
            let mut conversation = Conversation::new(&self.sds_names);
            loop {
                let reply = tokio::select! {
                    request = requests.next() => match request {
                        Some(request) => conversation.request(request?, &identities)?,
                        None => return Err(Status::unavailable("the stream of requests has ended")),
                    },
                    next = updates::next(&mut subscription) => {
                        identities = next?;
                        conversation.changed(&identities)?
                    }
                };
                match reply {
                    Reply::Send(response) => {
                        let sent = sender.send(Ok(response)).await;
                        sent.map_err(|_| Status::cancelled("Envoy has gone"))?;
                    }
                    Reply::Nothing => {}
                    Reply::Rejected(why) => {
                        self.log.warn("Envoy has rejected a secret", &[("reason", &why)]);
                    }
                }
            }
        }
        .await;
        match result {
            Ok(never) => match never {},
            Err(status) => status,
        }
    }
}
