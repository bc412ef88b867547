//! A join as a stream in both directions: requests until a deadline, and few replies.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::status::stream_ended;
use crate::service::refusal::{Code, Refusal};

/// Replies of one join. None waits for room.
const MAX_REPLIES: usize = 3;

/// What the host receives.
pub(super) type Replies<R> = ReceiverStream<Result<R, Status>>;

/// The host at the other end of a join, with its requests `Q` and replies `R`.
pub(super) struct Conversation<Q, R> {
    requests: Streaming<Q>,
    replies: mpsc::Sender<Result<R, Status>>,
    deadline: Pin<Box<Sleep>>,
}

impl<Q, R> Conversation<Q, R> {
    /// With a host whose requests must all come within this time.
    pub(super) fn new(requests: Streaming<Q>, limit: Duration) -> (Self, Replies<R>) {
        let (replies, stream) = mpsc::channel(MAX_REPLIES);
        let deadline = Box::pin(tokio::time::sleep(limit));
        (Self { requests, replies, deadline }, ReceiverStream::new(stream))
    }

    /// The next request, if it comes in time.
    pub(super) async fn next(&mut self) -> Result<Q, Refusal> {
        let message = tokio::select! {
            biased;
            () = &mut self.deadline => {
                return Err(Refusal::new(Code::AnswerLate, "the join timed out"));
            }
            message = self.requests.message() => message,
        };
        match message {
            Ok(Some(request)) => Ok(request),
            Ok(None) => Err(Refusal::new(Code::Abandoned, "the host closed the stream")),
            Err(status) => Err(stream_ended(&status)),
        }
    }

    /// Sends a reply, after which a request must follow.
    pub(super) async fn reply(&self, reply: R) -> Result<(), Refusal> {
        let gone = |_| Refusal::new(Code::Abandoned, "the host closed the stream before the reply");
        self.replies.send(Ok(reply)).await.map_err(gone)
    }

    /// Sends the last reply or an error. A host that has gone gets neither.
    pub(super) async fn end(self, result: Result<R, Status>) {
        let _ = self.replies.send(result).await;
    }
}
