//! Command lines as they are written for tctl: what of them is not supported here, with the reason.

use clap::{ArgMatches, Command, Error};
use host::command_line::{
    Unsupported, check_options, unsupported, unsupported_command, unsupported_option,
    unsupported_switch,
};

const NO_USERS: &str = "use accounts of the operating system: those that may connect to the socket in --data-dir are operators";
const ONLY_BOTS: &str =
    "use `authority bots` and `authority tokens`: only bots join this authority";
const NO_TARGET: &str = "use --bot, --instance, --token or --ek: only bots join this authority";
const ONE_SOCKET: &str = "use --data-dir: operators reach the authority through the socket there";

/// Commands that are not supported, with what to do instead.
pub(super) const COMMANDS: [Unsupported; 19] = [
    ("acl", NO_USERS),
    ("alerts", "use `authority status`, which shows warnings"),
    ("apps", ONLY_BOTS),
    (
        "auth",
        "use `authority export` for public keys and the trust bundle, `authority status` for CA \
         pins: the authority keeps its CA keys to itself",
    ),
    ("db", ONLY_BOTS),
    ("desktop", ONLY_BOTS),
    ("devices", "use `authority tokens`: a rule of a token names a TPM"),
    ("idp", NO_USERS),
    ("inventory", "use `authority bots instances`"),
    ("kube", ONLY_BOTS),
    ("nodes", ONLY_BOTS),
    ("notifications", NO_USERS),
    ("plugins", ONLY_BOTS),
    ("recordings", "use `authority audit ls`: there are no sessions to record"),
    ("requests", NO_USERS),
    ("sso", NO_USERS),
    ("top", "use /metrics at the address of diag_addr"),
    ("users", NO_USERS),
    (
        "workload-identity",
        "use `authority get workload_identities`, `authority edit` and `authority rm`",
    ),
];

/// Options of all commands.
const GLOBAL: [Unsupported; 3] = [
    ("auth-server", ONE_SOCKET),
    ("identity", ONE_SOCKET),
    ("insecure", "remove it: the socket in --data-dir is not reached over a network"),
];

/// Options of some commands, by the path of the command.
const OPTIONS: [(&[&str], &[Unsupported]); 3] = [
    (
        &["lock"],
        &[
            ("access-request", NO_TARGET),
            ("device", NO_TARGET),
            ("login", NO_TARGET),
            ("mfa-device", NO_TARGET),
            ("node", NO_TARGET),
            ("role", NO_TARGET),
            ("server-id", NO_TARGET),
            ("windows-desktop", NO_TARGET),
        ],
    ),
    (
        &["bots", "add"],
        &[("ttl", "use `authority tokens add --ttl`: no secret token is made for a bot")],
    ),
    (&["tokens", "ls"], &[("labels", "use --format json, which has the labels of each token")]),
];

/// Adds what [`check`] refuses, so that it is not reported as a typing error.
pub(super) fn declare(command: Command) -> Command {
    let options = GLOBAL.iter().map(|(name, _)| match *name {
        "insecure" => unsupported_switch(name).global(true),
        "identity" => unsupported_option(name).short('i').global(true),
        _ => unsupported_option(name).global(true),
    });
    let command = command.args(options);
    let command =
        COMMANDS.iter().fold(command, |all, (name, _)| all.subcommand(unsupported_command(name)));
    OPTIONS.iter().fold(command, |all, (path, options)| {
        let options = options.iter().map(|(name, _)| unsupported_option(name));
        below(all, path, &|command: Command| command.args(options.clone()))
    })
}

/// Changes the command at this path.
fn below(command: Command, path: &[&str], change: &dyn Fn(Command) -> Command) -> Command {
    match path {
        [] => change(command),
        [verb, rest @ ..] => command.mut_subcommand(*verb, |verb| below(verb, rest, change)),
    }
}

/// Refuses what is declared only to be refused.
///
/// # Errors
/// What is not supported, with a line of advice.
pub(super) fn check(matches: &ArgMatches) -> Result<(), Error> {
    check_options(&GLOBAL, matches)?;
    let (mut path, mut matches) = (Vec::new(), matches);
    while let Some((verb, below)) = matches.subcommand() {
        path.push(verb);
        matches = below;
    }
    let verb = path.first().copied().unwrap_or_default();
    if let Some((_, advice)) = COMMANDS.iter().find(|(name, _)| *name == verb) {
        return Err(unsupported(&format!("the command {verb} of tctl"), advice));
    }
    check_options(&GLOBAL, matches)?;
    let options = OPTIONS.iter().find(|(of, ..)| *of == path.as_slice());
    options.map_or(Ok(()), |(_, options)| check_options(options, matches))
}
