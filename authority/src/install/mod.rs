//! The systemd unit that runs the authority, with no more rights than it needs.

use std::net::SocketAddr;
use std::path::PathBuf;

use host::account::{AccountName, UnitName};
use host::systemd_unit::{InvalidPath, fill, path_value, path_word, relative_value};

#[cfg(test)]
mod tests;

/// What the unit is made from.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its name.
    pub name: UnitName,
    /// The user that the authority runs as.
    pub user: AccountName,
    /// That user's group.
    pub group: AccountName,
    /// The program.
    pub program: PathBuf,
    /// The authority's data directory.
    pub data: PathBuf,
    /// The same, if the command line is to name it: it goes before the configuration.
    pub data_dir: Option<PathBuf>,
    /// Where it listens, if not where the configuration says.
    pub listen: Option<SocketAddr>,
    /// All addresses on which it listens.
    pub addresses: Vec<SocketAddr>,
    /// Its configuration file, if it has one.
    pub config: Option<PathBuf>,
}

impl Unit {
    /// The unit's file.
    ///
    /// # Errors
    /// A path that is relative, or no clean text.
    pub fn render(&self) -> Result<String, InvalidPath> {
        let state = self.data.strip_prefix("/var/lib").ok();
        let state = state.filter(|rest| !rest.as_os_str().is_empty());
        // Port 0 is any free one.
        let privileged = self.addresses.iter().any(|address| (1..1024).contains(&address.port()));
        let one = |value: String| vec![value];
        let only = |condition: bool, value: &str| {
            if condition { one(value.to_owned()) } else { Vec::new() }
        };
        let capability = if privileged { "CAP_NET_BIND_SERVICE" } else { "" };
        let data = path_value(&self.data)?;
        let values = [
            ("NAME", one(self.name.to_string())),
            ("PROGRAM", one(path_word(&self.program)?)),
            ("OPTIONS", one(self.options()?)),
            ("USER", one(self.user.to_string())),
            ("GROUP", one(self.group.to_string())),
            ("CAPABILITY", only(privileged, capability)),
            ("CAPABILITIES", one(capability.to_owned())),
            // In a user namespace of its own that capability would be worth nothing.
            ("PRIVATE_USERS", only(!privileged, "yes")),
            ("STATE_MODE", only(state.is_some(), "0700")),
            ("READ_WRITE", only(state.is_none(), &data)),
            ("STATE", state.into_iter().map(relative_value).collect::<Result<_, _>>()?),
        ];
        Ok(fill(include_str!("authority.service"), &values))
    }

    fn options(&self) -> Result<String, InvalidPath> {
        let mut options = Vec::new();
        if let Some(data) = &self.data_dir {
            options.push(format!("--data-dir {}", path_word(data)?));
        }
        if let Some(listen) = self.listen {
            options.push(format!("--listen {listen}"));
        }
        if let Some(config) = &self.config {
            options.push(format!("--config {}", path_word(config)?));
        }
        Ok(options.join(" "))
    }
}
