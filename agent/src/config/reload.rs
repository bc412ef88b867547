//! The section `reload`.

use host::config::finding::Source;
use host::config::section::{Given, Keys, Section, unknown};
use host::config::tree::{Node, Value};
use host::go_duration;

use super::destination::path;
use super::settings::{DEFAULT_RELOAD_TIMEOUT, Reload, ReloadAction, Signal, Sshd};

pub(super) const RELOAD: Keys = Keys {
    of: "reload",
    known: &[
        ("command", "a list: a program and its arguments, run without a shell"),
        (
            "signal",
            "`HUP`, `USR1`, `USR2`, `INT`, `TERM`, `QUIT` or `WINCH`, sent to the process in `pid_file`",
        ),
        ("pid_file", "file with the process ID for `signal`"),
        ("systemd_unit", "the systemd unit to reload, or to restart if it cannot reload"),
        ("timeout", "time after which the hook is killed and retried (default `30s`)"),
        (
            "sshd",
            "of a service of type ssh_host: the sshd that is reloaded, whose configuration and certificate are checked; see below",
        ),
    ],
    refused: &[],
};

pub(super) const SSHD: Keys = Keys {
    of: "sshd",
    known: &[
        ("address", "where it listens, IP address and port (default `127.0.0.1:22`)"),
        ("config", "its configuration file (default `/etc/ssh/sshd_config`)"),
    ],
    refused: &[],
};

/// Reads it, of a service without host certificate.
pub(super) fn reload(node: &Node, source: &Source<'_>) -> Option<Reload> {
    let reload = any_reload(node, source)?;
    if reload.sshd.is_some() {
        let advice = "remove it: it belongs to services of type ssh_host";
        source.error(Some(&node.range), "`sshd` is about a host certificate", advice);
        return None;
    }
    Some(reload)
}

/// Reads it, of a service with a host certificate, which an sshd uses.
pub(super) fn reload_of_host(node: &Node, source: &Source<'_>) -> Option<Reload> {
    let reload = any_reload(node, source)?;
    Some(Reload { sshd: Some(reload.sshd.unwrap_or_default()), ..reload })
}

/// Reads it: exactly one of the actions.
fn any_reload(node: &Node, source: &Source<'_>) -> Option<Reload> {
    let section = Section::open(node, &RELOAD, source)?;
    let ways = ["command", "signal", "systemd_unit"].map(|key| section.node(key).is_some());
    if ways.into_iter().filter(|way| *way).count() != 1 {
        let message = "`reload` needs one of `command`, `signal` with `pid_file`, `systemd_unit`";
        source.error(section.range.as_ref(), message, "keep exactly one");
        return None;
    }
    let timeout = section.parse("timeout", go_duration::parse);
    let timeout = timeout.or(Given::Here(DEFAULT_RELOAD_TIMEOUT, None));
    let pid_file = section.parse("pid_file", path);
    let [command, signal, _] = ways;
    if !signal && !pid_file.is_absent() {
        source.error(section.key("pid_file"), "`pid_file` needs `signal`", "add `signal: HUP`");
        return None;
    }
    let action = match (command, signal) {
        (true, _) => self::command(&section, source),
        (_, true) => {
            if pid_file.is_absent() {
                let message = "`signal` needs a `pid_file`";
                source.error(section.key("signal"), message, "add `pid_file: FILE`");
            }
            let signal = section.parse("signal", self::signal).value();
            signal
                .zip(pid_file.value())
                .map(|(signal, pid_file)| ReloadAction::Signal { signal, pid_file })
        }
        _ => section.parse("systemd_unit", unit).value().map(ReloadAction::SystemdUnit),
    };
    let sshd = section.node("sshd").map(|node| sshd(node, source));
    let sshd = match sshd {
        None => None,
        Some(sshd) => Some(sshd?),
    };
    Some(Reload { action: action?, timeout: timeout.value()?, sshd })
}

fn sshd(node: &Node, source: &Source<'_>) -> Option<Sshd> {
    let section = Section::open(node, &SSHD, source)?;
    let Sshd { address, config } = Sshd::default();
    let address = section.parse("address", str::parse).or(Given::Here(address, None));
    let config = section.parse("config", path).or(Given::Here(config, None));
    Some(Sshd { address: address.value()?, config: config.value()? })
}

const SIGNALS: [Signal; 7] = [
    Signal::Hup,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Int,
    Signal::Term,
    Signal::Quit,
    Signal::Winch,
];

/// With `SIG` or without.
fn signal(text: &str) -> Result<Signal, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let found = SIGNALS.into_iter().find(|signal| signal.name() == name);
    found.ok_or_else(|| unknown(text, &SIGNALS.map(Signal::name)))
}

/// A program and its arguments, run without a shell.
fn command(section: &Section<'_>, source: &Source<'_>) -> Option<ReloadAction> {
    let node = section.node("command")?;
    let Value::Sequence(nodes) = &node.value else {
        let advice =
            "write a list such as [\"systemctl\", \"reload\", \"nginx\"]; no shell runs it";
        source.error(
            Some(&node.range),
            "`command` must be a list: the program, then its arguments",
            advice,
        );
        return None;
    };
    let words: Vec<Option<String>> = nodes.iter().map(|node| argument(node, source)).collect();
    let mut words = words.into_iter().collect::<Option<Vec<_>>>()?.into_iter();
    match words.next().filter(|program| !program.is_empty()) {
        Some(program) => Some(ReloadAction::Command { program, arguments: words.collect() }),
        None => {
            source.error(Some(&node.range), "`command` is empty: it needs a program", "");
            None
        }
    }
}

/// An argument can be anything, except that no string of the kernel has a NUL in it.
fn argument(node: &Node, source: &Source<'_>) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } if text.contains('\0') => {
            source.error(Some(&node.range), "an argument contains a NUL character", "");
            None
        }
        Value::Scalar { text, .. } => Some(text.clone()),
        Value::Null => Some(String::new()),
        other => {
            let message =
                format!("an argument of `command` must be a single value, not {}", other.what());
            source.error(Some(&node.range), message, "");
            None
        }
    }
}

/// systemd.unit(5): letters, digits, `:-_.\` and, for instances, `@`; with the type of the unit.
fn unit(text: &str) -> Result<String, &'static str> {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if text.len() > 255 || text.starts_with('-') || !text.chars().all(allowed) {
        return Err("this is not a valid systemd unit name");
    }
    Ok(if text.contains('.') { text.to_owned() } else { format!("{text}.service") })
}
