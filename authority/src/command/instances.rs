//! authority bots instances

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::write;
use proto::v1::StatusRequest;
use serde::Serialize;

use super::client::{Operator, connect, refused};
use super::get::{Answers, document, json};
use super::resources;
use super::table::table;
use crate::cli::ListFormat;
use crate::cli::bots::{Instances, InstancesAdd, InstancesCommand, InstancesList, InstancesShow};
use crate::resource::{BotInstance, Kind, Name, Resource, SystemRole, Timestamp, Token, user_name};

pub(super) async fn run(instances: Instances) -> Result<(), Failure> {
    match instances.command {
        None => list(instances.list).await,
        Some(InstancesCommand::List(arguments)) => list(arguments).await,
        Some(InstancesCommand::Show(arguments)) => show(arguments).await,
        Some(InstancesCommand::Add(arguments)) => add(arguments).await,
    }
}

async fn list(list: InstancesList) -> Result<(), Failure> {
    let mut authority = connect(&list.data).await?;
    let name = list.bot.map(|bot| bot.to_string()).unwrap_or_default();
    let instances = Answers::new(&mut authority, Kind::BotInstance, &name).all().await?;
    write(match (list.format, instances.as_slice()) {
        (ListFormat::Json, all) => json(&all)?,
        (ListFormat::Text, []) => "No bot instances found.\n".into(),
        (ListFormat::Text, all) => {
            let rows: Vec<_> = all.iter().filter_map(instance).map(row).collect();
            table(["ID", "Join Method", "Hostname", "Joined", "Last Seen", "Generation"], &rows)
        }
    })
}

async fn show(show: InstancesShow) -> Result<(), Failure> {
    let mut authority = connect(&show.data).await?;
    let path = show.which.some.words();
    let instance = resources::one(&mut authority, Kind::BotInstance, path).await?;
    write(document(&instance, show.format)?)
}

async fn add(add: InstancesAdd) -> Result<(), Failure> {
    let mut authority = connect(&add.data).await?;
    resources::bot(&mut authority, add.bot.as_str()).await?;
    let token = match &add.token {
        Some(token) => token_of(&mut authority, &add.bot, token).await?,
        None => only_token_of(&mut authority, &add.bot).await?,
    };
    let how = HowToJoin::new(&add.bot, Some(&token));
    write(match add.format {
        ListFormat::Json => json(&how)?,
        ListFormat::Text => how.text(&mut authority).await?,
    })
}

/// This token, with which hosts join as this bot.
pub(super) async fn token_of(
    authority: &mut Operator,
    bot: &Name,
    token: &Name,
) -> Result<Token, Failure> {
    let token = resources::token(authority, token.as_str()).await?;
    check(&token, bot).map_err(|cause| {
        let advice = format!("create one with `authority tokens add --type bot --bot {bot} ..`");
        Failure::new(Exit::Refused, cause, advice)
    })?;
    Ok(token)
}

async fn only_token_of(authority: &mut Operator, bot: &Name) -> Result<Token, Failure> {
    let all = Answers::new(authority, Kind::Token, "").all().await?;
    let mut tokens = all.into_iter().filter_map(|resource| match resource {
        Resource::Token(token) if check(&token, bot).is_ok() => Some(token),
        _ => None,
    });
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => Ok(token),
        (None, _) => Err(Failure::new(
            Exit::Refused,
            format!("the bot \"{bot}\" has no token"),
            format!("create one with `authority tokens add --type bot --bot {bot} ..`"),
        )),
        (Some(one), Some(other)) => Err(Failure::new(
            Exit::Usage,
            format!(
                "the bot \"{bot}\" has several tokens, such as \"{}\" and \"{}\"",
                one.metadata.name, other.metadata.name
            ),
            "pass one of them with --token",
        )),
    }
}

/// Whether hosts can join as this bot with the token.
fn check(token: &Token, bot: &Name) -> Result<(), String> {
    let name = &token.metadata.name;
    match &token.spec.bot_name {
        _ if !token.spec.roles.contains(&SystemRole::Bot) => {
            Err(format!("token \"{name}\" is not valid for role \"Bot\""))
        }
        Some(other) if other != bot => {
            Err(format!("token \"{name}\" is valid for bot with name \"{other}\", not \"{bot}\""))
        }
        _ if token.metadata.expired(Clock::system().now()) => {
            Err(format!("token \"{name}\" has expired"))
        }
        _ => Ok(()),
    }
}

/// What a host needs to join as a bot. The keys are Teleport's.
#[derive(Serialize)]
pub(super) struct HowToJoin {
    user_name: String,
    role_name: String,
    /// Empty if no token is known.
    token_id: String,
    /// Nanoseconds, as Go programs write a duration; 0 if the token does not expire.
    token_ttl: u64,
    #[serde(skip)]
    bot: Name,
}

impl HowToJoin {
    pub(super) fn new(bot: &Name, token: Option<&Token>) -> Self {
        let user = user_name(bot);
        let left = token.and_then(|token| token.metadata.expires).map(|end| {
            let left = end.0 - Clock::system().now();
            u64::try_from(left.whole_nanoseconds()).unwrap_or_default()
        });
        Self {
            user_name: user.clone(),
            role_name: user,
            token_id: token.map(|token| token.metadata.name.to_string()).unwrap_or_default(),
            token_ttl: left.unwrap_or_default(),
            bot: bot.clone(),
        }
    }

    /// The next command.
    pub(super) async fn text(&self, authority: &mut Operator) -> Result<String, Failure> {
        if self.token_id.is_empty() {
            return Ok(format!(
                "Create a token for a host, with the hash that `agent identify` shows there:\n  \
                 authority tokens add --type bot --bot {} --ek-public-hash HASH\n",
                self.bot
            ));
        }
        let status = authority.status(StatusRequest {}).await.map_err(|cause| refused(&cause))?;
        let pins = status.into_inner().ca_pins;
        let pins: Vec<_> = pins.iter().map(|pin| format!(" --ca-pin {pin}")).collect();
        Ok(format!(
            "Run the agent on the host, with the address of this authority:\n  \
             agent start --authority HOST:PORT --token {}{}\n",
            self.token_id,
            pins.concat()
        ))
    }
}

fn instance(resource: &Resource) -> Option<&BotInstance> {
    if let Resource::BotInstance(instance) = resource { Some(instance) } else { None }
}

fn row(instance: &BotInstance) -> [String; 6] {
    let status = &instance.status;
    let seconds =
        |time: &Timestamp| Timestamp(time.0.replace_nanosecond(0).unwrap_or(time.0)).to_string();
    [
        instance.path(),
        status.join_method.to_string(),
        instance.hostname().to_owned(),
        seconds(&status.joined),
        seconds(&status.last_seen),
        status.generation.to_string(),
    ]
}
