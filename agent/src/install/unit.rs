//! The systemd unit that runs the agent, with no more rights than it needs.

use std::path::{Path, PathBuf};

use host::account::{AccountName, UnitName};
use host::systemd_unit::{InvalidPath, fill, path_value, path_word, relative_value, word};
use tpm2::transport::Tcti;

use crate::config::{
    Account, DEFAULT_STORAGE, Destination, Service, ServiceKind, Settings, Storage, TpmSettings,
    WorkloadApi,
};

/// What the unit is made from.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its name.
    pub name: UnitName,
    /// The user that the agent runs as.
    pub user: AccountName,
    /// That user's group.
    pub group: AccountName,
    /// The group that owns the TPM's device.
    pub device_group: AccountName,
    /// The program.
    pub program: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// The TPM.
    pub tpm: Tcti,
    /// Whether to pass it to the daemon, because the configuration differs.
    pub stated_tpm: bool,
    /// The directory of the identity; in memory without one.
    pub storage: Option<PathBuf>,
    /// Whether to pass it to the daemon, because the configuration differs.
    pub stated_storage: bool,
    /// Where the daemon writes its process ID.
    pub pid_file: Option<PathBuf>,
    /// Further directories that are written.
    pub read_write: Vec<PathBuf>,
    /// The directories of sockets: systemd creates those below /run, which is empty after a boot.
    pub sockets: Vec<PathBuf>,
    /// The groups of sockets: only a member may give a file to a group.
    pub socket_groups: Vec<String>,
    /// What the agent finds out about those who connect to its sockets.
    pub callers: Callers,
    /// Whether sshd needs the agent.
    pub host_keys: HostKeys,
}

/// Whether sshd has its host key from the agent, and so does not start before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostKeys {
    /// It has none from it.
    #[default]
    None,
    /// It has, by its `HostKeyAgent`.
    Offered,
}

/// What the agent finds out about those who connect to its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Callers {
    /// Nothing: it has no sockets for others.
    #[default]
    Unknown,
    /// Users, groups, control groups: processes of other users have to be visible to it.
    Attested,
    /// Executables too, for which the process that reads them has to have CAP_SYS_PTRACE.
    AttestedByExecutable,
}

/// What a configuration makes the agent open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The TPM.
    pub tpm: Tcti,
    /// The directory of the identity.
    pub storage: Option<PathBuf>,
    /// The directories of the services' files.
    pub read_write: Vec<PathBuf>,
    /// The directories of their sockets.
    pub sockets: Vec<PathBuf>,
    /// Their groups.
    pub socket_groups: Vec<String>,
    /// What it finds out about callers.
    pub callers: Callers,
    /// Whether sshd needs it.
    pub host_keys: HostKeys,
}

impl Reach {
    /// Of this configuration.
    pub fn of(settings: &Settings) -> Self {
        let storage = Self::directory_of(settings.storage.clone());
        let directory = |service: &Service| match &service.destination {
            Destination::Directory { directory, .. } => Some(directory.path.clone()),
            Destination::Memory => None,
        };
        let apis = &settings.workload_apis;
        let agents = || settings.services.iter().filter_map(|service| service.kind.agent());
        let sockets = apis.iter().filter_map(|api| api.listen.socket());
        let all: Vec<_> = sockets.chain(agents().map(|agent| &agent.socket)).collect();
        let sockets = all.iter().filter_map(|socket| socket.path.parent().map(Path::to_owned));
        let sockets = sockets.collect();
        let socket_groups = all.iter().filter_map(|socket| group(socket.group.as_ref()?)).collect();
        let read_write = settings.services.iter().filter_map(directory).collect();
        let has_rules = agents().any(|agent| !agent.rules.0.is_empty());
        let needs_executable = apis.iter().any(WorkloadApi::needs_executable)
            || agents().any(|agent| agent.rules.need_executable());
        let callers = match needs_executable {
            true => Callers::AttestedByExecutable,
            false if apis.is_empty() && !has_rules => Callers::Unknown,
            false => Callers::Attested,
        };
        let is_host_agent = |service: &Service| matches!(&service.kind, ServiceKind::SshHost(host) if host.agent.is_some());
        let host_keys = match settings.services.iter().any(is_host_agent) {
            true => HostKeys::Offered,
            false => HostKeys::None,
        };
        let tpm = settings.tpm.address.clone();
        Self { tpm, storage, read_write, sockets, socket_groups, callers, host_keys }
    }

    /// The directory of an identity that is kept in one.
    pub fn directory_of(storage: Storage) -> Option<PathBuf> {
        match storage {
            Storage::Directory(directory) => Some(directory.path),
            Storage::Memory => None,
        }
    }
}

impl Default for Reach {
    /// Of a configuration that says nothing about it.
    fn default() -> Self {
        let (tpm, storage) = (TpmSettings::default().address, Some(DEFAULT_STORAGE.into()));
        let (callers, host_keys) = (Callers::default(), HostKeys::default());
        let (read_write, sockets, socket_groups) = (Vec::new(), Vec::new(), Vec::new());
        Self { tpm, storage, read_write, sockets, socket_groups, callers, host_keys }
    }
}

