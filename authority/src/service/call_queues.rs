//! Serializes calls that change the same record.
//!
//! Concurrent calls would each sign, one would be recorded, and the others would sign again: a host with many concurrent calls
//! would use up the processor.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::refusal::{Code, Refusal};

/// Calls of one caller that wait. An agent makes one call at a time; after one that it gave up, the
/// next may have to wait for it.
const MAX_WAITING: usize = 4;

/// The callers with calls in progress. Each is removed with its last call, so there are no more of them
/// than calls.
#[derive(Default)]
pub(super) struct CallQueues {
    queues: Mutex<HashMap<String, Queue>>,
}

/// The calls of one caller.
#[derive(Default)]
struct Queue {
    /// Held by the one whose turn it is; the others wait in the order in which they came.
    turn: Arc<tokio::sync::Mutex<()>>,
    calls: usize,
}

/// A call in its queue, which it leaves when this is dropped.
struct Place<'a> {
    queues: &'a CallQueues,
    caller: &'a str,
}

impl CallQueues {
    /// Runs a call after all earlier ones of the same caller, however those end.
    ///
    /// # Errors
    /// [`Code::Busy`] if too many calls of the caller wait already; and those of the call.
    pub(super) async fn run<T>(
        &self,
        caller: &str,
        call: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let (_place, turn) = self.enqueue(caller)?;
        let _turn = turn.lock().await;
        call.await
    }

    fn enqueue<'a>(
        &'a self,
        caller: &'a str,
    ) -> Result<(Place<'a>, Arc<tokio::sync::Mutex<()>>), Refusal> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(caller.to_owned()).or_default();
        if queue.calls > MAX_WAITING {
            return Err(Refusal::new(Code::Busy, "too many calls of this caller are in progress"));
        }
        queue.calls += 1;
        Ok((Place { queues: self, caller }, Arc::clone(&queue.turn)))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get_mut(self.caller) {
            queue.calls = queue.calls.saturating_sub(1);
            if queue.calls == 0 {
                queues.remove(self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use tokio::sync::oneshot;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn calls_of_one_caller_are_done_in_their_order_and_few_wait() {
        let queues = CallQueues::default();
        let (end, ended) = oneshot::channel::<()>();
        let mut first = pin!(queues.run("a", async { Ok(ended.await.is_ok()) }));
        assert!(poll(first.as_mut()).is_pending());
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|call| Box::pin(queues.run("a", async move { Ok(call) })))
            .collect();
        for call in &mut waiting {
            assert!(poll(call.as_mut()).is_pending());
        }
        let Poll::Ready(Err(refusal)) = poll(pin!(queues.run("a", async { Ok(()) }))) else {
            panic!("not refused");
        };
        assert_eq!(refusal.code, Code::Busy);
        assert!(poll(pin!(queues.run("b", async { Ok(()) }))).is_ready(), "another caller");

        end.send(()).unwrap();
        assert!(poll(first.as_mut()).is_ready());
        assert!(poll(waiting[1].as_mut()).is_pending(), "not its turn");
        for (index, call) in waiting.iter_mut().enumerate() {
            assert!(matches!(poll(call.as_mut()), Poll::Ready(Ok(call)) if call == index));
        }
        assert!(queues.queues.lock().unwrap().is_empty());
    }

    #[test]
    fn calls_that_are_given_up_or_refused_leave_the_line() {
        let queues = CallQueues::default();
        let mut first = Box::pin(queues.run("a", std::future::pending::<Result<(), _>>()));
        assert!(poll(first.as_mut()).is_pending());
        let mut second = Box::pin(queues.run("a", async { Ok(()) }));
        assert!(poll(second.as_mut()).is_pending());
        let refused = async { Err::<(), _>(Refusal::new(Code::Malformed, "no")) };
        let mut third = Box::pin(queues.run("a", refused));
        assert!(poll(third.as_mut()).is_pending());
        drop(second);
        drop(first);
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Err(_))));
        assert!(queues.queues.lock().unwrap().is_empty());
    }
}
