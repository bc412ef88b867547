//! authority bots

use host::exit::Failure;
use host::output::write;

use super::client::connect;
use super::get::{Answers, json};
use super::table::table;
use crate::cli::{BotsInstances, BotsLs, ListFormat};
use crate::resource::{Bot, BotInstance, Kind, Resource, Timestamp, user_name};

pub(super) async fn ls(ls: BotsLs) -> Result<(), Failure> {
    let mut authority = connect(&ls.data).await?;
    let bots = Answers::new(&mut authority, Kind::Bot, "").all().await?;
    write(match (ls.format, bots.as_slice()) {
        (ListFormat::Json, all) => json(&all)?,
        (ListFormat::Text, []) => "No bots found.\n".into(),
        (ListFormat::Text, all) => {
            let rows: Vec<_> = all.iter().filter_map(bot).map(bot_row).collect();
            table(["Bot", "User", "Roles"], &rows)
        }
    })
}

pub(super) async fn instances(list: BotsInstances) -> Result<(), Failure> {
    let mut authority = connect(&list.data).await?;
    let name = list.bot.map(|bot| bot.to_string()).unwrap_or_default();
    let instances = Answers::new(&mut authority, Kind::BotInstance, &name).all().await?;
    write(match (list.format, instances.as_slice()) {
        (ListFormat::Json, all) => json(&all)?,
        (ListFormat::Text, []) => "No bot instances found.\n".into(),
        (ListFormat::Text, all) => {
            let rows: Vec<_> = all.iter().filter_map(instance).map(instance_row).collect();
            table(["ID", "Join Method", "Hostname", "Joined", "Last Seen", "Generation"], &rows)
        }
    })
}

fn bot(resource: &Resource) -> Option<&Bot> {
    if let Resource::Bot(bot) = resource { Some(bot) } else { None }
}

fn bot_row(bot: &Bot) -> [String; 3] {
    let roles: Vec<_> = bot.spec.roles.iter().map(ToString::to_string).collect();
    [bot.metadata.name.to_string(), user_name(&bot.metadata.name), roles.join(",")]
}

fn instance(resource: &Resource) -> Option<&BotInstance> {
    if let Resource::BotInstance(instance) = resource { Some(instance) } else { None }
}

fn instance_row(instance: &BotInstance) -> [String; 6] {
    let status = &instance.status;
    let seconds =
        |time: &Timestamp| Timestamp(time.0.replace_nanosecond(0).unwrap_or(time.0)).to_string();
    [
        instance.path(),
        status.join_method.to_string(),
        status.hostname.clone(),
        seconds(&status.joined),
        seconds(&status.last_seen),
        status.generation.to_string(),
    ]
}
