use time::macros::datetime;

use super::*;
use crate::audit::replay::Finding;
use crate::data_directory::DataDirectory;
use crate::issue::{
    CaKey, ClusterName, JwtKey, PUBLISHED_BEFORE_USE, Ring, SshCa, Tainted, TrustChain, X509Ca,
};
use crate::store::{Keyed, MemoryStore, Pages, Pending, Range, Records, Snapshot};
use p256::SecretKey;
use p256::elliptic_curve::Generate;
use std::sync::atomic::{AtomicBool, Ordering};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn name() -> ClusterName {
    "a".parse().unwrap()
}

fn keys(algorithm: JwtAlgorithm) -> Keys {
    let key = || CaKey::generate().unwrap();
    Keys {
        x509: Ring::new(X509Ca::create(&name(), key(), NOW).unwrap(), NOW),
        ssh: Ring::new(SshCa::new(&name(), &key()).unwrap(), NOW),
        ssh_host: Ring::new(SshCa::of_hosts(&name(), &key()).unwrap(), NOW),
        jwt: Ring::new(JwtKey::generate(algorithm).unwrap(), NOW),
        sequence: 1,
        chain: TrustChain::default(),
        tainted: Tainted::default(),
    }
}

fn own(dir: &tempfile::TempDir) -> Own {
    let directory = DataDirectory::new(dir.path().join("data"));
    let lock = directory.lock().unwrap();
    Own::of(&directory, &lock).unwrap()
}

/// A store that can be made to refuse writes.
#[derive(Default)]
struct Fragile {
    store: MemoryStore,
    is_broken: AtomicBool,
    breaks_after_write: AtomicBool,
    cannot_be_read: AtomicBool,
}

impl Store for Fragile {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        if self.cannot_be_read.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Failed("gone".into())) });
        }
        self.store.read(table, key)
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        self.store.list(range)
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        self.store.snapshot()
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Failed("full".into())) });
        }
        if self.breaks_after_write.swap(false, Ordering::SeqCst) {
            return Box::pin(async {
                self.store.write(batch).await?;
                self.cannot_be_read.store(true, Ordering::SeqCst);
                Ok(())
            });
        }
        self.store.write(batch)
    }
}

/// A store with one authority in it.
struct World {
    store: Arc<Fragile>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let world = Self { store: Arc::default(), dir: tempfile::tempdir().unwrap() };
        let keys = keys(JwtAlgorithm::Es256);
        let founding = StoredKeyring::founding(&own(&world.dir), "a", &keys, NOW).unwrap();
        world.store.write(founding).await.unwrap();
        world
    }

    async fn open_as(
        &self,
        own: Own,
        algorithm: JwtAlgorithm,
    ) -> Result<StoredKeyring, KeyringError> {
        let store: Arc<dyn Store> = Arc::<Fragile>::clone(&self.store);
        let opened = StoredKeyring::open(store, &own, algorithm).await?.unwrap();
        Ok(opened.ready(own, true, Box::new(|_| {})))
    }

    async fn open(&self, algorithm: JwtAlgorithm) -> StoredKeyring {
        self.open_as(own(&self.dir), algorithm).await.unwrap()
    }

    /// The slots of a key.
    async fn slots(&self, key_id: &str) -> Vec<String> {
        let slots = Pages::new(&*self.store, Table::KeySlots, format!("{key_id}/"));
        slots.all().await.unwrap().into_iter().map(|(key, _)| key).collect()
    }
}

fn author() -> Author {
    Author::operator(Some(7), NOW)
}

/// Prepares an X.509 CA and returns the ID of its key.
async fn prepare(keyring: &StoredKeyring) -> Result<String, KeyringError> {
    keyring.step(CaType::X509, Step::Prepare, Caution::Wait, false, author()).await
}

