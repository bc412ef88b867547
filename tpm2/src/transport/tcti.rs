use std::borrow::ToOwned;
use std::boxed::Box;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::string::{String, ToString};
use std::{env, error, fmt, io};

#[cfg(all(unix, feature = "device"))]
use super::Device;
#[cfg(all(unix, feature = "cmd"))]
use super::Process;
#[cfg(feature = "mssim")]
use super::Simulator;
#[cfg(feature = "swtpm")]
use super::Swtpm;
#[cfg(all(windows, feature = "tbs"))]
use super::Tbs;
use super::{AnyTransport, Retry, Transport};

/// The address of a TPM, in the notation of the TSS: `device:/dev/tpmrm0`, `swtpm:host=localhost,port=2321`,
/// `swtpm:path=/run/swtpm.sock`, `mssim:host=localhost,port=2321`, `cmd:COMMAND`, `tbs`.
///
/// What a build cannot open it understands nevertheless: each kind needs the feature of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The simulator of the reference code.
    Mssim {
        /// Name or address.
        host: String,
        /// The port for commands; the next is the platform's.
        port: u16,
    },
    /// A command line for the shell. To open it runs it: accept it only from those who may run any command as this process.
    Command(String),
    /// The TPM of Windows.
    Tbs,
}

impl Tcti {
    /// Where the resource manager of the operating system is.
    pub const DEFAULT: &'static str = if cfg!(windows) { "tbs" } else { "device:/dev/tpmrm0" };

    /// The address in the environment: in `TPM2TOOLS_TCTI`, which tpm2-tools read, or else in `TCTI`; [`Self::DEFAULT`] if
    /// neither is set. With the feature `cmd`, who sets the environment chooses a command to be run.
    ///
    /// # Errors
    /// See [`TctiError`]; [`TctiError::Variable`] says in which variable.
    pub fn from_environment() -> Result<Self, TctiError> {
        Self::from_variables(env::var_os::<&str>)
    }

    pub(super) fn from_variables(
        value: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, TctiError> {
        for variable in ["TPM2TOOLS_TCTI", "TCTI"] {
            if let Some(address) = value(variable) {
                let parsed = address.to_string_lossy().parse();
                return parsed.map_err(|error| TctiError::Variable(variable, Box::new(error)));
            }
        }
        Self::DEFAULT.parse()
    }

    /// Opens the TPM, retrying what it asks to retry.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self) -> Result<AnyTransport, OpenError> {
        self.connect().map(Retry::new).map_err(|cause| OpenError { address: self.clone(), cause })
    }

    fn connect(&self) -> io::Result<Box<dyn Transport<Error = io::Error> + Send>> {
        Ok(match self {
            #[cfg(all(unix, feature = "device"))]
            Self::Device(path) => Box::new(Device::open(path)?),
            #[cfg(feature = "swtpm")]
            Self::SwtpmTcp { host, port } => Box::new(Swtpm::connect(host, *port)?),
            #[cfg(all(unix, feature = "swtpm"))]
            Self::SwtpmUnix(path) => Box::new(Swtpm::connect_unix(path)?),
            #[cfg(feature = "mssim")]
            Self::Mssim { host, port } => Box::new(Simulator::connect(host, *port)?),
            #[cfg(all(unix, feature = "cmd"))]
            Self::Command(command) => Box::new(Process::start(command)?),
            #[cfg(all(windows, feature = "tbs"))]
            Self::Tbs => Box::new(Tbs::open()?),
            #[allow(unreachable_patterns, reason = "a build may have them all")]
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "not part of this build"))?,
        })
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
            ("mssim", options) => mssim(options),
            ("cmd", "") => Err(TctiError::NoCommand),
            ("cmd", command) => Ok(Self::Command(command.to_owned())),
            ("tbs", "") => Ok(Self::Tbs),
            ("tabrmd" | "libtpms" | "pcap", _) => Err(TctiError::Unsupported(kind.to_owned())),
            _ => Err(TctiError::Kind(kind.to_owned())),
        }
    }
}

/// Where a socket is.
#[derive(Default)]
struct Socket<'a> {
    host: Option<&'a str>,
    port: Option<&'a str>,
    path: Option<&'a str>,
}

impl<'a> Socket<'a> {
    /// Reads `key=value,..`.
    fn read(options: &'a str) -> Result<Self, TctiError> {
        let mut socket = Self::default();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let unknown = || TctiError::Option(option.to_owned());
            let (key, value) = option.split_once('=').ok_or_else(unknown)?;
            let slot = match key {
                "host" => &mut socket.host,
                "port" => &mut socket.port,
                "path" => &mut socket.path,
                _ => return Err(unknown()),
            };
            if value.is_empty() || slot.replace(value).is_some() {
                return Err(unknown());
            }
        }
        Ok(socket)
    }

    fn host(&self) -> String {
        self.host.unwrap_or("localhost").to_owned()
    }

    fn port(&self) -> Result<u16, TctiError> {
        let port = self.port.map_or(Ok(2321), str::parse);
        port.map_err(|_| TctiError::Port(self.port.unwrap_or_default().to_owned()))
    }
}

