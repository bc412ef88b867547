//! The removals of `removal`, with two authorities and one database: what an operator removes at one does not count at the other either,
//! whichever of the two a host asks.

use authority::resource::Kind;
use testkit::simulated::SoftwareTpm;

use super::authorities::{database, settings};
use super::harness::{BOT, Harness, author};
use super::meanwhile::Event;
use super::removal::{Removal, issue, removals, removals_of_joins, renew};

/// The authority that a host asks, and that at which an operator removes something.
struct Pair<'h> {
    asked: &'h Harness,
    other: &'h Harness,
}

impl Pair<'_> {
    /// The TPM may join, as if nothing had been removed.
    async fn restore(&self, tpm: &SoftwareTpm) {
        let records = &self.other.authority.records;
        if records.resource(Kind::Lock, "why").await.unwrap().is_some() {
            records.remove(Kind::Lock, "why", author()).await.unwrap();
        }
        self.asked.create(BOT).await;
        self.asked.allow(tpm).await;
    }

    async fn remove(&self, removal: &Removal) {
        removal.clone().happen(self.other.authority.records.clone()).await;
    }

    /// The removal at the other authority, before the asked one writes.
    fn meanwhile(&self, removal: &Removal) {
        let (removal, records) = (removal.clone(), self.other.authority.records.clone());
        let event: Event = Box::new(move |_| Box::pin(removal.happen(records)));
        self.asked.meanwhile.set(event);
    }

    fn assert_refused(&self, event: &str, code: &str) {
        self.asked.assert_last(event, Some(code));
    }
}

/// Both ways.
async fn with_pairs(check: impl AsyncFn(&Pair<'_>, &SoftwareTpm)) {
    let Some(server) = database() else { return };
    let one = Harness::with_store(settings(&server)).await;
    let two = one.beside("two", settings(&server)).await;
    for (asked, other) in [(&one, &two), (&two, &one)] {
        check(&Pair { asked, other }, &SoftwareTpm::generate()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_is_refused_after_any_removal_at_another_authority() {
    with_pairs(async |pair, tpm| {
        for (removal, code, _) in removals_of_joins(tpm) {
            // Before it, unless a host that joins only now would be let in by what was created again.
            if !matches!(removal, Removal::Recreate(..)) {
                let code =
                    if code == "evidence_outdated" { "ek_certificate_missing" } else { code };
                pair.restore(tpm).await;
                pair.remove(&removal).await;
                pair.asked.join(tpm, "t").await.unwrap_err();
                pair.assert_refused("bot.join", code);
            }
            // While it waits for its host.
            pair.restore(tpm).await;
            let (wire, mut join, init, challenge) = pair.asked.challenged(tpm).await;
            pair.remove(&removal).await;
            join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
            join.reply().await.unwrap_err();
            pair.assert_refused("bot.join", code);
            // Between its judgement and its record.
            pair.restore(tpm).await;
            pair.meanwhile(&removal);
            pair.asked.join(tpm, "t").await.unwrap_err();
            assert!(pair.asked.meanwhile.happened());
            pair.assert_refused("bot.join", code);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_and_issue_are_refused_after_any_removal_at_another_authority() {
    with_pairs(async |pair, tpm| {
        for (removal, _, code) in removals(tpm) {
            // On a connection that was there before.
            let remove = async || pair.remove(&removal).await;
            pair.restore(tpm).await;
            let held = pair.asked.join(tpm, "t").await.unwrap();
            renew(pair.asked, tpm, &held, remove).await.unwrap_err();
            pair.assert_refused("bot.renew", code);
            pair.restore(tpm).await;
            let held = pair.asked.join(tpm, "t").await.unwrap();
            issue(pair.asked, tpm, &held, remove).await.unwrap_err();
            pair.assert_refused("bot.issue", code);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_and_issue_are_refused_after_any_removal_at_another_authority_before_their_record()
{
    with_pairs(async |pair, tpm| {
        for (removal, _, code) in removals(tpm) {
            pair.restore(tpm).await;
            // It joined at the other one.
            let held = pair.other.join(tpm, "t").await.unwrap();
            pair.meanwhile(&removal);
            renew(pair.asked, tpm, &held, async || {}).await.unwrap_err();
            assert!(pair.asked.meanwhile.happened());
            pair.assert_refused("bot.renew", code);
            pair.restore(tpm).await;
            let held = pair.other.join(tpm, "t").await.unwrap();
            pair.meanwhile(&removal);
            issue(pair.asked, tpm, &held, async || {}).await.unwrap_err();
            assert!(pair.asked.meanwhile.happened());
            pair.assert_refused("bot.issue", code);
        }
    })
    .await;
}