#[tokio::test]
async fn keys_are_stored_with_their_states_and_retired_ones_without_private_part() {
    use JwtAlgorithm::{Es256, Rs256};
    let world = World::new().await;
    let keyring = world.open(Es256).await;
    assert!(keyring.maintain_jwt_keys(NOW).await.unwrap().is_empty());
    let first = keyring.keyring().keys().jwt.active().public().key_id().to_owned();
    assert_eq!(world.slots(&first).await, [format!("{first}/{}", keyring.own_id())]);

    let keyring = world.open(Rs256).await;
    assert_eq!(keyring.maintain_jwt_keys(NOW).await.unwrap().len(), 1);
    assert_eq!(keyring.keyring().keys().sequence, 2);
    let later = NOW + PUBLISHED_BEFORE_USE;
    let keyring = world.open(Rs256).await;
    let next = keyring.keyring().keys().jwt.next().unwrap().clone();
    assert_eq!((next.since, world.slots(next.ca.public().key_id()).await.len()), (NOW, 1));
    keyring.maintain_jwt_keys(later).await.unwrap();
    let keys = world.open(Rs256).await.keyring().keys();
    assert_eq!(keys.sequence, 3);
    let [retired] = keys.jwt.retired() else { panic!("none is retired") };
    assert_eq!((retired.ca.public().key_id(), retired.since), (&first[..], later));
    assert!(!retired.ca.can_sign() && keys.jwt.active().can_sign());
    assert!(world.slots(&first).await.is_empty());
}

#[tokio::test]
async fn keys_that_cannot_be_stored_are_not_used() {
    let world = World::new().await;
    let keyring = world.open(JwtAlgorithm::Es256).await;
    let before = keyring.keyring().keys();
    world.store.is_broken.store(true, Ordering::SeqCst);
    prepare(&keyring).await.unwrap_err();
    assert!(Arc::ptr_eq(&before, &keyring.keyring().keys()));
    world.store.is_broken.store(false, Ordering::SeqCst);
    prepare(&keyring).await.unwrap();
    assert!(keyring.keyring().keys().x509.next().is_some());
}

#[tokio::test]
async fn two_authorities_change_the_keys_one_after_the_other_and_both_follow() {
    let (world, dir) = (World::new().await, tempfile::tempdir().unwrap());
    let one = world.open(JwtAlgorithm::Es256).await;
    let request = own(&dir).request(Some("two".parse().unwrap()));
    one.admit(&request, author()).await.unwrap();
    let two = world.open_as(own(&dir), JwtAlgorithm::Es256).await.unwrap();
    // Both want a next CA. The second one to come sees that there is one.
    let (by_one, by_two) = tokio::join!(prepare(&one), prepare(&two));
    let (Ok(prepared), Err(refused)) = (match by_one {
        Ok(_) => (by_one, by_two),
        Err(_) => (by_two, by_one),
    }) else {
        panic!("not one of them has prepared a CA")
    };
    assert!(refused.to_string().contains("there is a next CA already"), "{refused}");
    for keyring in [&one, &two] {
        keyring.refresh().await.unwrap();
    }
    let next = |keyring: &StoredKeyring| {
        keyring.keyring().keys().x509.next().unwrap().ca.key_id().to_owned()
    };
    assert_eq!([next(&one), next(&two)], [prepared.clone(), prepared]);
    assert_eq!(world.slots(&next(&one)).await.len(), 2, "both can use it");
}

