//! Addresses as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where an authority is: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// A name or an IP address, that of version 6 without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// One address of a list with commas, after which spaces are allowed.
    ///
    /// # Errors
    /// It is not an address.
    pub fn of_list(text: &str) -> Result<Self, InvalidAddress> {
        text.trim().parse()
    }

    /// The address to connect to for a listen address: `:3001` (all addresses) becomes localhost.
    ///
    /// # Errors
    /// It is not an address.
    pub fn of_listener(text: &str) -> Result<Self, InvalidAddress> {
        match text.starts_with(':') {
            true => format!("localhost{text}").parse(),
            false => text.parse(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Some((_, rest)) = text.split_once("://") {
            return Err(InvalidAddress::Scheme(rest.trim_end_matches('/').to_owned()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress::NoPort)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')
                .filter(|host| host.parse::<Ipv6Addr>().is_ok())
                .ok_or(InvalidAddress::Host)?,
            None if host.contains(':') => return Err(InvalidAddress::Brackets),
            None if is_host(host) => host,
            None => return Err(InvalidAddress::Host),
        };
        Ok(Self { host: host.to_owned(), port: self::port(port)? })
    }
}

/// RFC 1123 §2.1, and the underscore, which some networks use; IPv4 addresses match too.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

fn port(text: &str) -> Result<u16, InvalidAddress> {
    match text.parse() {
        Ok(port) if port != 0 && text.starts_with(|c: char| c.is_ascii_digit()) => Ok(port),
        _ => Err(InvalidAddress::Port),
    }
}

/// Why a text is not the address of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidAddress {
    /// It is a URL; the rest of it.
    Scheme(String),
    /// It has no port.
    NoPort,
    /// Its port is not a number from 1 to 65535.
    Port,
    /// Its host is neither a name nor an IP address.
    Host,
    /// It is to be listened at, but not an IP address.
    Elsewhere,
    /// It is an IPv6 address without brackets.
    Brackets,
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(rest) => write!(f, "an address is HOST:PORT, not a URL: try `{rest}`"),
            Self::NoPort => f.write_str("the port is missing: write HOST:PORT"),
            Self::Port => f.write_str("the port is not a number from 1 to 65535"),
            Self::Host => f.write_str("the host is neither a name nor an IP address"),
            Self::Elsewhere => f.write_str("a listen address is IP:PORT, localhost:PORT or :PORT"),
            Self::Brackets => f.write_str("an IPv6 address needs brackets: write [HOST]:PORT"),
        }
    }
}

impl std::error::Error for InvalidAddress {}

/// Where to listen, as Go programs read it: `127.0.0.1:3001`, `[::1]:3001`, `localhost:3001`, or `:3001` for all
/// addresses of the machine.
///
/// # Errors
/// As [`Address`]; a name other than `localhost` is refused, since it may become another machine's.
pub(super) fn listener(text: &str) -> Result<SocketAddr, InvalidAddress> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(InvalidAddress::Port) } else { Ok(address) };
    }
    let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress::Elsewhere)?;
    let ip: IpAddr = match host {
        "" => Ipv6Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        _ => return Err(InvalidAddress::Elsewhere),
    };
    Ok(SocketAddr::new(ip, self::port(port)?))
}
