//! authority lock

use proto::v1::CreateRequest;
use proto::v1::create_request::IfExists;
use uuid::Uuid;

use super::client::{connect, refused};
use super::{bug, print};
use crate::cli;
use crate::clock::Clock;
use crate::exit::{Exit, Failure};
use crate::resource::{Lock, LockSpec, Metadata, Name, Target, Timestamp};

pub(super) async fn lock(lock: cli::Lock) -> Result<(), Failure> {
    let mut authority = connect(&lock.data).await?;
    let name: Name = Uuid::new_v4().to_string().parse().map_err(bug)?;
    let now = Clock::system().now();
    let spec = LockSpec {
        target: target(lock.target)?.into(),
        message: lock.message,
        expires: lock.expires.or(lock.ttl.map(|ttl| Timestamp(now + ttl))),
    };
    let document = serde_json::to_string(&Lock::new(Metadata::named(name.clone()), spec));
    let request =
        CreateRequest { yaml: document.map_err(bug)?, if_exists: IfExists::Refuse.into() };
    authority.create(request).await.map_err(|cause| refused(&cause))?;
    print(format!("lock {:?} has been created\n", name.as_str()))
}

fn target(target: cli::LockTarget) -> Result<Target, Failure> {
    let cli::LockTarget { bot, instance, token, ek } = target;
    let one = bot.map(Target::Bot).or(instance.map(Target::Instance));
    let one = one.or(token.map(Target::Token)).or(ek.map(Target::Ek));
    one.ok_or_else(|| Failure::new(Exit::Usage, "whom?", "--bot, --instance, --token or --ek"))
}