fn swtpm(options: &str) -> Result<Tcti, TctiError> {
    let socket = Socket::read(options)?;
    match socket {
        Socket { host: None, port: None, path: Some(path) } => Ok(Tcti::SwtpmUnix(path.into())),
        Socket { path: Some(_), .. } => Err(TctiError::PathAndHost),
        _ => Ok(Tcti::SwtpmTcp { host: socket.host(), port: socket.port()? }),
    }
}

fn mssim(options: &str) -> Result<Tcti, TctiError> {
    let socket = Socket::read(options)?;
    match (socket.path, socket.port()?) {
        (Some(path), _) => Err(TctiError::Option(std::format!("path={path}"))),
        // The next one is the platform's.
        (None, u16::MAX) => Err(TctiError::Port(u16::MAX.to_string())),
        (None, port) => Ok(Tcti::Mssim { host: socket.host(), port }),
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::SwtpmTcp { host, port } => write!(f, "swtpm:host={host},port={port}"),
            Self::SwtpmUnix(path) => write!(f, "swtpm:path={}", path.display()),
            Self::Mssim { host, port } => write!(f, "mssim:host={host},port={port}"),
            Self::Command(command) => write!(f, "cmd:{command}"),
            Self::Tbs => f.write_str("tbs"),
        }
    }
}

/// An address that cannot be understood.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TctiError {
    /// Not a kind that the TSS has.
    Kind(String),
    /// A kind that the TSS has, and this crate has not.
    Unsupported(String),
    /// A device without an absolute path.
    Path,
    /// An option that the kind does not have, has twice, or has without a value.
    Option(String),
    /// Not a port.
    Port(String),
    /// A socket has a path, or a host and a port.
    PathAndHost,
    /// `cmd:` without a command.
    NoCommand,
    /// The error of what this environment variable holds.
    Variable(&'static str, Box<TctiError>),
}

impl fmt::Display for TctiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(variable, error) => return write!(f, "{variable}: {error}"),
            Self::Kind(kind) => write!(f, "unknown kind of TPM {kind:?}")?,
            Self::Unsupported(kind) => write!(f, "{kind} is not supported")?,
            Self::Path => f.write_str("the path of a device must be absolute")?,
            Self::Option(option) => write!(f, "no such option, or given twice: {option:?}")?,
            Self::Port(port) => write!(f, "{port:?} is not a port")?,
            Self::PathAndHost => f.write_str("swtpm takes a path, or a host and a port")?,
            Self::NoCommand => f.write_str("no command")?,
        }
        f.write_str(
            "; write device:/dev/tpmrm0, swtpm:path=/path/to/socket, swtpm:host=localhost,port=2321, \
             mssim:host=localhost,port=2321 or cmd:COMMAND",
        )
    }
}

impl error::Error for TctiError {}

/// As it is displayed: what `main` shows of an error that it returns.
impl fmt::Debug for TctiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TPM that cannot be opened.
pub struct OpenError {
    address: Tcti,
    cause: io::Error,
}

/// As it is displayed by `{:#}`, and the advice.
impl fmt::Debug for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}\n{}", self.advice())
    }
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
        match self.address {
            _ if self.cause.kind() == io::ErrorKind::Unsupported => {
                "use another address, or build with the feature of this one: mssim, cmd, or tbs on Windows"
            }
            Tcti::Device(_) => self.advice_on_device(),
            Tcti::SwtpmTcp { .. } | Tcti::SwtpmUnix(_) => "start swtpm, or correct its address",
            Tcti::Mssim { .. } => "start the simulator, or correct its address",
            Tcti::Command(_) => "see whether /bin/sh runs",
            Tcti::Tbs => {
                "enable the TPM 2.0 in the firmware settings; `tpmtool getdeviceinformation` shows it"
            }
        }
    }

    fn advice_on_device(&self) -> &'static str {
        const ENODEV: i32 = 19;
        const EBUSY: i32 = 16;
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

/// `{:#}` has what the operating system said as well.
impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open the TPM at {}", self.address)?;
        if f.alternate() { write!(f, ": {:#}", self.cause) } else { Ok(()) }
    }
}

/// The message does not have that of the source.
impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Why there is no TPM at an address that was given as text.
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be understood.
    Address(TctiError),
    /// The TPM cannot be opened.
    Open(OpenError),
}

impl ConnectError {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Address(_) => "correct the address",
            Self::Open(error) => error.advice(),
        }
    }
}

/// As it is displayed by `{:#}`, and the advice.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}\n{}", self.advice())
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => fmt::Display::fmt(error, f),
            Self::Open(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Address(error) => error.source(),
            Self::Open(error) => error.source(),
        }
    }
}

impl From<TctiError> for ConnectError {
    fn from(error: TctiError) -> Self {
        Self::Address(error)
    }
}

impl From<OpenError> for ConnectError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}
