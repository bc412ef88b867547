//! The command line, declared.

pub mod authorities;
pub mod bots;
pub mod ca;
pub mod install;
mod tctl;
pub mod tokens;
pub mod which;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use host::command_line::{self, without_unsupported};
use host::exit::{self, Exit};
use host::go_duration;
use host::log::LogFormat;

use self::authorities::{Authorities, Recovery};
use self::bots::Bots;
use self::ca::Ca;
use self::tokens::Tokens;
use self::which::{Asked, Which, asked, editable, one};
use crate::config::{EkPolicy, Leniency, LoadError, Settings, Start};
use crate::data_directory::DEFAULT_DATA_DIR;
use crate::resource::{self, EkHash, InstanceId, JoinId, Name, Timestamp};

/// The exit codes of the program. It has no TPM that could be busy.
const CODES: [Exit; 8] = [
    Exit::Refused,
    Exit::Usage,
    Exit::Data,
    Exit::Unavailable,
    Exit::Bug,
    Exit::Io,
    Exit::Permission,
    Exit::Config,
];

/// What `authority rm` does not end, below its help.
const RM_HELP: &str = "\
A host cannot renew once its bot, token or instance is removed. Issued certificates stay valid until they expire.";

/// Who runs `authority store migrate`, below its help.
const MIGRATE_HELP: &str = "\
The authority never changes tables itself. Run this before the first start and before each upgrade, as a role that may create a schema \
in the database. It can be repeated.";

/// What `authority store copy` needs, below its help.
const COPY_HELP: &str = "\
A PATH is a data directory, whose embedded store is meant, or a configuration file, whose `store` is meant. Stop all authorities that use \
one of the two stores first. All records are compared at the end. After an interruption, run the command again; no authority opens the \
incomplete store. The audit log, `store-id`, `wrapping.key` and what was copied stay where they are.";

/// What `authority backup` writes, below its help.
const BACKUP_HELP: &str = "\
The authority may run: it goes on meanwhile, and the backup has all records as they are at one moment. The private keys of the CAs are among \
them, encrypted to the recovery key and to the wrapping key of each authority; neither of these is in the backup, and one is needed to \
restore it. Not in the backup: the configuration, `audit.jsonl` and the certificates of public names.";

/// What `authority restore` does, below its help.
const RESTORE_HELP: &str = "\
The backup is checked, and the keys of the CAs are opened, before anything is written; all records are compared afterwards. An interrupted \
restore is repeated. The restored authority has an ID, a wrapping key and a log of its own; those in the backup are removed. It does not start \
before `authority store accept-restored`: locks, removals and other changes that were made after the backup are lost.";

/// What `authority store accept-restored` does, below its help.
const ACCEPT_HELP: &str = "\
Locks, removals and other changes that were made after the backup are lost: repeat them at once when the authority runs, or keep hosts \
away until then. Hosts that joined after the backup join again. Of each other host, one certificate that is later than its record is accepted without \
the warning about clones.";

/// How `authority edit` finds the editor, below its help.
const EDIT_HELP: &str = "\
The editor is that of TELEPORT_EDITOR, VISUAL or EDITOR, or vi. The resource is written only if nobody else has changed it meanwhile.";

