//! authority lock

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::{warn, write};
use proto::v1::CreateRequest;
use proto::v1::create_request::IfExists;
use uuid::Uuid;

use super::client::{connect, refused};
use crate::cli;
use crate::resource::{Lock, LockSpec, Metadata, Name, Target, Timestamp};

pub(super) async fn lock(lock: cli::Lock) -> Result<(), Failure> {
    let now = Clock::system().now();
    if let Some(end) = lock.expires.filter(|end| end.0 <= now) {
        let advice = "give a time in the future, or --ttl, or neither for a lock without end";
        return Err(Failure::new(Exit::Usage, format!("--expires: {end} is in the past"), advice));
    }
    let mut authority = connect(&lock.data).await?;
    let name: Name = Uuid::new_v4().to_string().parse().map_err(Failure::bug)?;
    let expires = lock.expires.or(lock.ttl.map(|ttl| Timestamp(now + ttl)));
    let target = target(lock.target)?;
    let whom = whom(&target);
    let spec = LockSpec { target: target.into(), message: lock.message, expires };
    let document = serde_json::to_string(&Lock::new(Metadata::named(name.clone()), spec));
    let request =
        CreateRequest { yaml: document.map_err(Failure::bug)?, if_exists: IfExists::Refuse.into() };
    let response = authority.create(request).await.map_err(|cause| refused(&cause))?;
    let until = expires.map(|end| format!(", until {end}")).unwrap_or_default();
    write(format!("lock \"{name}\" has been created for {whom}{until}\n"))?;
    response.into_inner().warnings.iter().for_each(|warning| warn(warning));
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
    let cli::LockTarget { bot, instance, token, ek } = target;
    let one = bot.map(Target::Bot).or(instance.map(Target::Instance));
    let one = one.or(token.map(Target::Token)).or(ek.map(Target::Ek));
    one.ok_or_else(|| {
        Failure::new(Exit::Usage, "no target given", "pass --bot, --instance, --token or --ek")
    })
}
