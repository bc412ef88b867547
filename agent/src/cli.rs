//! The command line, declared.

pub mod configuration;
pub mod daemon;
pub mod install;
pub mod service;
mod tbot;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    Arg, ArgGroup, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use host::command_line::{self, without_unsupported};
use host::exit::Exit;
use host::manual::Shell;
use tpm2::transport::Tcti;

use self::service::{Legacy, Service};
use crate::config::{Address, ConfigFile, Overrides, ServerOptions, Token, token};
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::PasswordFiles;

/// The heading of options that also are in the configuration file.
const OVERRIDES: &str = "Overrides of the configuration file";

/// Give this host an identity that is bound to its TPM 2.0
#[derive(Debug, Parser)]
#[command(name = "agent", version, after_help = host::exit::help(&Exit::ALL, "refused by the authority"), max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The command line as it is declared, with what derives cannot say: options of `start` and `configure` may also follow the
/// service.
#[must_use]
pub fn command() -> clap::Command {
    let everywhere = |arg: Arg| match Legacy::IDS.contains(&arg.get_id().as_str()) {
        true => arg,
        false => arg.global(true),
    };
    let with_services = |verb: clap::Command| verb.mut_args(everywhere);
    SERVICE_VERBS
        .into_iter()
        .fold(Cli::command(), |all, verb| all.mut_subcommand(verb, with_services))
}

/// The verbs that take a service.
const SERVICE_VERBS: [&str; 2] = ["start", "configure"];

/// Parses a command line. Empty environment variables count as unset.
///
/// # Errors
/// The command line is invalid, or asks for help.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments = tbot::spelled(arguments);
    let mut command = command_line::prepare(tbot::declare(command(), &arguments));
    let matches = command.try_get_matches_from_mut(arguments);
    let matches = matches.map_err(|error| without_unsupported(error, &tbot::COMMANDS))?;
    tbot::check(&matches)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let Some((_, matches)) = matches.subcommand() else { return Ok(cli) };
    if let Command::Wait(wait) = &mut cli.command
        && matches.value_source("storage") == Some(ValueSource::CommandLine)
        && matches.value_source("diag_addr") != Some(ValueSource::CommandLine)
    {
        // --storage on the command line names the agent; AGENT_DIAG_ADDR may belong to another.
        wait.diag_addr = None;
    }
    // Options are known where the service is, before or after its name.
    let matches = matches.subcommand().map_or(matches, |(_, service)| service);
    match &mut cli.command {
        Command::Start(start) => start.complete(matches)?,
        Command::Configure(configure) => configure.complete(matches)?,
        _ => {}
    }
    let both = match &mut cli.command {
        Command::Join(join) => prefer_command_line(join, &Join::EXCLUSIVE, matches),
        command => overrides(command)
            .and_then(|overrides| prefer_command_line(overrides, &EXCLUSIVE_OVERRIDES, matches)),
    };
    if let Some([one, other]) = both {
        let message = format!("{one} and {other} cannot be used together");
        return Err(command.error(ErrorKind::ArgumentConflict, message));
    }
    apply_service(&mut cli.command);
    Ok(cli)
}

fn overrides(command: &mut Command) -> Option<&mut Overrides> {
    match command {
        Command::Start(start) => Some(&mut start.overrides),
        Command::Check(check) => Some(&mut check.overrides),
        Command::Configure(configure) => Some(&mut configure.settings),
        _ => None,
    }
}

/// An option that another one excludes: its identifier and name, and how to drop its value.
type Exclusive<T> = (&'static str, &'static str, fn(&mut T));

const EXCLUSIVE_OVERRIDES: [[Exclusive<Overrides>; 2]; 5] = {
    const AUTH: Exclusive<Overrides> =
        ("auth_server", "--auth-server", |all| all.auth_server.clear());
    const PROXY: Exclusive<Overrides> =
        ("proxy_server", "--authority", |all| all.proxy_server.clear());
    const URI: Exclusive<Overrides> = ("join_uri", "--join-uri", |all| all.join_uri = None);
    [
        [URI, AUTH],
        [URI, PROXY],
        [URI, ("token", "--token", |all| all.token = None)],
        [AUTH, PROXY],
        [
            ("ca_pin", "--ca-pin", |all| all.server.ca_pin.clear()),
            ("ca_path", "--ca-path", |all| all.server.ca_path = None),
        ],
    ]
};

