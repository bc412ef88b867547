//! Command lines as they are written for tbot: its syntax, and what of it is not supported here, with the reason.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, Error, Subcommand};
use host::command_line::{
    Unsupported, check_options, unsupported, unsupported_command, unsupported_option,
    unsupported_switch,
};
use host::config::section::unknown;

use super::SERVICE_VERBS;
use super::service::Service;
use crate::config::{SSH_TYPES, UNSUPPORTED_SERVICES, WORKLOAD_API_TYPES};

/// The name of the program, and of its systemd unit.
const NAME: &str = "tbot";
const NEEDS_PROXY: &str =
    "remove it: it needs a Teleport proxy, which this authority does not have";
const OTHER_METHOD: &str = "remove it: it belongs to the join method bound_keypair";

/// Commands that are not supported, with what to do instead.
pub(super) const COMMANDS: [Unsupported; 11] = [
    ("copy-binaries", "copy the program itself: it needs no other file"),
    ("db", NEEDS_PROXY),
    (
        "init",
        "remove it: `agent start` creates directories, and gives access to the `readers` of a destination",
    ),
    ("keypair", "remove it: the key is in the TPM; `agent identify` shows what a token must allow"),
    ("kube", NEEDS_PROXY),
    (
        "migrate",
        "write version v2 of the file with `agent configure`: `destinations` is `services` there",
    ),
    ("proxy", NEEDS_PROXY),
    ("spiffe-inspect", "use a client of the Workload API, or `openssl x509 -text -in svid.pem`"),
    ("ssh", NEEDS_PROXY),
    ("ssh-multiplexer-proxy-command", NEEDS_PROXY),
    ("ssh-proxy-command", NEEDS_PROXY),
];

/// Options of [`SERVICE_VERBS`] that are not supported, with what to do instead. Those that may be `false` are no options
/// then.
const OPTIONS: [Unsupported; 7] = [
    ("fips", "remove it: this agent's cryptography is not validated to FIPS 140"),
    (
        "insecure",
        "give --ca-pin or --ca-path: without them any server would be accepted as the authority",
    ),
    ("scoped", "remove it: the authority has no scopes"),
    ("registration-secret", OTHER_METHOD),
    ("registration-secret-path", OTHER_METHOD),
    ("static-key-path", OTHER_METHOD),
    ("include-federated-trust-bundles", "remove it: the only trust domain is the cluster's"),
];

/// Options without a value that tbot negates as `--no-NAME`.
const SWITCHES: [&str; 7] = [
    "anonymous-telemetry",
    "debug",
    "fips",
    "include-federated-trust-bundles",
    "insecure",
    "oneshot",
    "scoped",
];

/// Options that tbot takes before the command: with a value, and without.
const GLOBAL_OPTIONS: [&str; 3] = ["-c", "--config", "--log-format"];
const GLOBAL_SWITCHES: [&str; 4] = ["-d", "--debug", "--fips", "--insecure"];

/// A command line of tbot in the syntax that is declared: global options after the command, `--no-NAME` as `--NAME=false`.
pub(super) fn spelled(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut spelled: Vec<OsString> = arguments.next().into_iter().collect();
    let mut rest = arguments.map(|argument| negated(&argument).unwrap_or(argument)).peekable();
    let mut global = Vec::new();
    while let Some(argument) = rest.next_if(|argument| is_global(argument)) {
        let has_value = GLOBAL_OPTIONS.iter().any(|option| argument == *option);
        global.push(argument);
        global.extend(if has_value { rest.next() } else { None });
    }
    let (before, after): (Vec<_>, Vec<_>) = {
        let mut is_after = false;
        rest.partition(|argument| {
            is_after |= argument == "--";
            !is_after
        })
    };
    spelled.extend(before);
    spelled.extend(global);
    spelled.extend(after);
    spelled
}

