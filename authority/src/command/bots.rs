//! authority bots

use host::exit::{Exit, Failure};
use host::output::{warn, write};

use super::client::{Operator, connect};
use super::get::{Answers, json};
use super::instances::{self, HowToJoin};
use super::table::table;
use super::{lock, resources};
use crate::cli::ListFormat;
use crate::cli::bots::{Add, BotChanges, Bots, Ls, Rm, Update};
use crate::resource::{Bot, BotSpec, Kind, Metadata, Resource, Target, user_name};

pub(super) async fn run(bots: Bots) -> Result<(), Failure> {
    match bots {
        Bots::Ls(ls) => list(ls).await,
        Bots::Add(add) => create(add).await,
        Bots::Rm(rm) => remove(rm).await,
        Bots::Update(update) => change(update).await,
        Bots::Lock(lock) => lock::place(&lock.data, Target::Bot(lock.name), lock.terms).await,
        Bots::Instances(instances) => instances::run(instances).await,
    }
}

async fn list(ls: Ls) -> Result<(), Failure> {
    let mut authority = connect(&ls.data).await?;
    let bots = Answers::new(&mut authority, Kind::Bot, "").all().await?;
    write(match (ls.format, bots.as_slice()) {
        (ListFormat::Json, all) => json(&all)?,
        (ListFormat::Text, []) => "No bots found.\n".into(),
        (ListFormat::Text, all) => {
            let rows: Vec<_> = all.iter().filter_map(bot).map(row).collect();
            table(["Bot", "User", "Roles"], &rows)
        }
    })
}

async fn create(add: Add) -> Result<(), Failure> {
    let mut authority = connect(&add.data).await?;
    let token = match &add.token {
        Some(token) => Some(instances::token_of(&mut authority, &add.name, token).await?),
        None => None,
    };
    let mut spec =
        BotSpec { roles: add.roles, max_session_ttl: add.max_session_ttl, ..BotSpec::default() };
    spec.set_logins(add.logins);
    let bot = Resource::Bot(Bot::new(Metadata::named(add.name.clone()), spec));
    let warnings = resources::create(&mut authority, &bot).await?;
    let how = HowToJoin::new(&add.name, token.as_ref());
    write(match add.format {
        ListFormat::Json => json(&how)?,
        ListFormat::Text => {
            format!("bot \"{}\" has been created\n{}", add.name, how.text(&mut authority).await?)
        }
    })?;
    warnings.iter().for_each(|warning| warn(warning));
    Ok(())
}

async fn remove(rm: Rm) -> Result<(), Failure> {
    let mut authority = connect(&rm.data).await?;
    resources::remove(&mut authority, Kind::Bot, rm.name.as_str()).await?;
    write(format!("Bot \"{}\" deleted successfully.\n", rm.name))
}

async fn change(update: Update) -> Result<(), Failure> {
    if update.changes.are_none() {
        let advice =
            "pass --set-roles, --add-roles, --set-logins, --add-logins or --set-max-session-ttl";
        return Err(Failure::new(Exit::Usage, "no change given", advice));
    }
    let mut authority = connect(&update.data).await?;
    let was = resources::bot(&mut authority, update.name.as_str()).await?;
    let bot = Resource::Bot(changed(was.clone(), update.changes));
    let was = Resource::Bot(was);
    if bot == was {
        return write(format!("bot \"{}\" is like that already\n", update.name));
    }
    put(&mut authority, &bot, &was).await
}

/// Replaces a resource and says so.
pub(super) async fn put(
    authority: &mut Operator,
    resource: &Resource,
    was: &Resource,
) -> Result<(), Failure> {
    let warnings = resources::replace(authority, resource, was).await?;
    write(format!("{} {:?} has been updated\n", resource.kind(), resource.name().as_str()))?;
    warnings.iter().for_each(|warning| warn(warning));
    Ok(())
}

fn changed(mut bot: Bot, changes: BotChanges) -> Bot {
    let BotChanges { set_roles, add_roles, set_logins, add_logins, set_max_session_ttl } = changes;
    let spec = &mut bot.spec;
    if let Some(roles) = set_roles {
        spec.roles = roles.0;
    }
    for role in add_roles {
        if !spec.roles.contains(&role) {
            spec.roles.push(role);
        }
    }
    if let Some(logins) = set_logins {
        spec.set_logins(logins.0);
    }
    let mut logins = spec.logins().to_vec();
    let new = add_logins.into_iter().filter(|login| !logins.contains(login)).collect::<Vec<_>>();
    if !new.is_empty() {
        logins.extend(new);
        spec.set_logins(logins);
    }
    spec.max_session_ttl = set_max_session_ttl.or(spec.max_session_ttl);
    bot
}

fn bot(resource: &Resource) -> Option<&Bot> {
    if let Resource::Bot(bot) = resource { Some(bot) } else { None }
}

fn row(bot: &Bot) -> [String; 3] {
    let roles: Vec<_> = bot.spec.roles.iter().map(ToString::to_string).collect();
    [bot.metadata.name.to_string(), user_name(&bot.metadata.name), roles.join(",")]
}