/// Of two options that exclude each other, the one on the command line wins over the other's environment variable.
/// Returns a pair that was given in the same place, which is an error.
fn prefer_command_line<T>(
    options: &mut T,
    pairs: &[[Exclusive<T>; 2]],
    matches: &ArgMatches,
) -> Option<[&'static str; 2]> {
    for [one, other] in pairs {
        let sources = [one.0, other.0].map(|id| matches.value_source(id));
        match sources {
            [Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)] => other.2(options),
            [Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine)] => one.2(options),
            [Some(_), Some(_)] => return Some([one.1, other.1]),
            _ => {}
        }
    }
    None
}

/// Makes the service of the command line a part of its settings.
fn apply_service(command: &mut Command) {
    let (service, legacy, settings) = match command {
        Command::Start(start) => {
            let service = start.service.as_ref();
            start.file.only_if_named = service.is_some_and(Service::is_configuration);
            (service, &start.legacy, &mut start.overrides)
        }
        Command::Configure(configure) => {
            (configure.service.as_ref(), &configure.legacy, &mut configure.settings)
        }
        _ => return,
    };
    legacy.apply(settings);
    if let Some(service) = service {
        service.apply(settings);
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the TPM's endorsement key, which an operator needs to let this host join
    Identify(Identify),
    /// Show the endorsement key with the labels of tbot
    #[command(subcommand)]
    Tpm(Tpm),
    /// Check everything a join depends on and report problems
    Doctor(Doctor),
    /// Prove the TPM to the authority and receive certificates
    Join(Join),
    /// Show the stored identity and the health of the running agent
    Status(Status),
    /// Ask the authority which bot this host is, over mutual TLS with the key in the TPM
    Whoami(Whoami),
    /// Run as a daemon: join, renew, and write the services' credentials
    Start(Box<daemon::Start>),
    /// Wait until a running agent is healthy
    Wait(daemon::Wait),
    /// Write a commented configuration file
    Configure(Box<configuration::Configure>),
    /// Validate a configuration file and show the resulting settings
    Check(Box<configuration::Check>),
    /// Print or write the systemd unit or the udev rule for the agent
    #[command(subcommand)]
    Install(install::Install),
    /// Print the version of the program
    Version,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page of the program or of a command
    Man {
        /// The command [default: the program itself]
        command: Option<String>,
    },
    /// Read other processes' executables for the daemon, which runs this command
    #[command(hide = true)]
    ReadExecutables,
}

/// Which TPM.
#[derive(Args, Clone, Debug)]
pub struct TpmAddress {
    /// The TPM: device:PATH, swtpm:path=SOCKET or swtpm:host=HOST,port=PORT
    #[arg(long, value_name = "TCTI", env = "AGENT_TPM", default_value = Tcti::DEFAULT, value_parser = crate::tpm::address)]
    pub tpm: Tcti,
}

/// Which of the TPM's endorsement keys.
#[derive(Args, Clone, Debug)]
pub struct Ek {
    /// The endorsement key. auto: the first one with a certificate, in the order of this list; else
    /// rsa2048
    #[arg(
        long,
        value_name = "EK",
        default_value = "auto",
        long_help = "The endorsement key: auto, rsa2048, p256, rsa2048-high, p256-high, p384, p521, \
                     rsa3072, rsa4096. auto: the first one with a certificate, in the order of this list; \
                     else rsa2048"
    )]
    pub ek: EkChoice,
}

/// `agent identify`.
#[derive(Args, Debug)]
pub struct Identify {
    #[command(flatten)]
    #[doc = "Which TPM."]
    pub tpm: TpmAddress,
    #[command(flatten)]
    #[doc = "Which endorsement key."]
    pub ek: Ek,
    #[command(flatten)]
    #[doc = "Where the TPM's passwords are."]
    pub passwords: PasswordFiles,
    /// Output format; json lists every endorsement key that has a certificate, and every form of its hash
    #[arg(long, value_enum, default_value_t = IdentifyFormat::Text)]
    pub format: IdentifyFormat,
}

/// `agent tpm`.
#[derive(Debug, Subcommand)]
pub enum Tpm {
    /// Show the TPM's endorsement key with the labels of tbot's newest versions
    Identify(TpmIdentify),
}

/// `agent tpm identify`.
#[derive(Args, Debug)]
pub struct TpmIdentify {
    #[command(flatten)]
    #[doc = "Which TPM."]
    pub tpm: TpmAddress,
    #[command(flatten)]
    #[doc = "Which endorsement key."]
    pub ek: Ek,
    #[command(flatten)]
    #[doc = "Where the TPM's passwords are."]
    pub passwords: PasswordFiles,
    /// Also show the key and its certificate, PEM
    #[arg(short, long)]
    pub debug: bool,
}