fn is_global(argument: &OsStr) -> bool {
    let name = argument.to_str().map(|text| text.split_once('=').map_or(text, |(name, _)| name));
    name.is_some_and(|name| GLOBAL_OPTIONS.contains(&name) || GLOBAL_SWITCHES.contains(&name))
}

fn negated(argument: &OsStr) -> Option<OsString> {
    let name = argument.to_str()?.strip_prefix("--no-")?;
    SWITCHES.contains(&name).then(|| format!("--{name}=false").into())
}

/// Adds what [`check`] refuses, so that it is not reported as a typing error. `arguments` begin with the program.
pub(super) fn declare(command: Command, arguments: &[OsString]) -> Command {
    let command = if is_called(arguments) { with_unit_name(command) } else { command };
    let command =
        COMMANDS.iter().fold(command, |all, (name, _)| all.subcommand(unsupported_command(name)));
    SERVICE_VERBS.into_iter().fold(command, |all, verb| {
        all.mut_subcommand(verb, |verb| {
            let options = OPTIONS.iter().map(|(name, _)| match SWITCHES.contains(name) {
                true => unsupported_switch(name).global(true),
                false => unsupported_option(name).global(true),
            });
            verb.args(options).allow_external_subcommands(true)
        })
    })
}

/// Whether the program is called by the name of tbot, through a link.
fn is_called(arguments: &[OsString]) -> bool {
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    program.is_some_and(|name| name == NAME)
}

/// `systemctl enable tbot` is what follows `tbot install systemd` in guides.
fn with_unit_name(command: Command) -> Command {
    command.mut_subcommand("install", |install| {
        install.mut_subcommand("systemd", |systemd| {
            systemd.mut_arg("name", |name| name.default_value(NAME))
        })
    })
}

/// Refuses what is declared only to be refused.
///
/// # Errors
/// What is not supported, with a line of advice.
pub(super) fn check(matches: &ArgMatches) -> Result<(), Error> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    if let Some((_, advice)) = COMMANDS.iter().find(|(name, _)| *name == verb) {
        return Err(unsupported(&format!("the command {verb} of tbot"), advice));
    }
    if !SERVICE_VERBS.contains(&verb) {
        return Ok(());
    }
    let matches = match matches.subcommand() {
        None => matches,
        Some((service, matches)) if Service::has_subcommand(service) => matches,
        Some((service, _)) => return Err(unsupported_service(service)),
    };
    check_options(&OPTIONS, matches)
}

fn unsupported_service(service: &str) -> Error {
    let advice = "run `agent start --help` for the services that are supported";
    let what = match UNSUPPORTED_SERVICES.iter().find(|(name, _)| *name == service) {
        Some((_, why)) => format!("{service} is not supported: {why}"),
        None if WORKLOAD_API_TYPES.contains(&service) || SSH_TYPES.contains(&service) => {
            format!(
                "{service} is not supported here: write it in `services` of a configuration file"
            )
        }
        None => {
            let known = Service::augment_subcommands(Command::new("start"));
            let known: Vec<&str> = known.get_subcommands().map(Command::get_name).collect();
            unknown(service, &known)
        }
    };
    Error::raw(ErrorKind::InvalidSubcommand, format!("the service {what}\n{advice}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_options_may_stand_before_the_command_and_switches_be_negated() {
        for (written, meant) in [
            ("tbot -c f -d start --oneshot", "tbot start --oneshot -c f -d"),
            ("tbot --config=f --log-format json start", "tbot start --config=f --log-format json"),
            ("tbot start --no-oneshot --no-debug", "tbot start --oneshot=false --debug=false"),
            ("tbot -d proxy -- a --b", "tbot proxy -d -- a --b"),
            ("tbot start --no-such", "tbot start --no-such"),
            ("tbot -c", "tbot -c"),
            ("tbot", "tbot"),
            ("", ""),
        ] {
            let words =
                |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(spelled(words(written)), words(meant), "{written}");
        }
    }
}
