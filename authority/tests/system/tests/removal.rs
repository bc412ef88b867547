//! What an operator removes while a call is under way does not count for it any more.

use std::sync::Arc;

use authority::resource::{self, Kind, Target, Timestamp};
use authority::store::{Change, IfExists, Records, Store, Table};
use host::clock::Clock;
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{IssuedCredentials, RenewRequest, WhoAmIRequest};
use testkit::forge::Ca;
use testkit::simulated::SoftwareTpm;
use tonic::Status;

use super::harness::{BOT, Harness, author, token};
use super::issue::request;
use super::meanwhile::Event;

/// What an operator does.
#[derive(Clone)]
pub(crate) enum Removal {
    /// `rm`.
    Remove(Kind, &'static str),
    /// `create -f`.
    Replace(String),
    /// `rm` and `create` of the same.
    Recreate(Kind, &'static str, String),
}

impl Removal {
    pub(crate) async fn happen(self, records: Records) {
        let put = async |yaml: &str| {
            let resources = resource::read(yaml).unwrap();
            records.put(&resources, IfExists::Replace, author()).await.unwrap();
        };
        match self {
            Self::Remove(kind, name) => {
                records.remove(kind, name, author()).await.unwrap();
            }
            Self::Replace(yaml) => put(&yaml).await,
            Self::Recreate(kind, name, yaml) => {
                records.remove(kind, name, author()).await.unwrap();
                put(&yaml).await;
            }
        }
    }

    fn event(&self) -> Event {
        let removal = self.clone();
        Box::new(move |records| Box::pin(removal.happen(records)))
    }
}

/// All of them, with the refusal of a join and that of a renewal or issue.
pub(crate) fn removals(tpm: &SoftwareTpm) -> Vec<(Removal, &'static str, &'static str)> {
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    let now = token("t", &rules, &[]);
    let other = format!("- ek_public_hash: {}", SoftwareTpm::generate().ek_hash());
    let maker = Ca::new("maker");
    let lock = |target: &str| {
        Removal::Replace(format!(
            "kind: lock\nversion: v2\nmetadata:\n  name: why\nspec:\n  target: {{{target}}}\n"
        ))
    };
    let both = |removal, code| (removal, code, code);
    vec![
        both(Removal::Remove(Kind::Bot, "my-bot"), "bot_unknown"),
        both(Removal::Remove(Kind::Token, "t"), "token_unknown"),
        both(Removal::Replace(token("t", &other, &[])), "ek_not_allowed"),
        both(
            Removal::Replace(now.replace("[Bot]", "[Node]").replace("  bot_name: my-bot\n", "")),
            "token_role",
        ),
        both(Removal::Replace(token("t", &rules, &[&maker.root().pem()])), "evidence_outdated"),
        both(lock("user: bot-my-bot"), "locked"),
        both(lock("join_token: t"), "locked"),
        both(lock(&format!("ek_public_hash: {}", tpm.ek_hash())), "locked"),
        (Removal::Recreate(Kind::Bot, "my-bot", BOT.into()), "bot_unknown", "instance_unknown"),
    ]
}

/// All of them that end a join. A token that is created again counts for who has joined already.
pub(crate) fn removals_of_joins(tpm: &SoftwareTpm) -> Vec<(Removal, &'static str, &'static str)> {
    let mut all = removals(tpm);
    let same = token("t", &format!("- ek_public_hash: {}", tpm.ek_hash()), &[]);
    all.push((Removal::Recreate(Kind::Token, "t", same), "token_unknown", ""));
    all
}

/// A harness where this TPM may join.
async fn harness(tpm: &SoftwareTpm) -> Harness {
    let harness = Harness::new().await;
    harness.allow(tpm).await;
    harness
}

pub(crate) async fn renew(
    harness: &Harness,
    tpm: &SoftwareTpm,
    held: &IssuedCredentials,
    before: impl AsyncFnOnce(),
) -> Result<(), Status> {
    let wire = harness.wire_as(Some(tpm.identity(held))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    client.who_am_i(WhoAmIRequest {}).await.unwrap();
    before().await;
    client.renew(RenewRequest::default()).await.map(|_| ())
}

pub(crate) async fn issue(
    harness: &Harness,
    tpm: &SoftwareTpm,
    held: &IssuedCredentials,
    before: impl AsyncFnOnce(),
) -> Result<(), Status> {
    let wire = harness.wire_as(Some(tpm.identity(held))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    client.who_am_i(WhoAmIRequest {}).await.unwrap();
    before().await;
    client.issue(request(&SigningKey::generate(), &wire.exporter)).await.map(|_| ())
}

/// Nothing was granted, and nothing that was there has changed.
async fn assert_refused(harness: &Harness, event: &str, code: &str, serials: &[String]) {
    harness.assert_last(event, Some(code));
    for instance in harness.instances().await {
        assert!(serials.contains(&instance.status.certificate_serial), "{event} {code}");
        assert!(instance.status.services.is_empty(), "{event} {code}");
    }
}

#[tokio::test]
async fn join_is_refused_after_any_removal_while_it_waited_for_its_host() {
    let tpm = SoftwareTpm::generate();
    for (removal, code, _) in removals_of_joins(&tpm) {
        let harness = harness(&tpm).await;
        let (wire, mut join, init, challenge) = harness.challenged(&tpm).await;
        removal.happen(harness.authority.records.clone()).await;
        join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
        join.reply().await.unwrap_err();
        assert_refused(&harness, "bot.join", code, &[]).await;
    }
}

#[tokio::test]
async fn join_is_refused_after_any_removal_between_its_judgement_and_its_record() {
    let tpm = SoftwareTpm::generate();
    for (removal, code, _) in removals_of_joins(&tpm) {
        let harness = harness(&tpm).await;
        harness.meanwhile.set(removal.event());
        harness.join(&tpm, "t").await.unwrap_err();
        assert!(harness.meanwhile.happened());
        assert_refused(&harness, "bot.join", code, &[]).await;
    }
}

#[tokio::test]
async fn renewal_and_issue_are_refused_after_any_removal_on_an_open_connection() {
    let tpm = SoftwareTpm::generate();
    for (removal, _, code) in removals(&tpm) {
        let harness = harness(&tpm).await;
        let held = harness.join(&tpm, "t").await.unwrap();
        let serials = [harness.instance().await.status.certificate_serial];
        let records = harness.authority.records.clone();
        let happen = async || removal.clone().happen(records.clone()).await;
        renew(&harness, &tpm, &held, happen).await.unwrap_err();
        assert_refused(&harness, "bot.renew", code, &serials).await;

        let harness = self::harness(&tpm).await;
        let held = harness.join(&tpm, "t").await.unwrap();
        let serials = [harness.instance().await.status.certificate_serial];
        let records = harness.authority.records.clone();
        let happen = async || removal.clone().happen(records.clone()).await;
        issue(&harness, &tpm, &held, happen).await.unwrap_err();
        assert_refused(&harness, "bot.issue", code, &serials).await;
    }
}

#[tokio::test]
async fn renewal_and_issue_are_refused_after_any_removal_between_judgement_and_record() {
    let tpm = SoftwareTpm::generate();
    for (removal, _, code) in removals(&tpm) {
        let harness = harness(&tpm).await;
        let held = harness.join(&tpm, "t").await.unwrap();
        let serials = [harness.instance().await.status.certificate_serial];
        harness.meanwhile.set(removal.event());
        renew(&harness, &tpm, &held, async || {}).await.unwrap_err();
        assert!(harness.meanwhile.happened());
        assert_refused(&harness, "bot.renew", code, &serials).await;

        let harness = self::harness(&tpm).await;
        let held = harness.join(&tpm, "t").await.unwrap();
        let serials = [harness.instance().await.status.certificate_serial];
        harness.meanwhile.set(removal.event());
        issue(&harness, &tpm, &held, async || {}).await.unwrap_err();
        assert!(harness.meanwhile.happened());
        assert_refused(&harness, "bot.issue", code, &serials).await;
    }
}

#[tokio::test]
async fn grant_has_the_roles_that_the_bot_has_when_it_is_recorded() {
    let tpm = SoftwareTpm::generate();
    let fewer = Removal::Replace(BOT.replace("[access, dev]", "[access]"));
    let roles = async |harness: &Harness, held: &IssuedCredentials| {
        let wire = harness.wire_as(Some(tpm.identity(held))).await;
        let mut client = IdentityServiceClient::new(wire.channel.clone());
        client.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner().roles
    };
    let harness = harness(&tpm).await;
    harness.meanwhile.set(fewer.event());
    let held = harness.join(&tpm, "t").await.unwrap();
    assert!(harness.meanwhile.happened());
    assert_eq!(roles(&harness, &held).await, ["access"]);

    harness.create(BOT).await;
    harness.meanwhile.set(fewer.event());
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let held = client.renew(RenewRequest::default()).await.unwrap().into_inner();
    assert!(harness.meanwhile.happened());
    assert_eq!(roles(&harness, &held).await, ["access"]);
}

#[tokio::test]
async fn grant_that_is_overtaken_each_time_is_refused_as_busy() {
    let tpm = SoftwareTpm::generate();
    let harness = harness(&tpm).await;
    fn again(meanwhile: Arc<super::meanwhile::Meanwhile>) -> Event {
        Box::new(move |records| {
            Box::pin(async move {
                Removal::Replace(BOT.into()).happen(records).await;
                meanwhile.set(again(Arc::clone(&meanwhile)));
            })
        })
    }
    harness.meanwhile.set(again(Arc::clone(&harness.meanwhile)));
    harness.join(&tpm, "t").await.unwrap_err();
    assert_refused(&harness, "bot.join", "busy", &[]).await;
}

#[tokio::test]
async fn instance_recorded_while_its_bot_is_removed_does_not_outlive_it() {
    let tpm = SoftwareTpm::generate();
    let harness = harness(&tpm).await;
    for _ in 0..20 {
        let join = || harness.join(&tpm, "t");
        let records = &harness.authority.records;
        let remove = async { records.remove(Kind::Bot, "my-bot", author()).await.unwrap() };
        let _ = tokio::join!(join(), join(), remove, join(), join());
        assert_eq!(harness.instances().await, []);
        harness.create(BOT).await;
    }
}

#[tokio::test]
async fn lock_that_is_replaced_at_the_same_time_twice_has_one_target() {
    let harness = Harness::new().await;
    let records = &harness.authority.records;
    let lock = |bot: usize| {
        let yaml = "kind: lock\nversion: v2\nmetadata:\n  name: why\nspec:\n  target: {user: ";
        resource::read(&format!("{yaml}bot-b{bot}}}\n")).unwrap()
    };
    for round in 0..20 {
        let put = async |bot| {
            records.put(&lock(bot), IfExists::Replace, author()).await.unwrap();
        };
        tokio::join!(put(round), put(round + 1), put(round + 2), put(round + 3));
    }
    records.remove(Kind::Lock, "why", author()).await.unwrap();
    let targets: Vec<_> =
        (0..30).map(|bot| Target::Bot(format!("b{bot}").parse().unwrap())).collect();
    let now = harness.authority.clock.now();
    assert_eq!(records.lock_on(&targets, now).await.unwrap(), None);
}

#[tokio::test]
async fn instance_renewed_while_others_are_pruned_stays() {
    let tpm = SoftwareTpm::generate();
    let harness = harness(&tpm).await;
    harness.join(&tpm, "t").await.unwrap();
    let held = harness.join(&tpm, "t").await.unwrap();
    let (bot, id) = ("my-bot".parse().unwrap(), held.instance.parse().unwrap());
    let end = time::Duration::days(3650);
    let meanwhile = Arc::clone(&harness.meanwhile);
    harness.meanwhile.set(Box::new(move |records| {
        Box::pin(async move {
            let mut renewed = records.instance(&bot, &id).await.unwrap().unwrap().instance;
            renewed.set_expires(Timestamp(Clock::system().now() + end * 2));
            let record = serde_json::to_vec(&renewed).unwrap();
            let renewed = Change::Put(Table::Instances, renewed.path(), record);
            meanwhile.write(vec![renewed]).await.unwrap();
        })
    }));
    let later = harness.authority.clock.now() + end;
    let pruned = harness.authority.records.prune(later, author(), None).await;
    assert_eq!(pruned.unwrap().removed, 1);
    assert!(harness.meanwhile.happened());
    assert_eq!(harness.instance().await.spec.instance_id.to_string(), held.instance);
}

#[tokio::test]
async fn lock_created_while_it_is_removed_has_no_hidden_effect() {
    let harness = Harness::new().await;
    let lock =
        "kind: lock\nversion: v2\nmetadata:\n  name: why\nspec:\n  target: {join_token: t}\n";
    let create = Removal::Replace(lock.into());
    harness.meanwhile.set_before(Table::Locks, create.event());
    let records = &harness.authority.records;
    let _ = records.remove(Kind::Lock, "why", author()).await;
    let shown = records.page(Kind::Lock, None, None, 1000).await.unwrap().len();
    let target = [Target::Token("t".parse().unwrap())];
    let in_force = records.lock_on(&target, harness.authority.clock.now()).await.unwrap();
    assert_eq!(in_force.is_some(), shown == 1);
}

#[tokio::test]
async fn renewal_is_refused_after_a_change_of_its_instance_between_judgement_and_record() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let held = harness.join(&tpm, "t").await.unwrap();
    let serials = [harness.instance().await.status.certificate_serial];
    let id = &held.instance;
    harness.meanwhile.set(
        Removal::Replace(format!(
            "kind: lock\nversion: v2\nmetadata:\n  name: why\nspec:\n  \
             target: {{bot_instance_id: {id}}}\n"
        ))
        .event(),
    );
    renew(&harness, &tpm, &held, async || {}).await.unwrap_err();
    assert_refused(&harness, "bot.renew", "locked", &serials).await;
    harness.authority.records.remove(Kind::Lock, "why", author()).await.unwrap();

    let path = harness.instance().await.path();
    harness.meanwhile.set(Box::new(move |records| {
        Box::pin(async move {
            records.remove(Kind::BotInstance, &path, author()).await.unwrap();
        })
    }));
    renew(&harness, &tpm, &held, async || {}).await.unwrap_err();
    assert_refused(&harness, "bot.renew", "instance_unknown", &[]).await;
}