/// Decide which hosts may join by their TPM, and issue their certificates
#[derive(Debug, Parser)]
#[command(name = "authority", version, after_help = exit::help(&CODES, "refused: it does not exist, or exists already"))]
pub struct Cli {
    /// Format of the log on stderr
    #[arg(long, global = true, value_enum, env = "AUTHORITY_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log at debug level; AUTHORITY_LOG or log.level set other levels
    #[arg(short, long, global = true)]
    pub debug: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Reads a command line and the environment.
///
/// # Errors
/// It is invalid, or asks for help.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command_line::prepare(tctl::declare(Cli::command()));
    let matches = command.try_get_matches_from_mut(arguments);
    let matches = matches.map_err(|error| without_unsupported(error, &tctl::COMMANDS))?;
    tctl::check(&matches)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the authority; the first start creates a cluster and its CA keys
    Start(Start),
    /// Validate a configuration file and show the resulting settings
    Check(Start),
    /// Show the cluster's name and the CA pin that hosts need
    Status(DataDir),
    /// Create bots, tokens, locks and workload identities from YAML or JSON files
    Create(Create),
    /// Show bots, tokens, locks, workload identities and bot instances
    Get(Get),
    /// Change a bot, a token, a lock or a workload identity in an editor
    Edit(Edit),
    /// Remove a bot, a token, a lock, a workload identity or a bot instance
    #[command(after_help = RM_HELP)]
    Rm(Rm),
    /// Lock a bot, instance, token or TPM, effective immediately
    Lock(Lock),
    /// List, create, change and remove bots, and list their instances
    #[command(subcommand, visible_alias = "bot")]
    Bots(Bots),
    /// List, create and remove join tokens
    #[command(subcommand, visible_alias = "token")]
    Tokens(Tokens),
    /// Print the cluster's public keys, for receivers of its certificates and JWTs
    Export(Export),
    /// Read the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Explain why a join was granted or refused, and what would be different today
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Explain),
    /// Check certificates of endorsement keys
    #[command(subcommand)]
    Ek(Ek),
    /// Show and replace the CAs of the cluster
    #[command(subcommand)]
    Ca(Ca),
    /// Let several authorities share a cluster
    #[command(subcommand)]
    Authorities(Authorities),
    /// Create and check the recovery key of the cluster
    #[command(subcommand)]
    Recovery(Recovery),
    /// Write a backup of all records, with the encrypted CA keys
    #[command(after_help = BACKUP_HELP)]
    Backup(Backup),
    /// Restore a backup into an empty data directory and an empty store
    #[command(after_help = RESTORE_HELP)]
    Restore(Restore),
    /// Prepare the database of the authority, or move its records
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print or write the systemd unit for the authority
    #[command(subcommand)]
    Install(install::Install),
    /// Print the version of the program
    Version,
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page of the program or of a command
    Man {
        /// The command [default: the program itself]
        command: Option<String>,
    },
}

/// What `authority export` prints.
#[derive(Debug, Args)]
pub struct Export {
    /// The document, JSON
    #[arg(value_enum, default_value_t = ExportDocument::SpiffeBundle)]
    pub document: ExportDocument,
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
}

/// A document with public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportDocument {
    /// X.509 CAs and keys for JWTs, for SPIFFE's software
    SpiffeBundle,
    /// Keys for JWTs (JWKS), for Vault and clouds
    Jwks,
    /// Where the issuer's keys are; `jwt.issuer` must be configured
    OpenidConfiguration,
}

/// Where the authority's data is.
#[derive(Debug, Args)]
pub struct DataDir {
    /// Data directory of the authority
    #[arg(
        long,
        env = "AUTHORITY_DATA_DIR",
        default_value = DEFAULT_DATA_DIR,
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
}

/// `authority ek`
#[derive(Debug, Subcommand)]
pub enum Ek {
    /// Verify the certificate of an endorsement key against CAs, and explain a failure
    Check(EkCheck),
}

/// `authority ek check`
#[derive(Debug, Args)]
pub struct EkCheck {
    /// Trusted CA certificates, PEM, as in a token's ekcert_allowed_cas; may be given several times
    #[arg(long, required = true, value_name = "FILE")]
    pub cas: Vec<PathBuf>,
    /// Intermediate certificates, PEM or DER; may be given several times
    #[arg(long, value_name = "FILE")]
    pub chain: Vec<PathBuf>,
    /// How strictly the certificate is verified
    #[command(flatten)]
    pub policy: EkPolicy,
    /// Whether to accept EK certificates that have neither the extKeyUsage of EK certificates nor a TPM's
    /// subjectAltName, like ekcert_without_purpose in a token [default: refused]
    #[arg(long, value_enum, value_name = "VERDICT")]
    pub ek_without_purpose: Option<Leniency>,
    /// Certificate of the endorsement key: PEM, DER, or the contents of the TPM's NV index
    #[arg(value_name = "FILE")]
    pub certificate: PathBuf,
}

/// `authority store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Create or upgrade the tables in PostgreSQL
    #[command(after_help = MIGRATE_HELP)]
    Migrate(StoreMigrate),
    /// Copy all records to another store: from a data directory to PostgreSQL, or back
    #[command(after_help = COPY_HELP)]
    Copy(StoreCopy),
    /// Let an authority start with records from a backup
    #[command(after_help = ACCEPT_HELP)]
    AcceptRestored(Configured),
}

/// `authority backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// File to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Which authority
    #[command(flatten)]
    pub of: Configured,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// File to read
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Where to restore it
    #[command(flatten)]
    pub to: Configured,
    /// Open the CA keys with this recovery key
    #[arg(long, value_name = "FILE", required_unless_present = "wrapping_key")]
    pub recovery_key: Option<PathBuf>,
    /// Open the CA keys with the wrapping key of an authority that was not removed
    #[arg(long, value_name = "FILE", conflicts_with = "recovery_key")]
    pub wrapping_key: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// An authority, by its configuration.
