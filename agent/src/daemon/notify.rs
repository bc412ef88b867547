//! Telling systemd, if it is there. sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::exit::one_line;

/// How long a manager that does not read may hold up the daemon, for each message.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The service manager, if one is listening.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// What the environment says: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. Nothing, if it makes no sense.
    #[must_use]
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| connect(&path).ok());
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// Says that the daemon is at work, with a line for people.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Says a line for people.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", one_line(status)));
    }

    /// Says that the configuration is being read again; `boot` is the time on the monotonic clock.
    pub fn reloading(&self, monotonic: Duration) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros()));
    }

    /// Says that the daemon is about to end, with a line for people.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// Says that the daemon is alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// How often to say so: half of what the manager waits; `None` if it does not.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|patience| patience / 2)
    }

    /// A manager that does not listen is none of our troubles.
    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(words.as_bytes(), address);
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
