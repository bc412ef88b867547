//! What wakes the daemon when nothing happens. The runtime's own timers would do it up to three times for one pause, and
//! stand still while the host sleeps.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use host::exit::Failure;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Expires after a pause, including time asleep, and when the clock is set. timerfd_create(2).
#[derive(Debug)]
pub struct Alarm {
    pause: AsyncFd<OwnedFd>,
    /// Where the kernel does not tell that the clock was set, it is seen after the pause.
    clock: Option<AsyncFd<OwnedFd>>,
}

impl Alarm {
    /// An alarm that is off.
    ///
    /// # Errors
    /// There can be no timer.
    pub fn new() -> Result<Self, Failure> {
        let pause = timer(TimerfdClockId::Boottime).map_err(failed)?;
        Ok(Self { pause, clock: clock().ok() })
    }

    /// Waits until it rings.
    ///
    /// # Errors
    /// The timer fails.
    pub async fn ring(&self, pause: Duration) -> Result<(), Failure> {
        set(&self.pause, TimerfdTimerFlags::empty(), pause).map_err(failed)?;
        let clock = async {
            match &self.clock {
                Some(clock) => rung(clock).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            rung = rung(&self.pause) => rung.map_err(failed),
            rung = clock => rung.map_err(failed),
        }
    }
}

fn failed(cause: io::Error) -> Failure {
    Failure::io(&cause, "a timer")
}

/// A timer that never ends, and that rings when the clock is set.
fn clock() -> io::Result<AsyncFd<OwnedFd>> {
    let clock = timer(TimerfdClockId::Realtime)?;
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    set(&clock, flags, Duration::MAX)?;
    Ok(clock)
}

#[expect(deprecated, reason = "the function that replaces it is unsafe; this descriptor is owned")]
fn timer(clock: TimerfdClockId) -> io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    AsyncFd::with_interest(timer, Interest::READABLE)
}

fn set(timer: &AsyncFd<OwnedFd>, flags: TimerfdTimerFlags, value: Duration) -> io::Result<()> {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let tv_sec = i64::try_from(value.as_secs()).unwrap_or(i64::MAX);
    let it_value = Timespec { tv_sec, tv_nsec: value.subsec_nanos().into() };
    timerfd_settime(timer, flags, &Itimerspec { it_interval: never, it_value })?;
    Ok(())
}

async fn rung(timer: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let read = |timer: &OwnedFd| Ok(rustix::io::read(timer, &mut [0; 8]).map(drop)?);
    match timer.async_io(Interest::READABLE, read).await {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error()) => {
            Ok(())
        }
        rung => rung,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::clock;

    #[tokio::test]
    async fn it_rings_after_each_pause_and_not_before() {
        let alarm = Alarm::new().unwrap();
        assert!(alarm.clock.is_some());
        let pause = Duration::from_millis(20);
        for _ in 0..3 {
            let before = clock::boot();
            alarm.ring(pause).await.unwrap();
            assert!(clock::boot() - before >= pause);
        }
    }

    #[tokio::test]
    async fn a_pause_that_was_cut_short_does_not_ring_in_the_next() {
        let alarm = Alarm::new().unwrap();
        let short = Duration::from_millis(1);
        set(&alarm.pause, TimerfdTimerFlags::empty(), short).unwrap();
        let _ = alarm.pause.readable().await.unwrap();
        let before = clock::boot();
        let pause = Duration::from_millis(30);
        alarm.ring(pause).await.unwrap();
        assert!(clock::boot() - before >= pause);
    }
}
