//! Notifications to systemd, if it started the program. sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::terminal::one_line;

/// How long a manager that does not read may block the daemon, for each message.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The service manager that started the program, if any.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; values that are invalid are ignored.
    #[must_use]
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| connect(&path).ok());
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|interval| ours && *interval > 0);
        let watchdog = watchdog.map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// The daemon is serving; `status` is one line of text.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// One line of text.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// The configuration is being read again; `monotonic` is the time of CLOCK_MONOTONIC.
    pub fn reloading(&self, monotonic: Duration) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros()));
    }

    /// The daemon is stopping; `status` is one line of text.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// The daemon is still starting, and may take this much longer from now on, whatever the unit's TimeoutStartSec is.
    pub fn still_starting(&self, extension: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", extension.as_micros()));
    }

    /// Notifies the watchdog.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// How often to notify the watchdog: twice per interval; `None` without a watchdog.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|interval| interval / 2)
    }

    /// A manager that does not listen must not stop the daemon: errors are ignored.
    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

fn connect(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}
