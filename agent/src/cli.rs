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
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use host::command_line::{self, without_unsupported};
use host::exit::Exit;
use host::manual::Shell;
use tls::CaPin;
use tpm2::transport::Tcti;

use self::service::{Legacy, Service};
use crate::config::{Address, ConfigFile, Overrides, Token, token};
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
    let mut command = command_line::prepare(tbot::declare(command()));
    let matches = command.try_get_matches_from_mut(tbot::spelled(arguments));
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
    if let Some(overrides) = overrides(&mut cli)
        && let Some([one, other]) = prefer_command_line(overrides, matches)
    {
        let message = format!("{one} and {other} cannot be used together");
        return Err(command.error(ErrorKind::ArgumentConflict, message));
    }
    apply_service(&mut cli.command);
    Ok(cli)
}

fn overrides(cli: &mut Cli) -> Option<&mut Overrides> {
    match &mut cli.command {
        Command::Start(start) => Some(&mut start.overrides),
        Command::Check(check) => Some(&mut check.overrides),
        Command::Configure(configure) => Some(&mut configure.settings),
        _ => None,
    }
}

/// Of two options that exclude each other, the one on the command line wins over the other's environment variable.
/// Returns a pair that was given in the same place, which is an error.
fn prefer_command_line(
    overrides: &mut Overrides,
    matches: &ArgMatches,
) -> Option<[&'static str; 2]> {
    type Reset = fn(&mut Overrides);
    type Side = (&'static str, &'static str, Reset);
    const AUTH: Side = ("auth_server", "--auth-server", |all| all.auth_server.clear());
    const PROXY: Side = ("proxy_server", "--authority", |all| all.proxy_server.clear());
    const URI: Side = ("join_uri", "--join-uri", |all| all.join_uri = None);
    const PAIRS: [[Side; 2]; 5] = [
        [URI, AUTH],
        [URI, PROXY],
        [URI, ("token", "--token", |all| all.token = None)],
        [AUTH, PROXY],
        [
            ("ca_pin", "--ca-pin", |all| all.ca_pin.clear()),
            ("ca_path", "--ca-path", |all| all.ca_path = None),
        ],
    ];
    for [one, other] in PAIRS {
        let sources = [one.0, other.0].map(|id| matches.value_source(id));
        match sources {
            [Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)] => other.2(overrides),
            [Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine)] => one.2(overrides),
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
    /// Same as identify, with the labels of tbot
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
pub struct Join {
    /// Address of the authority; several, separated by commas, are tried in order
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "AGENT_AUTHORITY",
        value_delimiter = ',',
        value_parser = Address::of_list,
        required = true
    )]
    pub authority: Vec<Address>,
    /// Name of the join token, or absolute path of a file that contains it; the name is not a secret
    #[arg(long, value_name = "NAME", env = "AGENT_TOKEN", value_parser = token)]
    pub token: Token,
    /// CA pin of the cluster, as shown by `authority status`; may be given several times
    #[arg(long, value_name = "PIN", required = true)]
    pub ca_pin: Vec<CaPin>,
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
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        parse(line.split_whitespace().map(OsString::from)).map(|cli| cli.command)
    }

    fn start(line: &str) -> daemon::Start {
        match parsed(line) {
            Ok(Command::Start(start)) => *start,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn declaration_with_the_services_is_valid() {
        command_line::prepare(tbot::declare(command())).debug_assert();
        command().debug_assert();
    }

    #[test]
    fn options_of_start_mean_the_same_before_and_after_the_service() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let options = format!(
            "--token t --ca-pin {pin} --ca-pin {pin} --certificate-ttl 2h --renewal-interval 20m \
             --join-method tpm --oneshot --diag-addr 0.0.0.0:3001 --storage file:///s --proxy-server \
             p:443 --pid-file /run/tbot/tbot.pid --no-scoped --log-format json -c /f"
        );
        for line in [
            format!("tbot start {options} identity --destination /d"),
            format!("tbot start identity {options} --destination=file:///d"),
            format!("tbot -c /f start identity --destination /d {}", options.replace("-c /f", "")),
        ] {
            let start = start(&line);
            let all = &start.overrides;
            assert_eq!(all.token, Some(config::Token::Value("t".into())), "{line}");
            assert_eq!((all.ca_pin.len(), all.oneshot), (2, Some(true)), "{line}");
            assert_eq!(all.credential_ttl, Some(Duration::from_secs(7200)), "{line}");
            assert_eq!(all.renewal_interval, Some(Duration::from_secs(1200)), "{line}");
            assert_eq!(all.proxy_server, ["p:443".parse().unwrap()], "{line}");
            assert_eq!(all.storage, Some(config::storage("/s").unwrap()), "{line}");
            assert_eq!(start.pid_file.as_deref(), Some(Path::new("/run/tbot/tbot.pid")), "{line}");
            assert_eq!(start.file.path(), Path::new("/f"), "{line}");
            assert_eq!(all.services.len(), 1, "{line}");
        }
    }

    #[test]
    fn service_of_the_command_line_takes_the_place_of_the_default_file() {
        let nothing = |service: &str| start(&format!("tbot start {service}"));
        for (line, is_alone, services) in [
            ("", false, 0),
            ("legacy", false, 0),
            ("legacy --data-dir /s --destination-dir /d", false, 1),
            ("--data-dir /s --destination-dir /d", false, 1),
            ("noop", true, 0),
            ("no-op", true, 0),
            ("workload-identity-x509 --destination /d --reader-group web", true, 1),
            ("x509 --destination memory:", true, 1),
        ] {
            let start = nothing(line);
            assert_eq!(start.file.only_if_named, is_alone, "{line}");
            assert_eq!(start.overrides.services.len(), services, "{line}");
        }
        let stored = nothing("--storage /a --data-dir /s").overrides.storage;
        assert_eq!(stored, Some(config::storage("/s").unwrap()));
    }

    #[test]
    fn what_tbot_has_and_the_agent_has_not_is_refused_with_advice() {
        for line in [
            "tbot migrate -o x",
            "tbot init --destination-dir /d --owner u:g --bot-user b --clean",
            "tbot keypair create --proxy-server p:1",
            "tbot -d db --proxy-server p:1 ls",
            "tbot proxy --cluster x ssh",
            "tbot copy-binaries --include-fdpass /d",
            "tbot spiffe-inspect --path x",
            "tbot start database --service x --database y --username z",
            "tbot start kubernetes/v2 --name-selector x",
            "tbot configure spiffe-svid --help",
            "tbot start --token t ssh-multiplexer",
            "tbot start --fips",
            "tbot start --oneshot=false kubernetes/argo-cd --selector x",
            "tbot --insecure start",
            "tbot start --insecure identity --destination /d",
            "tbot start identity --destination /d --scoped",
            "tbot start --registration-secret-path /x",
            "tbot start x509 --destination /d --name-selector web",
            "tbot start x509 --destination /d --label-selector a=b",
        ] {
            let refused = parsed(line).unwrap_err();
            let text = refused.to_string();
            assert!(refused.use_stderr() && text.contains(" is not supported"), "{line}: {text}");
            assert_eq!(text.trim_end().lines().count(), 2, "{line}: {text}");
        }
        let missing = parsed("tbot").unwrap_err().to_string();
        assert!(missing.contains("identify") && !missing.contains("keypair"), "{missing}");
        let unknown = parsed("tbot start identty --destination /d").unwrap_err().to_string();
        assert!(unknown.contains("did you mean `identity`?"), "{unknown}");
        for line in ["tbot start --no-fips --no-insecure --no-scoped", "tbot -d start --no-debug"] {
            parsed(line).map(drop).unwrap_or_else(|error| match line.contains("-d ") {
                true => assert!(error.to_string().contains("cannot be used multiple times")),
                false => panic!("{line}: {error}"),
            });
        }
    }

    #[test]
    fn the_other_commands_of_tbot_are_parsed() {
        for line in [
            "tbot version",
            "tbot tpm identify",
            "tbot -d tpm identify",
            "tbot wait --diag-addr 127.0.0.1:3001 --service identity --timeout 30s",
            "tbot install systemd --name tbot --user teleport --group teleport --write --force \
             --pid-file /run/tbot/tbot.pid --systemd-directory /d --anonymous-telemetry",
            "tbot install systemd --no-anonymous-telemetry -c /etc/tbot.yaml",
            "tbot configure --join-method=tpm --token=t --proxy-server=p:443 -o /etc/tbot.yaml",
        ] {
            parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        let debug = parsed("tbot -d tpm identify").unwrap();
        assert!(matches!(debug, Command::Tpm(Tpm::Identify(TpmIdentify { debug: true, .. }))));
    }

    #[test]
    fn path_given_to_join_as_token_is_that_of_a_file() {
        let token = |value: &str| {
            let arguments =
                ["agent", "join", "--authority", "a:1", "--storage", "s", "--token", value];
            let pin = ["--ca-pin".to_owned(), format!("sha256:{}", "ab".repeat(32))];
            let arguments =
                arguments.map(OsString::from).into_iter().chain(pin.map(OsString::from));
            match parse(arguments).unwrap().command {
                Command::Join(join) => join.token,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(token("/etc/token"), Token::File("/etc/token".into()));
        assert_eq!(token("web"), Token::Value("web".to_owned()));
    }
}
