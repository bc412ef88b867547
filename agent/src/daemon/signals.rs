//! The signals that the daemon listens to, as events of the machine.

use host::exit::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::machine::Event;

/// From its creation on, none of these signals ends the process by itself.
pub(super) struct Signals {
    hangup: Signal,
    user1: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|cause| Failure::io(&cause, "signals"));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Ends when the daemon is asked to stop. What else is asked for remains for [`Self::next`].
    pub(super) async fn stop_asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// What the next signal asks for. No signal is lost if this is dropped.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.hangup.recv() => Event::ReloadRequested,
            _ = self.user1.recv() => Event::RenewRequested,
            _ = self.terminate.recv() => Event::StopRequested,
            _ = self.interrupt.recv() => Event::StopRequested,
        }
    }
}
