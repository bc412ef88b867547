//! The lines of the log on their way to stderr, which a separate thread writes. The reader of stderr may stop reading, and
//! then a write blocks: nothing else waits for that. Lines for which there is no room are lost, and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Event, Level, LogFormat};
use crate::clock;

/// Bytes of the lines that wait.
const MAX_BYTES: usize = 256 * 1024;

/// How long the end of the program waits for the lines that are not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue of this process, once something has been logged; none if the thread could not be started.
static QUEUE: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

/// Writes a line of the log to stderr, in its turn. `format` is how a loss of lines is reported.
pub fn write_line(line: String, format: LogFormat) {
    match QUEUE.get_or_init(start) {
        Some(queue) => queue.push(line, format),
        // If stderr is closed, the program continues without a log.
        None => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// Prints a text at the end of the program, after the log, and waits a second at most until all is written.
pub(crate) fn end(text: Option<String>) {
    match (QUEUE.get().and_then(Option::as_ref), text) {
        (Some(queue), text) => {
            text.into_iter().for_each(|text| queue.push(text, LogFormat::default()));
            queue.flush(FLUSH_TIMEOUT);
        }
        (None, Some(text)) => drop(writeln!(io::stderr(), "{text}")),
        (None, None) => {}
    }
}

/// Waits a second at most until all lines are written, before the process ends by itself.
pub fn flush() {
    end(None);
}

fn start() -> Option<Arc<Queue>> {
    let queue = Arc::new(Queue::default());
    let writer = Arc::clone(&queue);
    let started = thread::Builder::new().name("log".into()).spawn(move || {
        loop {
            writer.write_next(&mut io::stderr());
        }
    });
    started.ok().map(|_| queue)
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    /// Of these lines, and of the one that is being written.
    bytes: usize,
    lost: u64,
    format: LogFormat,
    is_writing: bool,
}

impl State {
    fn is_done(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.is_writing
    }

    /// Queues a line that reports the loss of others.
    fn report_lost(&mut self) {
        if self.lost > 0 {
            let time = clock::rfc3339(clock::now());
            let fields = [("lines", std::mem::take(&mut self.lost).to_string())];
            let message = "log lines were lost: stderr was not read in time";
            let event = Event { time: &time, level: Level::Warn, message, fields: &fields };
            self.add(event.line(self.format));
        }
    }

    fn add(&mut self, line: String) {
        self.bytes = self.bytes.saturating_add(line.len());
        self.lines.push_back(line);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String, format: LogFormat) {
        let mut state = self.lock();
        state.format = format;
        if state.bytes.saturating_add(line.len()) > MAX_BYTES {
            state.lost = state.lost.saturating_add(1);
        } else {
            state.report_lost();
            state.add(line);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for a line and writes it.
    fn write_next(&self, out: &mut impl Write) {
        let state = self.lock();
        let wait =
            self.changed.wait_while(state, |state| state.lines.is_empty() && state.lost == 0);
        let mut state = wait.unwrap_or_else(PoisonError::into_inner);
        if state.lines.is_empty() {
            state.report_lost();
        }
        let Some(mut line) = state.lines.pop_front() else { return };
        state.is_writing = true;
        drop(state);
        let length = line.len();
        line.push('\n');
        // If stderr is closed, the program continues without a log.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        let mut state = self.lock();
        state.is_writing = false;
        state.bytes = state.bytes.saturating_sub(length);
        drop(state);
        self.changed.notify_all();
    }

    fn flush(&self, limit: Duration) {
        let wait = self.changed.wait_timeout_while(self.lock(), limit, |state| !state.is_done());
        drop(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_reader_are_bounded_and_their_loss_is_reported() {
        let queue = Queue::default();
        let line = "x".repeat(MAX_BYTES / 4);
        for _ in 0..7 {
            queue.push(line.clone(), LogFormat::Journal);
        }
        assert_eq!(queue.lock().bytes, MAX_BYTES);
        queue.flush(Duration::ZERO);
        let mut out = Vec::new();
        queue.write_next(&mut out);
        queue.push("later".into(), LogFormat::Journal);
        while !queue.lock().is_done() {
            queue.write_next(&mut out);
        }
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = out.lines().skip_while(|read| *read == line).collect();
        assert_eq!(lines, ["<4>log lines were lost: stderr was not read in time lines=3", "later"]);
        assert_eq!(out.matches(&line).count(), 4);
        assert_eq!(queue.lock().bytes, 0);
    }
}
