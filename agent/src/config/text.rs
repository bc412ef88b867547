//! Settings as a file that says them, with a comment on each key.

use std::fmt::Write;

use host::go_duration;

use super::settings::{
    Account, Acls, Destination, Directory, Reader, Reload, ReloadAction, Renewal, Service,
    ServiceKind, Settings, Signal, SshConfig, Storage, Symlinks, Token, TpmSettings, Trust,
    X509Files,
};

/// A file that reads back to these settings.
#[must_use]
pub fn text(settings: &Settings) -> String {
    let mut yaml = Yaml::default();
    yaml.comment("Made by `agent configure`. `agent check` tells whether it is well.");
    yaml.line("version: v2");
    top(settings, &mut yaml);
    services(&settings.services, settings, &mut yaml);
    tpm(&settings.tpm, &mut yaml);
    yaml.0
}

fn top(settings: &Settings, yaml: &mut Yaml) {
    yaml.comment("Where the authority is. Several addresses are tried in turn.");
    match settings.authorities.as_slice() {
        [only] => yaml.line(&format!("proxy_server: {}", quoted(&only.to_string()))),
        several => {
            yaml.line("proxy_server:");
            several.iter().for_each(|one| yaml.line(&format!("  - {}", quoted(&one.to_string()))));
        }
    }
    yaml.line("onboarding:");
    yaml.line("  join_method: tpm");
    yaml.comment_in(1, "Name of the join token, or absolute path of a file that holds it.");
    let token = match &settings.token {
        Token::Value(name) => name.clone(),
        Token::File(path) => path.display().to_string(),
    };
    yaml.line(&format!("  token: {}", quoted(&token)));
    match &settings.trust {
        Trust::Pins(pins) => {
            yaml.comment_in(1, "The cluster's CAs, as `authority status` shows them.");
            yaml.line("  ca_pins:");
            pins.iter().for_each(|pin| yaml.line(&format!("    - {}", quoted(&pin.to_string()))));
        }
        Trust::CaPath(path) => {
            yaml.comment_in(1, "The cluster's CA certificate, PEM.");
            yaml.line(&format!("  ca_path: {}", quoted(&path.display().to_string())));
        }
    }
    yaml.comment("Where the bot's own identity is kept.");
    yaml.line("storage:");
    match &settings.storage {
        Storage::Directory(one) => directory(one, 1, yaml),
        Storage::Memory => yaml.line("  type: memory"),
    }
    yaml.comment("How long certificates live; the authority may grant less.");
    yaml.line(&format!("credential_ttl: {}", go_duration::text(settings.lifetime.ttl)));
    match settings.lifetime.renewal {
        Renewal::Every(interval) => {
            yaml.comment("How often they are renewed.");
            yaml.line(&format!("renewal_interval: {}", go_duration::text(interval)));
        }
        Renewal::HalfLife => {
            yaml.comment(
                "How often they are renewed; without it, when half of their life has passed.",
            );
            yaml.line("# renewal_interval: 20m");
        }
    }
    yaml.comment("Do everything once and end.");
    yaml.line(&format!("oneshot: {}", settings.oneshot));
    yaml.comment("Log what is of interest to developers.");
    yaml.line(&format!("debug: {}", settings.debug));
    yaml.comment("text, json or journal.");
    yaml.line(&format!("log_format: {}", settings.log_format.name()));
    yaml.comment("Where to answer /livez, /readyz and /metrics.");
    match settings.diag_addr {
        Some(address) => yaml.line(&format!("diag_addr: {}", quoted(&address.to_string()))),
        None => yaml.line("# diag_addr: 127.0.0.1:3001"),
    }
}

fn services(services: &[Service], settings: &Settings, yaml: &mut Yaml) {
    yaml.comment(
        "What is kept fresh beside the bot's identity: services of type identity or x509.",
    );
    if services.is_empty() {
        return yaml.line("services: []");
    }
    yaml.line("services:");
    for one in services {
        let kind = match one.kind {
            ServiceKind::Identity { .. } => "identity",
            ServiceKind::X509 { .. } => "x509",
        };
        yaml.line(&format!("  - type: {kind}"));
        yaml.line(&format!("    name: {}", quoted(one.name.as_str())));
        yaml.line(match one.kind {
            ServiceKind::Identity { ssh_config: SshConfig::On } => "    ssh_config: on",
            ServiceKind::Identity { ssh_config: SshConfig::Off } => "    ssh_config: off",
            ServiceKind::X509 { files: X509Files::Svid } => "    format: svid",
            ServiceKind::X509 { files: X509Files::Tls } => "    format: tls",
        });
        if let (true, Renewal::Every(interval)) =
            (one.lifetime != settings.lifetime, one.lifetime.renewal)
        {
            yaml.line(&format!("    credential_ttl: {}", go_duration::text(one.lifetime.ttl)));
            yaml.line(&format!("    renewal_interval: {}", go_duration::text(interval)));
        }
        yaml.line("    destination:");
        match &one.destination {
            Destination::Memory => yaml.line("      type: memory"),
            Destination::Directory { directory: one, readers: all } => {
                directory(one, 3, yaml);
                readers(all, yaml);
            }
        }
        reload(one.reload.as_ref(), yaml);
    }
}

