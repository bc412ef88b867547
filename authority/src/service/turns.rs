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
pub(super) struct Turns {
    lines: Mutex<HashMap<String, Line>>,
}

/// The calls of one caller.
#[derive(Default)]
struct Line {
    /// Held by the one whose turn it is; the others wait in the order in which they came.
    turn: Arc<tokio::sync::Mutex<()>>,
    calls: usize,
}

/// A call in its line, which it leaves when this is dropped.
struct Turn<'a> {
    turns: &'a Turns,
    caller: &'a str,
}

impl Turns {
    /// Runs a call after all earlier ones of the same caller, however those end.
    ///
    /// # Errors
    /// [`Code::Busy`] if too many calls of the caller wait already; and those of the call.
    pub(super) async fn run<T>(
        &self,
        caller: &str,
        call: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let (_place, turn) = self.line_up(caller)?;
        let _turn = turn.lock().await;
        call.await
    }

    fn line_up<'a>(
        &'a self,
        caller: &'a str,
    ) -> Result<(Turn<'a>, Arc<tokio::sync::Mutex<()>>), Refusal> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(caller.to_owned()).or_default();
        if line.calls > MAX_WAITING {
            return Err(Refusal::new(Code::Busy, "too many calls of this caller are in progress"));
        }
        line.calls += 1;
        Ok((Turn { turns: self, caller }, Arc::clone(&line.turn)))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get_mut(self.caller) {
            line.calls = line.calls.saturating_sub(1);
            if line.calls == 0 {
                lines.remove(self.caller);
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
        let turns = Turns::default();
        let (end, ended) = oneshot::channel::<()>();
        let mut first = pin!(turns.run("a", async { Ok(ended.await.is_ok()) }));
        assert!(poll(first.as_mut()).is_pending());
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|call| Box::pin(turns.run("a", async move { Ok(call) })))
            .collect();
        for call in &mut waiting {
            assert!(poll(call.as_mut()).is_pending());
        }
        let Poll::Ready(Err(refusal)) = poll(pin!(turns.run("a", async { Ok(()) }))) else {
            panic!("not refused");
        };
        assert_eq!(refusal.code, Code::Busy);
        assert!(poll(pin!(turns.run("b", async { Ok(()) }))).is_ready(), "another caller");

        end.send(()).unwrap();
        assert!(poll(first.as_mut()).is_ready());
        assert!(poll(waiting[1].as_mut()).is_pending(), "not its turn");
        for (index, call) in waiting.iter_mut().enumerate() {
            assert!(matches!(poll(call.as_mut()), Poll::Ready(Ok(call)) if call == index));
        }
        assert!(turns.lines.lock().unwrap().is_empty());
    }

    #[test]
    fn calls_that_are_given_up_or_refused_leave_the_line() {
        let turns = Turns::default();
        let mut first = Box::pin(turns.run("a", std::future::pending::<Result<(), _>>()));
        assert!(poll(first.as_mut()).is_pending());
        let mut second = Box::pin(turns.run("a", async { Ok(()) }));
        assert!(poll(second.as_mut()).is_pending());
        let refused = async { Err::<(), _>(Refusal::new(Code::Malformed, "no")) };
        let mut third = Box::pin(turns.run("a", refused));
        assert!(poll(third.as_mut()).is_pending());
        drop(second);
        drop(first);
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Err(_))));
        assert!(turns.lines.lock().unwrap().is_empty());
    }
}
