//! What a caller may have, as a stream of messages that ends with the reason.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::server::Peer;
use super::{Identities, Subscription};

/// How long a caller waits for its first identities. Clients try again after less.
const FIRST_TIMEOUT: Duration = Duration::from_secs(30);

/// The messages of a call.
pub(super) type Messages<M> = ReceiverStream<Result<M, Status>>;

/// The identities of a caller, now or as soon as they are known.
///
/// # Errors
/// There are none, or it takes too long to find out.
pub(super) async fn first(subscription: &mut Subscription) -> Result<Arc<Identities>, Status> {
    let known = async {
        loop {
            let now = subscription.borrow_and_update().identities()?.cloned();
            match now {
                Some(identities) => return Ok(identities),
                None => changed(subscription).await?,
            }
        }
    };
    let late = |_| Status::unavailable("the authority has not answered yet");
    tokio::time::timeout(FIRST_TIMEOUT, known).await.map_err(late)?
}

/// The identities after the next change.
///
/// # Errors
/// There are none any more.
pub(super) async fn next(subscription: &mut Subscription) -> Result<Arc<Identities>, Status> {
    changed(subscription).await?;
    first(subscription).await
}

async fn changed(subscription: &mut Subscription) -> Result<(), Status> {
    subscription.changed().await.map_err(|_| stopped())
}

/// Sends a message now and whenever `part` of the identities has changed, until the caller ends, or has none any more. Such a
/// stream never ends with success, which some clients take for the end of all messages.
pub(super) fn messages<P, M>(
    peer: Arc<Peer>,
    mut subscription: Subscription,
    part: fn(&Arc<Identities>) -> P,
    message: fn(&P) -> M,
) -> Messages<M>
where
    P: PartialEq + Send + Sync + 'static,
    M: Send + 'static,
{
    let (sender, stream) = mpsc::channel(1);
    let open = peer.counts().streams.begin();
    tokio::spawn(async move {
        let _open = open;
        let sending = async {
            let mut sent = None;
            let mut identities = first(&mut subscription).await;
            loop {
                let now = match &identities {
                    Ok(identities) => part(identities),
                    Err(status) => return Some(status.clone()),
                };
                if sent.as_ref() != Some(&now) {
                    sender.send(Ok(message(&now))).await.ok()?;
                    sent = Some(now);
                }
                identities = next(&mut subscription).await;
            }
        };
        let end = tokio::select! {
            end = sending => end,
            status = peer.ended() => Some(status),
            () = sender.closed() => None,
        };
        if let Some(status) = end {
            // A caller that has gone does not need the reason.
            let _ = sender.send(Err(status)).await;
        }
    });
    ReceiverStream::new(stream)
}

/// The agent stops, or has been configured otherwise.
pub(super) fn stopped() -> Status {
    Status::unavailable("the agent stops or has a new configuration: connect again")
}

/// Waits until the agent stops serving.
pub(super) async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}
