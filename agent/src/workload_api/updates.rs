//! What a caller may have, as a stream of messages that ends with the reason.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

use super::counts::Counted;
use super::server::Peer;
use super::{Identities, Subscription};

/// How long a caller waits for its first identities. Clients try again after less.
const FIRST_TIMEOUT: Duration = Duration::from_secs(30);

/// The messages of a call, which are made when they are read: a caller that waits costs no task and no queue.
pub(super) struct Messages<M>(Option<Next<M>>);

type Next<M> = Pin<Box<dyn Future<Output = (Result<M, Status>, Messages<M>)> + Send>>;

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
    subscription: Subscription,
    part: fn(&Arc<Identities>) -> P,
    message: fn(&P) -> M,
) -> Messages<M>
where
    P: PartialEq + Send + Sync + 'static,
    M: Send + 'static,
{
    let open = peer.counts().streams.begin();
    Call { peer, subscription, part, message, sent: None, _open: open }.next()
}

/// A call that waits for changes.
struct Call<P, M> {
    peer: Arc<Peer>,
    subscription: Subscription,
    part: fn(&Arc<Identities>) -> P,
    message: fn(&P) -> M,
    /// What the last message was about.
    sent: Option<P>,
    _open: Counted,
}

impl<P, M> Call<P, M>
where
    P: PartialEq + Send + Sync + 'static,
    M: Send + 'static,
{
    /// The messages from now on.
    fn next(self) -> Messages<M> {
        Messages(Some(Box::pin(self.wait())))
    }

    /// Waits for the next message, after which the call goes on, or for the reason why it ends.
    async fn wait(mut self) -> (Result<M, Status>, Messages<M>) {
        let changed = tokio::select! {
            // A message is for the process that connected.
            biased;
            end = self.peer.ended() => Err(end),
            changed = changed_part(&mut self.subscription, self.part, self.sent.as_ref()) => changed,
        };
        match changed {
            Ok(part) => {
                let message = (self.message)(&part);
                self.sent = Some(part);
                (Ok(message), self.next())
            }
            Err(end) => (Err(end), Messages(None)),
        }
    }
}

/// The part of the identities that is of interest, once it is another than was sent.
async fn changed_part<P: PartialEq>(
    subscription: &mut Subscription,
    part: fn(&Arc<Identities>) -> P,
    sent: Option<&P>,
) -> Result<P, Status> {
    let mut is_first = sent.is_none();
    loop {
        let identities = match is_first {
            true => first(subscription).await?,
            false => next(subscription).await?,
        };
        let now = part(&identities);
        if sent != Some(&now) {
            return Ok(now);
        }
        is_first = false;
    }
}

impl<M> Stream for Messages<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let (message, rest) = ready!(next.as_mut().poll(context));
        *self = rest;
        Poll::Ready(Some(message))
    }
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