#[tokio::test]
async fn removed_authority_has_no_key_any_more_and_is_told() {
    let (world, dir) = (World::new().await, tempfile::tempdir().unwrap());
    let one = world.open(JwtAlgorithm::Es256).await;
    let request = |name: &str| own(&dir).request(Some(name.parse().unwrap()));
    let taken = one.own.request(None).name;
    let refused = one.admit(&request(taken.as_str()), author()).await.unwrap_err();
    assert!(refused.to_string().contains("another --name"), "{refused}");
    one.admit(&request("two"), author()).await.unwrap();
    let is_missing = |member: &Member| member.state == MemberState::Missing;
    assert!(one.members(NOW).await.unwrap().iter().any(is_missing), "it has not started yet");
    let two = world.open_as(own(&dir), JwtAlgorithm::Es256).await.unwrap();
    two.beat(NOW).await.unwrap();
    let states = async || {
        let members = one.members(NOW).await.unwrap();
        let state =
            |name: &str| members.iter().find(|one| one.name.as_str() == name).unwrap().state;
        (state(taken.as_str()), state("two"))
    };
    assert_eq!(states().await, (MemberState::Live, MemberState::Live));
    for (which, why) in [("three", "there is no authority"), (taken.as_str(), "is this authority")]
    {
        let refused = one.remove(which, author()).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    one.remove("two", author()).await.unwrap();
    assert_eq!(states().await, (MemberState::Live, MemberState::Removed));
    let slots = Pages::new(&*world.store, Table::KeySlots, "").all().await.unwrap();
    assert!(slots.iter().all(|(key, _)| !key.ends_with(two.own_id())), "{slots:?}");
    assert!(matches!(two.refresh().await, Err(KeyringError::Removed)));
    let again = world.open_as(own(&dir), JwtAlgorithm::Es256).await;
    assert!(matches!(again, Err(KeyringError::Removed)));
    // New keys are not wrapped for it either.
    prepare(&one).await.unwrap();
    let next = one.keyring().keys().x509.next().unwrap().ca.key_id().to_owned();
    assert_eq!(world.slots(&next).await, [format!("{next}/{}", one.own_id())]);

    one.admit(&request("two"), author()).await.unwrap();
    two.refresh().await.unwrap();
    assert!(two.keyring().keys().x509.next().is_some());
}

#[tokio::test]
async fn recovery_key_opens_every_key_those_that_come_later_too() {
    let world = World::new().await;
    let keyring = world.open(JwtAlgorithm::Es256).await;
    assert_eq!(keyring.recovery_since().await, None);
    let key = SecretKey::try_generate().unwrap();
    keyring.set_recovery(&key.public_key(), author()).await.unwrap();
    prepare(&keyring).await.unwrap();
    assert_eq!(keyring.recovery_since().await, Some(Timestamp(NOW)));
    let slots = keyring.recovery_slots().await.unwrap();
    assert_eq!(slots.len(), 5);
    let keys = keyring.keyring().keys();
    for (slot, (key_id, pem)) in slots.iter().zip(secrets(&keys).unwrap()) {
        let wrapped = slot.wrapped.as_ref().unwrap();
        assert_eq!(slot.key_id, key_id);
        assert_eq!(*open_slot(&key, &key_id, RECOVERY, wrapped).unwrap(), *pem);
        let other = SecretKey::try_generate().unwrap();
        open_slot(&other, &key_id, RECOVERY, wrapped).unwrap_err();
    }
}

#[tokio::test]
async fn damaged_keyring_is_refused() {
    let world = World::new().await;
    let id = world.open(JwtAlgorithm::Es256).await.own_id().to_owned();
    let sound = world.store.read(Table::Keyring, "").await.unwrap().unwrap();
    let sound = String::from_utf8(sound).unwrap();
    let refused = async || {
        let opened = world.open_as(own(&world.dir), JwtAlgorithm::Es256).await;
        opened.map(|_| ()).unwrap_err()
    };
    let put = async |record: &str| {
        let change = Change::Put(Table::Keyring, String::new(), record.into());
        world.store.write(vec![change]).await.unwrap();
    };
    for (from, to) in [
        ("\"active\"", "\"retired\""),
        ("\"active\"", "\"signing\""),
        ("ES256", "RS256"),
        ("\"public\":\"MI", "\"public\":\"MJ"),
        ("\"type\":\"ssh_host\"", "\"type\":\"ssh\""),
    ] {
        assert!(sound.contains(from), "{sound}");
        put(&sound.replacen(from, to, 1)).await;
        let refused = refused().await;
        let is_data = matches!(
            refused,
            KeyringError::Damaged(_) | KeyringError::Store(StoreError::Unreadable(_))
        );
        assert!(is_data, "{to}: {refused}");
    }
    put(&sound.replacen("\"v\":1", "\"v\":2", 1)).await;
    assert!(matches!(refused().await, KeyringError::Store(StoreError::Newer(_))));
    put(&sound).await;
    let slots = Pages::new(&*world.store, Table::KeySlots, "").all().await.unwrap();
    let [(first, wrapped), (other, _), ..] = &slots[..] else { panic!("{slots:?}") };
    assert!(first.ends_with(&id));
    // A slot is bound to its key.
    let swapped = Change::Put(Table::KeySlots, other.clone(), wrapped.clone());
    world.store.write(vec![swapped]).await.unwrap();
    assert!(matches!(refused().await, KeyringError::Damaged(_)));
    let removed = Change::Remove(Table::KeySlots, other.clone());
    world.store.write(vec![removed]).await.unwrap();
    assert!(matches!(refused().await, KeyringError::NotAdmitted));
}

#[tokio::test]
async fn every_change_is_an_event_of_the_log_that_binds_what_it_leaves() {
    let (world, dir) = (World::new().await, tempfile::tempdir().unwrap());
    let keyring = world.open(JwtAlgorithm::Es256).await;
    let (request, key) =
        (own(&dir).request(Some("two".parse().unwrap())), SecretKey::try_generate());
    keyring.admit(&request, author()).await.unwrap();
    keyring.set_recovery(&key.unwrap().public_key(), author()).await.unwrap();
    let next = prepare(&keyring).await.unwrap();
    for step in [Step::Activate, Step::Retire] {
        keyring.step(CaType::X509, step, Caution::Force, false, author()).await.unwrap();
    }
    keyring.remove("two", author()).await.unwrap();
    world.open(JwtAlgorithm::Rs256).await.maintain_jwt_keys(NOW).await.unwrap();

    let records = Records::new(world.store.clone()).logging_as(keyring.own_id());
    let log = records.log_entries(keyring.own_id(), 0, 100).await.unwrap();
    let log: Vec<serde_json::Value> =
        log.iter().map(|entry| serde_json::from_slice(entry.entry()).unwrap()).collect();
    let events: Vec<_> = log.iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    let expected = [
        "cluster.create",
        "authority.add",
        "recovery_key.set",
        "ca.prepare",
        "ca.activate",
        "ca.retire",
        "authority.remove",
        "ca.prepare",
    ];
    assert_eq!(events, expected);
    let said = |entry: usize, field: &str| log[entry][field].as_str().unwrap_or_default();
    assert_eq!((said(1, "authority_name"), said(1, "user")), ("two", "operator"));
    assert_eq!(log[1]["unix_uid"], 7);
    assert_eq!((said(3, "ca_type"), said(3, "ca_key_id")), ("x509", &next[..]));
    assert_eq!((&log[3]["forced"], &log[4]["forced"]), (&serde_json::Value::Null, &true.into()));
    assert_eq!((said(7, "ca_type"), said(7, "user")), ("jwt", "system"));

    let verified = records.verify(&[]).await.unwrap();
    assert_eq!(verified.findings, []);
    // Somebody adds a CA of their own, lets an authority in again, and puts a key back.
    for table in [Table::Keyring, Table::Authorities, Table::KeySlots] {
        let rows = Pages::new(&*world.store, table, "").all().await.unwrap();
        let (key, row) = rows.into_iter().next().unwrap();
        let changed = [row.as_slice(), b" "].concat();
        world.store.write(vec![Change::Put(table, key.clone(), changed)]).await.unwrap();
        let findings = records.verify(&[]).await.unwrap().findings;
        assert_eq!(findings, [(None, Finding::Record((table.in_events(), key.clone())))]);
        world.store.write(vec![Change::Put(table, key, row)]).await.unwrap();
    }
}

#[tokio::test]
async fn step_is_taken_although_the_store_fails_after_it_and_the_next_poll_loads_it() {
    let world = World::new().await;
    let keyring = world.open(JwtAlgorithm::Es256).await;
    world.store.breaks_after_write.store(true, Ordering::SeqCst);
    let next = prepare(&keyring).await.unwrap();
    assert!(keyring.keyring().keys().x509.next().is_none());
    assert!(matches!(keyring.refresh().await, Err(KeyringError::Store(_))));
    world.store.cannot_be_read.store(false, Ordering::SeqCst);
    keyring.refresh().await.unwrap();
    assert_eq!(keyring.keyring().keys().x509.next().unwrap().ca.key_id(), next);
}
