//! Indexes, pruning and the migration from older stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::format::encode;
use super::*;
use crate::audit::Author;
use crate::resource::{
    BotInstance, EkHash, InstanceId, Kind, Lock, ProvenEk, Resource, Timestamp, read,
};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:30 UTC);

/// A store that counts what is read of it, and may fail after some writes.
struct Counting {
    store: MemoryStore,
    records_read: AtomicUsize,
    writes_left: AtomicUsize,
}

impl Default for Counting {
    fn default() -> Self {
        let writes_left = AtomicUsize::new(usize::MAX);
        Self { store: MemoryStore::default(), records_read: AtomicUsize::default(), writes_left }
    }
}

impl Store for Counting {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        self.records_read.fetch_add(1, Ordering::SeqCst);
        self.store.read(table, key)
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(async move {
            let page = self.store.list(range).await?;
            self.records_read.fetch_add(page.len(), Ordering::SeqCst);
            Ok(page)
        })
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        let left = self.writes_left.load(Ordering::SeqCst);
        if left == 0 {
            return Box::pin(async { Err(StoreError::Failed("no space".into())) });
        }
        self.writes_left.store(left - 1, Ordering::SeqCst);
        self.store.write(batch)
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        self.store.snapshot()
    }
}

fn store() -> (Arc<Counting>, Records) {
    let store = Arc::new(Counting::default());
    let records = Records::new(Arc::<Counting>::clone(&store));
    (store, records)
}

fn ek(digit: char) -> EkHash {
    digit.to_string().repeat(64).parse().unwrap()
}

/// An instance of the bot `b` whose last certificate ends then.
fn instance(ek: EkHash, expires: OffsetDateTime) -> BotInstance {
    let ek = ProvenEk {
        public_hash: ek,
        certificate_serial: None,
        certificate_issuer: None,
        verified_by: None,
    };
    let (bot, token) = ("b".parse().unwrap(), "t".parse().unwrap());
    let mut instance = BotInstance::joining(bot, token, ek, "key".into(), NOW);
    instance.metadata.expires = Some(Timestamp(expires));
    instance
}

/// An instance that has just joined.
pub(super) fn instance_of_a_host() -> BotInstance {
    instance("ab".repeat(32).parse().unwrap(), NOW)
}

fn lock(name: &str, expires: &str) -> Resource {
    let yaml = format!(
        "kind: lock\nversion: v2\nmetadata: {{name: {name}}}\nspec: {{target: {{user: bot-b}}{expires}}}\n"
    );
    read(&yaml).unwrap().remove(0)
}

fn author() -> Author {
    Author::system(NOW)
}

async fn put(records: &Records, resources: &[Resource]) {
    records.put(resources, IfExists::Replace, author()).await.unwrap();
}

/// Records an instance at the place of its path, whatever is there.
async fn put_instance(records: &Records, instance: &BotInstance) {
    let mut batch = index::changes(&[], index::of_instance(instance));
    batch.push(Change::Put(Table::Instances, instance.path(), encode(instance).unwrap()));
    records.write(batch).await.unwrap();
}

async fn rows(store: &Counting, tables: &[Table]) -> Vec<(Table, String, Vec<u8>)> {
    let mut all = Vec::new();
    for table in tables {
        let rows = Pages::new(store, *table, "").all().await.unwrap();
        all.extend(rows.into_iter().map(|(key, content)| (*table, key, content)));
    }
    all
}

const INDEXES: [Table; 3] = [Table::InstanceIds, Table::InstanceEks, Table::Expiry];

/// The rows of the indexes must be those of the records.
async fn assert_indexed(store: &Counting) {
    let mut must = Vec::new();
    for (table, key, record) in rows(store, &[Table::Instances, Table::Locks]).await {
        must.extend(match table {
            Table::Instances => index::of_instance(&decode(table, &key, &record).unwrap()),
            _ => index::of_lock(&decode::<Lock>(table, &key, &record).unwrap()),
        });
    }
    must.sort();
    assert_eq!(rows(store, &INDEXES).await, must);
}

