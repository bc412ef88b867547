//! A join by a host that is a bot instance already: Teleport's clients renew so.
//!
//! The certificate of the connection says which instance it is; the TPM that this join proves must be the instance's. Whoever has
//! copied the certificate and its key cannot do this on another machine.

use time::OffsetDateTime;

use super::Authority;
use super::caller::Caller;
use super::checks::store_failed;
use super::refusal::{Code, Refusal};
use crate::issue::Subject;
use crate::resource::{BotInstance, Name, ProvenEk, Timestamp};
use crate::store::Recorded;

/// An instance that joins again.
pub(super) struct Rejoined {
    /// What it becomes, without its new certificate.
    pub(super) instance: BotInstance,
    /// What it is.
    pub(super) before: Recorded,
    /// The generation of its certificate, if that is not the latest.
    pub(super) presented_generation: Option<u64>,
}

/// The caller's instance, after it has joined again with this token and this EK.
pub(super) async fn rejoin(
    authority: &Authority,
    caller: &Caller,
    token: &Name,
    ek: ProvenEk,
    now: OffsetDateTime,
) -> Result<Rejoined, Refusal> {
    let Subject { bot, instance: id, generation, .. } = &caller.subject;
    let presented = generation.ok_or_else(|| {
        let reason = "the certificate is a service's, which has no generation";
        Refusal::new(Code::CertificateOfService, reason)
    })?;
    let recorded = authority.records.instance(bot, id).await.map_err(store_failed)?;
    let before = recorded.ok_or_else(|| {
        Refusal::new(Code::InstanceUnknown, format!("the bot {bot} has no instance {id}"))
    })?;
    let mut instance = before.instance.clone();
    authority.excuse_generation(&mut instance, Some(presented));
    let status = &mut instance.status;
    if status.ek.public_hash != ek.public_hash {
        let reason = format!("the instance {id} joined with the EK {}", status.ek.public_hash);
        return Err(Refusal::new(Code::EkOfOther, reason));
    }
    let recorded = status.generation;
    status.join_token = token.clone();
    status.ek = ek;
    status.generation = recorded.max(presented).saturating_add(1);
    status.renewed = Some(Timestamp(now));
    status.last_seen = Timestamp(now);
    let presented_generation = (presented != recorded).then_some(presented);
    Ok(Rejoined { instance, before, presented_generation })
}
