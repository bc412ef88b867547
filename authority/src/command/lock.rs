//! authority lock

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::{warn, write};
use uuid::Uuid;

use super::client::connect;
use super::resources;
use crate::cli::{self, DataDir, LockTerms};
use crate::resource::{Lock, LockSpec, Metadata, Name, Resource, Target, Timestamp};

pub(super) async fn lock(lock: cli::Lock) -> Result<(), Failure> {
    place(&lock.data, target(lock.target)?, lock.terms).await
}

/// Locks a target.
pub(super) async fn place(data: &DataDir, target: Target, terms: LockTerms) -> Result<(), Failure> {
    let now = Clock::system().now();
    if let Some(end) = terms.expires.filter(|end| end.0 <= now) {
        let advice = "give a time in the future, or --ttl, or neither for a lock without end";
        return Err(Failure::new(Exit::Usage, format!("--expires: {end} is in the past"), advice));
    }
    let mut authority = connect(data).await?;
    let name: Name = Uuid::new_v4().to_string().parse().map_err(Failure::bug)?;
    let expires = terms.expires.or(terms.ttl.map(|ttl| Timestamp(now + ttl)));
    let whom = whom(&target);
    let spec = LockSpec { target: target.into(), message: terms.message, expires };
    let lock = Resource::Lock(Lock::new(Metadata::named(name.clone()), spec));
    let warnings = resources::create(&mut authority, &lock).await?;
    let until = expires.map(|end| format!(", until {end}")).unwrap_or_default();
    write(format!("lock \"{name}\" has been created for {whom}{until}\n"))?;
    warnings.iter().for_each(|warning| warn(warning));
    Ok(())
}

fn whom(target: &Target) -> String {
    match target {
        Target::Bot(name) => format!("the bot \"{name}\" with all its instances"),
        Target::Instance(id) => format!("the bot instance {id}"),
        Target::Token(name) => format!("all hosts that join or joined with the token \"{name}\""),
        Target::Ek(hash) => format!("the TPM with the EK {hash}"),
    }
}

fn target(target: cli::LockTarget) -> Result<Target, Failure> {
    let cli::LockTarget { bot, user, instance, token, ek } = target;
    let one = bot.or(user).map(Target::Bot).or(instance.map(Target::Instance));
    let one = one.or(token.map(Target::Token)).or(ek.map(Target::Ek));
    one.ok_or_else(|| {
        Failure::new(Exit::Usage, "no target given", "pass --bot, --instance, --token or --ek")
    })
}
