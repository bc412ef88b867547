//! `authority bots`, declared.

use clap::{Args, Subcommand};

use super::which::{Which, one_instance};
use super::{DataDir, ListFormat, LockTerms};
use crate::resource::{Name, Role, SessionTtl};

/// `authority bots`
#[derive(Debug, Subcommand)]
pub enum Bots {
    /// List bots
    Ls(Ls),
    /// Create a bot
    Add(Add),
    /// Remove a bot
    #[command(after_help = super::RM_HELP)]
    Rm(Rm),
    /// Change the roles, logins or longest lifetime of a bot
    Update(Update),
    /// Lock a bot with all its instances, effective immediately
    Lock(Lock),
    /// List bot instances with valid certificates
    Instances(Instances),
}

/// `authority bots ls`
#[derive(Debug, Args)]
pub struct Ls {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority bots add`
#[derive(Debug, Args)]
pub struct Add {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name of the bot
    #[arg(value_name = "NAME")]
    pub name: Name,
    /// Roles, separated by commas; each becomes an organization (O) of the certificates
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    pub roles: Vec<Role>,
    /// SSH logins, separated by commas
    #[arg(long, value_name = "LOGINS", value_delimiter = ',')]
    pub logins: Vec<String>,
    /// Longest lifetime of a certificate, e.g. 12h
    #[arg(long, value_name = "TIME", value_parser = session_ttl)]
    pub max_session_ttl: Option<SessionTtl>,
    /// Existing token of the bot, to show how a host joins with it
    #[arg(long, value_name = "NAME")]
    pub token: Option<Name>,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority bots rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name of the bot
    #[arg(value_name = "NAME")]
    pub name: Name,
}

/// `authority bots update`
#[derive(Debug, Args)]
pub struct Update {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name of the bot
    #[arg(value_name = "NAME")]
    pub name: Name,
    /// What to change
    #[command(flatten, next_help_heading = "What to change")]
    pub changes: BotChanges,
}

/// What to change of a bot.
#[derive(Debug, Args)]
pub struct BotChanges {
    /// Roles in the place of the present ones, separated by commas; an empty text for none
    #[arg(long, value_name = "ROLES", conflicts_with = "add_roles", value_parser = roles)]
    pub set_roles: Option<Roles>,
    /// Further roles, separated by commas
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    pub add_roles: Vec<Role>,
    /// SSH logins in the place of the present ones, separated by commas; an empty text for none
    #[arg(long, value_name = "LOGINS", conflicts_with = "add_logins", value_parser = logins)]
    pub set_logins: Option<Logins>,
    /// Further SSH logins, separated by commas
    #[arg(long, value_name = "LOGINS", value_delimiter = ',')]
    pub add_logins: Vec<String>,
    /// Longest lifetime of a certificate, e.g. 12h
    #[arg(long, value_name = "TIME", value_parser = session_ttl)]
    pub set_max_session_ttl: Option<SessionTtl>,
}

impl BotChanges {
    /// Whether there is nothing to change.
    pub fn are_none(&self) -> bool {
        let Self { set_roles, add_roles, set_logins, add_logins, set_max_session_ttl } = self;
        set_roles.is_none()
            && add_roles.is_empty()
            && set_logins.is_none()
            && add_logins.is_empty()
            && set_max_session_ttl.is_none()
    }
}

/// A list of roles, perhaps empty.
#[derive(Debug, Clone)]
pub struct Roles(pub Vec<Role>);

/// A list of logins, perhaps empty.
#[derive(Debug, Clone)]
pub struct Logins(pub Vec<String>);

/// `authority bots lock`
#[derive(Debug, Args)]
pub struct Lock {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name of the bot
    #[arg(value_name = "NAME")]
    pub name: Name,
    /// Reason and end
    #[command(flatten)]
    pub terms: LockTerms,
}

/// `authority bots instances`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Instances {
    /// Same as list
    #[command(flatten)]
    pub list: InstancesList,
    /// What to do with instances
    #[command(subcommand)]
    pub command: Option<InstancesCommand>,
}

/// The commands of `authority bots instances`.
#[derive(Debug, Subcommand)]
pub enum InstancesCommand {
    /// List bot instances with valid certificates
    #[command(visible_alias = "ls")]
    List(InstancesList),
    /// Show a bot instance
    #[command(visible_aliases = ["get", "describe"])]
    Show(InstancesShow),
    /// Show how a further host joins as a bot
    #[command(visible_alias = "join")]
    Add(InstancesAdd),
}

/// `authority bots instances list`
#[derive(Debug, Args)]
pub struct InstancesList {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Only instances of this bot
    #[arg(value_name = "NAME")]
    pub bot: Option<Name>,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority bots instances show`
#[derive(Debug, Args)]
pub struct InstancesShow {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// The instance, as listed by `bots instances`
    #[arg(value_name = "BOT/UUID", value_parser = one_instance)]
    pub which: Which,
    /// Output format
    #[arg(long, value_enum, default_value_t = super::Format::Yaml)]
    pub format: super::Format,
}

/// `authority bots instances add`
#[derive(Debug, Args)]
pub struct InstancesAdd {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name of the bot
    #[arg(value_name = "NAME")]
    pub bot: Name,
    /// Token to join with [default: the only one of the bot]
    #[arg(long, value_name = "NAME")]
    pub token: Option<Name>,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

fn session_ttl(text: &str) -> Result<SessionTtl, String> {
    SessionTtl::try_from(text.to_owned()).map_err(|cause| cause.0)
}

fn roles(text: &str) -> Result<Roles, String> {
    let roles: Result<Vec<Role>, _> = words(text).map(str::parse).collect();
    roles.map(Roles).map_err(|cause| cause.0)
}

fn logins(text: &str) -> Result<Logins, String> {
    Ok(Logins(words(text).map(str::to_owned).collect()))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|_| !text.is_empty())
}