/// Output formats of `agent identify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentifyFormat {
    /// Human-readable
    Text,
    /// JSON
    Json,
    /// YAML to paste into a token
    Rule,
}

/// `agent doctor`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each line is ok, warn (a join works, but an operator should know), FAIL or skip. Exits with the code of the first \
FAIL. Changes nothing in the TPM.")]
pub struct Doctor {
    #[command(flatten)]
    #[doc = "Which configuration."]
    pub file: ConfigFile,
    /// The TPM: device:PATH, swtpm:path=SOCKET or swtpm:host=HOST,port=PORT [default: from the configuration]
    #[arg(long, value_name = "TCTI", env = "AGENT_TPM", value_parser = crate::tpm::address)]
    pub tpm: Option<Tcti>,
    #[command(flatten)]
    #[doc = "Where the TPM's passwords are, if not where the configuration says."]
    pub passwords: PasswordFiles,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `agent join`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("address").args(["proxy_server", "auth_server"]).required(true).multiple(true),
    override_usage = "\
agent join [OPTIONS] --authority <HOST:PORT> --token <NAME> --storage <DIR>
       agent join [OPTIONS] --auth-server <HOST:PORT> --ca-pin <PIN> --token <NAME> --storage <DIR>"
)]
pub struct Join {
    /// Address of the authority; several, separated by commas, are tried in order. Without --ca-pin and --ca-path, its
    /// certificate is verified by the system's CAs
    #[arg(
        long = "authority",
        visible_alias = "proxy-server",
        value_name = "HOST:PORT",
        env = "AGENT_AUTHORITY",
        value_delimiter = ',',
        value_parser = Address::of_list
    )]
    pub proxy_server: Vec<Address>,
    /// Same as --authority, but needs --ca-pin or --ca-path
    #[arg(
        short = 'a',
        long,
        value_name = "HOST:PORT",
        env = "AGENT_AUTH_SERVER",
        value_delimiter = ',',
        value_parser = Address::of_list
    )]
    pub auth_server: Vec<Address>,
    /// Name of the join token, or absolute path of a file that contains it; the name is not a secret
    #[arg(long, value_name = "NAME", env = "AGENT_TOKEN", value_parser = token)]
    pub token: Token,
    #[command(flatten)]
    #[doc = "What the server has to be."]
    pub server: ServerOptions,
    #[command(flatten)]
    #[doc = "Where the identity is."]
    pub storage: Storage,
    #[command(flatten)]
    #[doc = "Which TPM."]
    pub tpm: TpmAddress,
    #[command(flatten)]
    #[doc = "Which endorsement key."]
    pub ek: Ek,
    #[command(flatten)]
    #[doc = "Where the TPM's passwords are."]
    pub passwords: PasswordFiles,
    /// Log at debug level, including the number of TPM commands and the time they took
    #[arg(short, long)]
    pub debug: bool,
}

impl Join {
    const EXCLUSIVE: [[Exclusive<Self>; 2]; 2] = [
        [
            ("auth_server", "--auth-server", |join| join.auth_server.clear()),
            ("proxy_server", "--authority", |join| join.proxy_server.clear()),
        ],
        [
            ("ca_pin", "--ca-pin", |join| join.server.ca_pin.clear()),
            ("ca_path", "--ca-path", |join| join.server.ca_path = None),
        ],
    ];
}

/// Where the identity is.
#[derive(Args, Clone, Debug)]
pub struct Storage {
    /// Directory of the stored identity
    #[arg(long, value_name = "DIR", env = "AGENT_STORAGE")]
    pub storage: PathBuf,
}

/// `agent status`.
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    #[doc = "Where the identity is."]
    pub storage: Storage,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `agent whoami`.
#[derive(Args, Debug)]
pub struct Whoami {
    #[command(flatten)]
    #[doc = "Where the identity is."]
    pub storage: Storage,
    #[command(flatten)]
    #[doc = "Which TPM."]
    pub tpm: TpmAddress,
    #[command(flatten)]
    #[doc = "Where the TPM's passwords are."]
    pub passwords: PasswordFiles,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Human-readable
    Text,
    /// JSON
    Json,
}

#[cfg(test)]
mod tests;