fn directory(directory: &Directory, depth: usize, yaml: &mut Yaml) {
    let symlinks = match directory.symlinks {
        Symlinks::TrySecure => "try-secure",
        Symlinks::Secure => "secure",
        Symlinks::Insecure => "insecure",
    };
    let acls = match directory.acls {
        Acls::Try => "try",
        Acls::Off => "off",
        Acls::Required => "required",
    };
    let indent = "  ".repeat(depth);
    yaml.line(&format!("{indent}type: directory"));
    yaml.line(&format!("{indent}path: {}", quoted(&directory.path.display().to_string())));
    yaml.comment_in(depth, "Links on the way: try-secure follows those of root and the agent,");
    yaml.comment_in(depth, "secure none, insecure all.");
    yaml.line(&format!("{indent}symlinks: {symlinks}"));
    yaml.comment_in(depth, "Access control lists for readers: try, off or required.");
    yaml.line(&format!("{indent}acls: {acls}"));
}

fn readers(readers: &[Reader], yaml: &mut Yaml) {
    if readers.is_empty() {
        return;
    }
    yaml.line("      readers:");
    for reader in readers {
        let (key, account) = match reader {
            Reader::User(account) => ("user", account),
            Reader::Group(account) => ("group", account),
        };
        let account = match account {
            Account::Id(id) => id.to_string(),
            Account::Name(name) => quoted(name),
        };
        yaml.line(&format!("        - {key}: {account}"));
    }
}

fn reload(reload: Option<&Reload>, yaml: &mut Yaml) {
    yaml.comment_in(
        2,
        "Whom to tell of new files: command, signal with pid_file, or systemd_unit.",
    );
    let Some(reload) = reload else {
        return yaml.line("    # reload: {systemd_unit: nginx.service, timeout: 30s}");
    };
    yaml.line("    reload:");
    match &reload.action {
        ReloadAction::Command { program, arguments } => {
            yaml.comment_in(3, "A program and its arguments, run without a shell.");
            let words = std::iter::once(program).chain(arguments);
            let words: Vec<String> = words.map(|word| quoted(word)).collect();
            yaml.line("      command:");
            words.iter().for_each(|word| yaml.line(&format!("        - {word}")));
        }
        ReloadAction::Signal { signal, pid_file } => {
            yaml.comment_in(
                3,
                "HUP, USR1, USR2, INT, TERM, QUIT or WINCH, to the process in the file.",
            );
            yaml.line(&format!("      signal: {}", signal.name()));
            yaml.line(&format!("      pid_file: {}", quoted(&pid_file.display().to_string())));
        }
        ReloadAction::SystemdUnit(unit) => {
            yaml.comment_in(3, "The unit that systemd reloads, or restarts if it cannot.");
            yaml.line(&format!("      systemd_unit: {}", quoted(unit)));
        }
    }
    yaml.comment_in(3, "How long that may take, before it is ended and tried again.");
    yaml.line(&format!("      timeout: {}", go_duration::text(reload.timeout)));
}

fn tpm(tpm: &TpmSettings, yaml: &mut Yaml) {
    yaml.comment("The TPM: device:PATH, swtpm:path=SOCKET or swtpm:host=HOST,port=PORT.");
    yaml.line("tpm:");
    yaml.line(&format!("  address: {}", quoted(&tpm.address.to_string())));
    yaml.comment_in(1, "The endorsement key: auto takes the first that has a certificate.");
    yaml.line(&format!("  ek: {}", tpm.ek));
    for (key, file) in [
        ("owner_password_file", &tpm.passwords.owner),
        ("endorsement_password_file", &tpm.passwords.endorsement),
    ] {
        if let Some(file) = file {
            yaml.line(&format!("  {key}: {}", quoted(&file.display().to_string())));
        }
    }
}

impl Signal {
    /// Its name without `SIG`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Winch => "WINCH",
        }
    }
}

/// The file so far.
#[derive(Default)]
struct Yaml(String);

impl Yaml {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn comment(&mut self, comment: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(&format!("# {comment}"));
    }

    fn comment_in(&mut self, depth: usize, comment: &str) {
        self.line(&format!("{}# {comment}", "  ".repeat(depth)));
    }
}

/// Text that no reader takes for anything else: as it is if it is plain without doubt, else in double quotes (YAML 1.2 §7.3.1).
fn quoted(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':');
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(safe)
        && !text.ends_with(':')
        && !AMBIGUOUS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() || !c.is_ascii() => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// What some version of YAML takes for a boolean or nothing.
const AMBIGUOUS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