#[derive(Debug, Args)]
pub struct Configured {
    /// Configuration file, YAML [default: none, so the store is embedded]
    #[arg(short, long, env = "AUTHORITY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory of the authority [default: that of the configuration file, or /var/lib/endorse]
    #[arg(long, env = "AUTHORITY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Configured {
    /// Its settings.
    pub fn settings(&self) -> Result<Settings, LoadError> {
        let Self { config, data_dir } = self;
        let (config, data_dir) = (config.clone(), data_dir.clone());
        Settings::new(&Start { config, data_dir, ..Start::default() })
    }
}

/// `authority store copy`
#[derive(Debug, Args)]
pub struct StoreCopy {
    /// Where the records are
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// Where to copy them; the store must be empty
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority store migrate`
#[derive(Debug, Args)]
pub struct StoreMigrate {
    /// Configuration file whose store.url has the user that owns the tables
    #[arg(short, long, env = "AUTHORITY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Role of the running authority; it may read and write records, and change no table [default: none]
    #[arg(long, value_name = "NAME")]
    pub runtime_role: Option<String>,
}

/// `authority create`
#[derive(Debug, Args)]
pub struct Create {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Replace existing resources
    #[arg(short, long)]
    pub force: bool,
    /// Skip malformed certificates in ekcert_allowed_cas with a warning
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Files with one or more resources; - is stdin. Creates all of them or none
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `authority get`
#[derive(Debug, Args)]
pub struct Get {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// KIND is bot, token, lock, workload_identity or bot_instance; NAME of a bot_instance is BOT/UUID, or BOT for all
    /// instances of a bot. Several are separated by commas. all: everything that `create` accepts
    #[arg(value_name = "KIND[/NAME]", value_delimiter = ',', required = true, value_parser = asked)]
    pub which: Vec<Asked>,
    /// Output format; `create` accepts both
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    pub format: Format,
}

/// `authority edit`
#[derive(Debug, Args)]
#[command(after_help = EDIT_HELP)]
pub struct Edit {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// bot/NAME, token/NAME, lock/NAME or workload_identity/NAME
    #[arg(value_name = "KIND/NAME", value_parser = editable)]
    pub which: Which,
}

/// `authority rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// bot/NAME, token/NAME, lock/NAME, workload_identity/NAME or bot_instance/BOT/UUID
    #[arg(value_name = "KIND/NAME", value_parser = one)]
    pub which: Which,
}

/// `authority lock`
#[derive(Debug, Args)]
pub struct Lock {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// What to lock
    #[command(flatten, next_help_heading = "What to lock, one of these")]
    pub target: LockTarget,
    /// Reason and end
    #[command(flatten, next_help_heading = "Reason and end")]
    pub terms: LockTerms,
}

/// Why and until when something is locked.
#[derive(Debug, Args)]
pub struct LockTerms {
    /// Reason, for operators; not shown to hosts
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Lock duration, e.g. 12h [default: until removed]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub ttl: Option<Duration>,
    /// Time at which the lock ends, e.g. 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "ttl", value_parser = moment)]
    pub expires: Option<Timestamp>,
}

/// What to lock: exactly one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct LockTarget {
    /// Lock a bot with all its instances
    #[arg(long, value_name = "NAME")]
    pub bot: Option<Name>,
    /// Lock a bot by its user, bot-NAME
    #[arg(long, value_name = "bot-NAME", value_parser = user)]
    pub user: Option<Name>,
    /// Lock one instance of a bot, as listed by `bots instances`
    #[arg(
        long,
        visible_alias = "bot-instance-id",
        value_name = "[BOT/]UUID",
        value_parser = instance
    )]
    pub instance: Option<InstanceId>,
    /// Lock everything that joined, or tries to join, with a token
    #[arg(long, visible_alias = "join-token", value_name = "NAME")]
    pub token: Option<Name>,
    /// Lock a TPM by the full SHA-256 of its endorsement key, as in `bots instances --format json` and
    /// `audit ls --format json`
    #[arg(long, value_name = "HASH", value_parser = ek_hash)]
    pub ek: Option<EkHash>,
}

/// After the help of `authority explain`.
const EXPLAIN_HELP: &str = "\
The ID is join_id in `authority audit ls --event bot.join --format json` and in `authority get bot_instance`. The evidence of a granted \
join is kept at least as long as its instance, that of the latest refused joins for 30 days. The exit code says whether the evidence \
leads to the recorded result.";