/// Prunes to the end; how many records went, and what could not be read.
async fn prune(records: &Records, then: OffsetDateTime) -> (usize, Vec<StoreError>) {
    let (mut removed, mut unreadable, mut next) = (0, Vec::new(), None);
    loop {
        let value = records.prune(then, author(), next).await.unwrap();
        removed += value.removed;
        unreadable.extend(value.unreadable);
        next = value.next;
        if next.is_none() {
            return (removed, unreadable);
        }
    }
}

#[tokio::test]
async fn indexes_have_a_row_for_each_record_through_all_changes() {
    let (store, records) = store();
    let end = NOW + Duration::hours(1);
    let (one, two) = (instance(ek('a'), end), instance(ek('a'), end));
    for one in [&one, &two] {
        let basis = records.basis(&one.spec.bot_name, &one.status.join_token, &[]).await.unwrap();
        let granted = records.grant(None, one.clone(), basis, None, b"{}".into()).await.unwrap();
        let mut later = one.clone();
        later.set_expires(Timestamp(end + Duration::hours(5)));
        let basis = records.basis(&one.spec.bot_name, &one.status.join_token, &[]).await.unwrap();
        records.grant(Some(&granted), later, basis, None, b"{}".into()).await.unwrap();
        assert_indexed(&store).await;
    }
    assert!(records.has_instance_of_ek(&ek('a')).await.unwrap());
    assert!(!records.has_instance_of_ek(&ek('b')).await.unwrap());
    let found = records.instance_by_id(&two.spec.instance_id).await.unwrap().unwrap();
    assert_eq!(found.path(), two.path());
    assert_eq!(records.instance_by_id(&InstanceId::random()).await.unwrap(), None);

    put(&records, &[lock("l", ", expires: 2026-06-01T13:00:00Z"), lock("m", "")]).await;
    assert_indexed(&store).await;
    put(&records, &[lock("l", ", expires: 2027-06-01T13:00:00Z")]).await;
    assert_indexed(&store).await;
    put(&records, &[lock("l", ""), lock("m", ", expires: 2027-06-01T13:00:00Z")]).await;
    assert_indexed(&store).await;
    records.remove(Kind::Lock, "m", author()).await.unwrap();
    records.remove(Kind::BotInstance, &one.path(), author()).await.unwrap();
    assert_indexed(&store).await;
    assert_eq!(records.instance_by_id(&one.spec.instance_id).await.unwrap(), None);
    assert_eq!(prune(&records, NOW + Duration::days(1)).await, (1, vec![]));
    assert_indexed(&store).await;
    assert_eq!(rows(&store, &INDEXES).await, []);
}

#[tokio::test]
async fn prune_reads_what_has_ended_and_nothing_else() {
    let (store, records) = store();
    for _ in 0..1000 {
        put_instance(&records, &instance(ek('a'), NOW + Duration::hours(3))).await;
    }
    for _ in 0..300 {
        put_instance(&records, &instance(ek('a'), NOW - Duration::hours(3))).await;
    }
    put(&records, &[lock("l", ", expires: 2026-05-01T00:00:00Z"), lock("m", "")]).await;
    store.records_read.store(0, Ordering::SeqCst);
    assert_eq!(prune(&records, NOW).await, (301, vec![]));
    let read = store.records_read.load(Ordering::SeqCst);
    // A row and a record each, and the first page of those that have not ended.
    assert!(read < 301 * 2 + 2 * 128, "{read}");
    assert_indexed(&store).await;
    store.records_read.store(0, Ordering::SeqCst);
    assert_eq!(prune(&records, NOW).await, (0, vec![]));
    assert!(store.records_read.load(Ordering::SeqCst) <= 128);
}

