use std::borrow::ToOwned;
use std::boxed::Box;
use std::path::PathBuf;
use std::str::FromStr;
use std::string::String;
use std::{error, fmt, io};

use super::{Device, Retry, Swtpm, Transport};

/// The address of a TPM, in the notation of the TSS: `device:/dev/tpmrm0`, `swtpm:host=localhost,port=2321`,
/// `swtpm:path=/run/swtpm.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcti {
    /// A character device.
    Device(PathBuf),
    /// swtpm over TCP.
    SwtpmTcp {
        /// Name or address.
        host: String,
        /// The data port.
        port: u16,
    },
    /// swtpm over a unix socket.
    SwtpmUnix(PathBuf),
}

impl Tcti {
    /// Where the kernel's resource manager is.
    pub const DEFAULT: &'static str = "device:/dev/tpmrm0";

    /// Opens the TPM, retrying what it asks to retry.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self) -> Result<Retry<Box<dyn Transport + Send>>, OpenError> {
        let transport: io::Result<Box<dyn Transport + Send>> = match self {
            Self::Device(path) => Device::open(path).map(|device| Box::new(device) as _),
            Self::SwtpmTcp { host, port } => {
                Swtpm::connect(host, *port).map(|swtpm| Box::new(swtpm) as _)
            }
            Self::SwtpmUnix(path) => Swtpm::connect_unix(path).map(|swtpm| Box::new(swtpm) as _),
        };
        transport.map(Retry::new).map_err(|cause| OpenError { address: self.clone(), cause })
    }
}

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(address: &str) -> Result<Self, TctiError> {
        if address.starts_with('/') {
            return Ok(Self::Device(address.into()));
        }
        let (kind, rest) = address.split_once(':').unwrap_or((address, ""));
        match (kind, rest) {
            ("device", "") => Ok(Self::Device("/dev/tpmrm0".into())),
            ("device", path) if path.starts_with('/') => Ok(Self::Device(path.into())),
            ("device", _) => Err(TctiError::Path),
            ("swtpm", options) => swtpm(options),
            _ => Err(TctiError::Kind(kind.to_owned())),
        }
    }
}

fn swtpm(options: &str) -> Result<Tcti, TctiError> {
    let (mut host, mut port, mut path) = (None, None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let unknown = || TctiError::Option(option.to_owned());
        let (key, value) = option.split_once('=').ok_or_else(unknown)?;
        let slot = match key {
            "host" => &mut host,
            "port" => &mut port,
            "path" => &mut path,
            _ => return Err(unknown()),
        };
        if value.is_empty() || slot.replace(value).is_some() {
            return Err(unknown());
        }
    }
    match (host, port, path) {
        (None, None, Some(path)) => Ok(Tcti::SwtpmUnix(path.into())),
        (_, _, Some(_)) => Err(TctiError::PathAndHost),
        (host, port, None) => Ok(Tcti::SwtpmTcp {
            host: host.unwrap_or("localhost").to_owned(),
            port: port
                .map_or(Ok(2321), str::parse)
                .map_err(|_| TctiError::Port(port.unwrap_or_default().to_owned()))?,
        }),
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::SwtpmTcp { host, port } => write!(f, "swtpm:host={host},port={port}"),
            Self::SwtpmUnix(path) => write!(f, "swtpm:path={}", path.display()),
        }
    }
}

/// An address that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TctiError {
    /// Neither `device` nor `swtpm`.
    Kind(String),
    /// A device without an absolute path.
    Path,
    /// An option of swtpm that it does not have, has twice, or has without a value.
    Option(String),
    /// Not a port.
    Port(String),
    /// A socket has a path, or a host and a port.
    PathAndHost,
}

impl fmt::Display for TctiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "unknown kind of TPM {kind:?}")?,
            Self::Path => f.write_str("the path of a device must be absolute")?,
            Self::Option(option) => {
                write!(f, "swtpm has no such option, or has it twice: {option:?}")?
            }
            Self::Port(port) => write!(f, "{port:?} is not a port")?,
            Self::PathAndHost => f.write_str("swtpm takes a path, or a host and a port")?,
        }
        f.write_str(
            "; write device:/dev/tpmrm0, swtpm:path=/path/to/socket or swtpm:host=localhost,port=2321",
        )
    }
}

impl error::Error for TctiError {}

/// A TPM that cannot be opened.
#[derive(Debug)]
pub struct OpenError {
    address: Tcti,
    cause: io::Error,
}

impl OpenError {
    /// The address.
    #[must_use]
    pub const fn address(&self) -> &Tcti {
        &self.address
    }

    /// What the operating system said.
    #[must_use]
    pub const fn cause(&self) -> &io::Error {
        &self.cause
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        const ENODEV: i32 = 19;
        const EBUSY: i32 = 16;
        let Tcti::Device(_) = self.address else {
            return "start swtpm, or correct its address";
        };
        match (self.cause.kind(), self.cause.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => {
                "enable the TPM 2.0 of this machine in the firmware settings (it may be called fTPM, PTT or \
                 Security Device), or load its driver; `ls /dev/tpm*` shows what there is"
            }
            (io::ErrorKind::PermissionDenied, _) => {
                "run as root, or add the user to the group that owns the device, mostly tss: usermod -aG tss USER; \
                 then log in again"
            }
            (io::ErrorKind::InvalidInput, _) => {
                "a TPM is at /dev/tpmrm0, or at /dev/tpm0 for one program alone; `ls /dev/tpm*` shows what there is"
            }
            (_, Some(EBUSY)) => {
                "another program has /dev/tpm0, which only one can have: use device:/dev/tpmrm0"
            }
            (_, Some(ENODEV)) => "see `dmesg | grep -i tpm`; the TPM or its driver is gone",
            _ => "see `dmesg | grep -i tpm`",
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open the TPM at {}: {}", self.address, self.cause)
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}