impl Unit {
    /// Whether its TPM is a device of the kernel.
    pub fn uses_device(&self) -> bool {
        matches!(self.tpm, Tcti::Device(_))
    }

    /// Further options of the daemon, each after a space.
    fn stated(&self) -> Result<String, InvalidPath> {
        let mut words = String::new();
        if self.stated_storage {
            let storage = match &self.storage {
                Some(path) => path_word(path)?,
                None => "memory".to_owned(),
            };
            words.push_str(&format!(" --storage {storage}"));
        }
        if self.stated_tpm {
            if let Tcti::Device(path) | Tcti::SwtpmUnix(path) = &self.tpm {
                path_value(path)?;
            }
            words.push_str(&format!(" --tpm {}", word(&self.tpm.to_string())));
        }
        if let Some(file) = &self.pid_file {
            words.push_str(&format!(" --pid-file {}", path_word(file)?));
        }
        Ok(words)
    }

    /// The unit's file.
    ///
    /// # Errors
    /// A path that is relative, or no clean text.
    pub fn render(&self) -> Result<String, InvalidPath> {
        let state = self.storage.as_deref().and_then(|path| below(path, "/var/lib"));
        let outside = self.storage.as_deref().filter(|_| state.is_none());
        let pid_directory = self.pid_file.as_deref().and_then(Path::parent);
        let (mut runtime, mut written) = (Vec::new(), Vec::new());
        for directory in pid_directory.into_iter().chain(self.sockets.iter().map(PathBuf::as_path))
        {
            match below(directory, "/run") {
                Some(rest) => runtime.push(rest),
                None => written.push(directory),
            }
        }
        runtime.sort();
        runtime.dedup();
        written.extend(self.read_write.iter().map(PathBuf::as_path).chain(outside));
        written.sort();
        written.dedup();

        let (device, socket) = match &self.tpm {
            Tcti::Device(path) => (Some(path), None),
            Tcti::SwtpmUnix(path) => (None, Some(path)),
            _ => (None, None),
        };
        let mut seen = vec![self.program.as_path(), &self.config];
        seen.extend(written.iter().copied().chain(socket.map(PathBuf::as_path)));
        let one_in = |roots: &[&str]| {
            seen.iter().any(|path| roots.iter().any(|root| path.starts_with(root)))
        };
        let protect_home =
            if one_in(&["/home", "/root", "/run/user"]) { "read-only" } else { "yes" };
        let private_tmp = if one_in(&["/tmp", "/var/tmp"]) { "no" } else { "yes" };

        let one = |value: &str| vec![value.to_owned()];
        let only = |condition: bool, value: &str| if condition { one(value) } else { Vec::new() };
        let is_device = device.is_some();
        let mut groups = only(is_device, &self.device_group.to_string());
        groups.extend(self.socket_groups.iter().cloned());
        groups.sort();
        groups.dedup();
        let is_hidden = self.callers == Callers::Unknown;
        let reads_executables = self.callers == Callers::AttestedByExecutable;
        // A socket among the devices would be hidden too.
        let hide_devices = !is_device && !socket.is_some_and(|path| path.starts_with("/dev"));
        // The node may come after the unit: the driver's name covers it then.
        let mut devices =
            device.map(|path| path_value(path)).transpose()?.map_or(vec![], |path| vec![path]);
        devices.extend(only(is_device, "char-tpm"));
        let values = [
            ("NAME", vec![self.name.to_string()]),
            ("PROGRAM", vec![path_word(&self.program)?]),
            ("CONFIG", vec![path_word(&self.config)?]),
            ("STATED", vec![self.stated()?]),
            ("USER", vec![self.user.to_string()]),
            ("GROUP", vec![self.group.to_string()]),
            ("GROUPS", groups),
            ("DEVICE", devices),
            ("PRIVATE_DEVICES", only(hide_devices, "yes")),
            ("PROTECT_HOME", one(protect_home)),
            ("PRIVATE_TMP", one(private_tmp)),
            ("PROTECT_PROC", one(if is_hidden { "invisible" } else { "default" })),
            ("CAPABILITY", only(reads_executables, "CAP_SYS_PTRACE")),
            ("GIVE_UP", only(reads_executables, "capset")),
            ("SSHD", only(self.host_keys == HostKeys::Offered, "ssh.service sshd.service")),
            ("STATE_MODE", only(state.is_some(), "0700")),
            ("STATE", state.iter().map(|path| relative_value(path)).collect::<Result<_, _>>()?),
            ("RUNTIME", runtime.iter().map(|path| relative_value(path)).collect::<Result<_, _>>()?),
            ("READ_WRITE", written.iter().map(|path| path_value(path)).collect::<Result<_, _>>()?),
        ];
        Ok(fill(include_str!("data/agent.service"), &values))
    }
}

/// A group as a unit names it; none if no group can have that name.
fn group(group: &Account) -> Option<String> {
    match group {
        Account::Id(id) => Some(id.to_string()),
        Account::Name(name) => name.parse::<AccountName>().ok().map(|name| name.to_string()),
    }
}

/// The rest of a path that systemd can create for the unit below this directory, such as its state directory.
fn below<'p>(path: &'p Path, directory: &str) -> Option<&'p Path> {
    path.strip_prefix(directory).ok().filter(|rest| !rest.as_os_str().is_empty())
}