#[tokio::test]
async fn broken_record_is_reported_and_does_not_stop_pruning() {
    let (store, records) = store();
    let ended: Vec<_> = (0..300).map(|_| instance(ek('a'), NOW - Duration::hours(3))).collect();
    for one in &ended {
        put_instance(&records, one).await;
    }
    let broken = ended[150].path();
    let damage = Change::Put(Table::Instances, broken.clone(), b"{\"kind\":".to_vec());
    store.write(vec![damage]).await.unwrap();
    let newer = Change::Put(Table::Instances, ended[7].path(), br#"{"v":99}"#.to_vec());
    store.write(vec![newer]).await.unwrap();
    let (removed, mut unreadable) = prune(&records, NOW).await;
    unreadable.sort_by_key(ToString::to_string);
    assert_eq!(removed, 298);
    assert!(
        matches!(&unreadable[..], [StoreError::Newer(_), StoreError::Unreadable(what)]
        if what.contains(&broken)),
        "{unreadable:?}"
    );
    assert_eq!(rows(&store, &[Table::Instances]).await.len(), 2);
    records.remove(Kind::BotInstance, &broken, author()).await.unwrap();
}

#[tokio::test]
async fn rows_of_a_removed_bots_instances_lead_nowhere_and_go_in_time() {
    let (store, records) = store();
    let bot = read("kind: bot\nversion: v1\nmetadata: {name: b}\nspec: {}\n").unwrap();
    put(&records, &bot).await;
    let gone = instance(ek('a'), NOW + Duration::hours(3));
    put_instance(&records, &gone).await;
    records.remove(Kind::Bot, "b", author()).await.unwrap();
    assert_eq!(records.instance_by_id(&gone.spec.instance_id).await.unwrap(), None);
    assert!(!records.has_instance_of_ek(&ek('a')).await.unwrap());
    assert_eq!(prune(&records, NOW + Duration::hours(5)).await, (0, vec![]));
    assert_eq!(rows(&store, &INDEXES).await, []);
}

/// A store as version 0.1.0 writes it: records without a number, and no index.
async fn old_store(store: &Counting) {
    for index in 0..600 {
        let instance = instance(ek('a'), NOW - Duration::hours(index));
        let record = serde_json::to_vec(&instance).unwrap();
        let put = Change::Put(Table::Instances, instance.path(), record);
        store.store.write(vec![put]).await.unwrap();
    }
    let ended = lock("l", ", expires: 2026-05-01T00:00:00Z");
    let put = Change::Put(Table::Locks, "l".into(), serde_json::to_vec(&ended).unwrap());
    store.store.write(vec![put]).await.unwrap();
}

#[tokio::test]
async fn store_without_indexes_gets_them_also_after_an_interruption() {
    for writes in 0..4 {
        let (store, records) = store();
        old_store(&store).await;
        store.writes_left.store(writes, Ordering::SeqCst);
        records.migrate(author()).await.unwrap_err();
        assert_eq!(store.store.read(Table::Format, "").await.unwrap(), None);
        store.writes_left.store(usize::MAX, Ordering::SeqCst);
        records.migrate(author()).await.unwrap();
        assert_indexed(&store).await;
        // It is done once.
        store.records_read.store(0, Ordering::SeqCst);
        records.migrate(author()).await.unwrap();
        assert_eq!(store.records_read.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn store_of_a_newer_format_is_used_only_if_that_permits_it() {
    let (store, records) = store();
    let format = |record: &str| Change::Put(Table::Format, String::new(), record.into());
    store.write(vec![format(r#"{"v":1,"format":9,"oldest":1,"more":true}"#)]).await.unwrap();
    records.migrate(author()).await.unwrap();
    store.write(vec![format(r#"{"v":1,"format":9,"oldest":8}"#)]).await.unwrap();
    let refused = records.migrate(author()).await.unwrap_err();
    let text = "the store (format 9) was written by a newer authority: upgrade this one";
    assert_eq!(refused.to_string(), text);
}

#[tokio::test]
async fn conditional_replacement_requires_the_resource_as_it_was_read() {
    let (_, records) = store();
    let bot = |role: &str| {
        let yaml =
            format!("kind: bot\nversion: v1\nmetadata: {{name: b}}\nspec: {{roles: [{role}]}}\n");
        read(&yaml).unwrap()
    };
    let replace = async |new: &[Resource], this: &[Resource]| {
        let this = IfExists::ReplaceThis(Arc::new(this[0].clone()));
        records.put(new, this, author()).await
    };
    let missing = StoreError::Missing(Table::Bots, "b".into());
    assert_eq!(replace(&bot("two"), &bot("one")).await, Err(missing));
    put(&records, &bot("one")).await;
    assert_eq!(replace(&bot("two"), &bot("one")).await, Ok(vec![Put::Replaced]));
    let changed = StoreError::Changed(Table::Bots, "b".into());
    assert_eq!(replace(&bot("three"), &bot("one")).await, Err(changed));
    let found = records.resource(Kind::Bot, "b").await.unwrap();
    assert_eq!(found, bot("two").pop());
}