/// `authority explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// ID of the join
    #[arg(value_name = "JOIN-ID", value_parser = join)]
    pub join: JoinId,
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority audit`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List joins, renewals, issued credentials and resource changes, oldest first
    Ls(AuditLs),
    /// Print an entry of the log by its number
    Show(AuditShow),
    /// Verify the log and the records by it; reports what was changed, removed or replaced
    #[command(after_help = VERIFY_HELP)]
    Verify(AuditVerify),
    /// Write the log, its signed head and the public key to a new directory, to verify them elsewhere
    Export(AuditExport),
}

/// After the help of `authority audit verify`.
const VERIFY_HELP: &str = "\
The authority may run. Copy DATA/log.head to another host from time to time: with one of these copies the command notices also that \
the end of the log was cut off, or that the whole store was replaced by an older one.";

/// `authority audit show`
#[derive(Debug, Args)]
pub struct AuditShow {
    /// The number of the entry, `seq` in events
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// ID of the authority whose log it is [default: the only one]
    #[arg(long, value_name = "ID")]
    pub log: Option<String>,
}

/// `authority audit verify`
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Signed head that was kept elsewhere; may be given several times
    #[arg(long, value_name = "FILE")]
    pub head: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority audit export`
#[derive(Debug, Args)]
pub struct AuditExport {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Directory to create
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// `authority audit ls`
#[derive(Debug, Args)]
pub struct AuditLs {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Only events since a time (2030-01-31T12:00:00Z) or a duration ago (12h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Only events before a time or a duration ago
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// Only refusals; the same as --outcome refused
    #[arg(long, conflicts_with = "outcome")]
    pub refused: bool,
    /// Only events with this outcome
    #[arg(long, value_enum)]
    pub outcome: Option<ShownOutcome>,
    /// Only events of this name, such as bot.join
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// Only events of this bot
    #[arg(long, value_name = "NAME")]
    pub bot: Option<String>,
    /// Only events of this bot instance
    #[arg(long, value_name = "UUID")]
    pub instance: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShownOutcome {
    /// A call was granted
    Granted,
    /// A call was refused
    Refused,
    /// A resource was changed
    Done,
}

impl ShownOutcome {
    /// As events have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Done => "done",
        }
    }
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Then.
    At(Timestamp),
    /// That long ago.
    Ago(Duration),
}

/// `authority completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: host::manual::Shell,
}

/// How resources are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A stream of YAML documents
    Yaml,
    /// A JSON array, or one object if a name is given
    Json,
}

/// How lists, and what was done, are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Human-readable
    Text,
    /// JSON
    Json,
}

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        span(text).map(Self::Ago).or_else(|_| moment(text).map(Self::At)).map_err(|_| {
            format!(
                "{text:?} is neither a time such as 2030-01-31T12:00:00Z nor a duration such as 12h"
            )
        })
    }
}

fn span(text: &str) -> Result<Duration, String> {
    /// Ten years.
    const MAX: u64 = 10 * 366 * 86_400;
    let wrong = || format!("{text:?} is not a duration from 1s to ten years, such as 12h or 1h30m");
    let span = go_duration::parse(text).ok();
    span.filter(|span| (1..=MAX).contains(&span.as_secs())).ok_or_else(wrong)
}

fn instance(text: &str) -> Result<InstanceId, String> {
    let id = match text.split_once('/') {
        Some((bot, id)) => bot.parse::<Name>().map(|_| id).map_err(|cause| cause.0)?,
        None => text,
    };
    id.parse().map_err(|cause: resource::Invalid| cause.0)
}

fn join(text: &str) -> Result<JoinId, String> {
    text.parse().map_err(|cause: resource::Invalid| cause.0)
}

fn user(text: &str) -> Result<Name, String> {
    resource::bot_of(text).map_err(|cause| cause.0)
}

fn ek_hash(text: &str) -> Result<EkHash, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not the full SHA-256 of an endorsement key, 64 hexadecimal digits: it is \
             ek_pub_hash in `authority audit ls --format json`, and status.ek.public_hash in \
             `authority bots instances --format json`"
        )
    })
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::try_from(text.to_owned()).map_err(|cause| cause.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_declaration_is_valid() {
        Cli::command().debug_assert();
        command_line::prepare(tctl::declare(Cli::command())).debug_assert();
    }

    #[test]
    fn since_is_a_time_or_a_duration() {
        assert_eq!("90m".parse(), Ok(Moment::Ago(Duration::from_secs(5400))));
        let Ok(Moment::At(_)) = "2030-01-31T12:00:00Z".parse() else { panic!("no time") };
        for wrong in ["", "yesterday", "0s", "9999999h", "2030-01-31"] {
            wrong.parse::<Moment>().unwrap_err();
        }
    }
}
