use std::collections::BTreeMap;

use super::*;
use crate::audit::Author;
use crate::resource::{Kind, read};
use crate::store::{Change, IfExists, Keyed, Pending, Range, Snapshot, Store, StoreError, Table};

/// A store in memory, which counts the reads of token records and may write in the middle of one.
#[derive(Default)]
struct Memory(Mutex<Content>);

#[derive(Default)]
struct Content {
    records: BTreeMap<(Table, String), Vec<u8>>,
    token_reads: usize,
    written_during_read: Option<Vec<Change>>,
}

impl Content {
    fn apply(&mut self, batch: Vec<Change>) {
        for change in batch {
            match change {
                Change::Remove(table, key) | Change::RemoveIfExists(table, key) => {
                    self.records.remove(&(table, key));
                }
                Change::Insert(table, key, record) | Change::Put(table, key, record) => {
                    self.records.insert((table, key), record);
                }
                Change::Expect(table, key, was) => {
                    assert_eq!(self.records.get(&(table, key)), was.as_ref());
                }
                Change::Append(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Store for Memory {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut content = self.0.lock().unwrap();
            let found = content.records.get(&(table, key.to_owned())).cloned();
            if table == Table::Tokens {
                content.token_reads += 1;
                if let Some(batch) = content.written_during_read.take() {
                    content.apply(batch);
                }
            }
            Ok(found)
        })
    }

    fn list<'a>(&'a self, _: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        self.0.lock().unwrap().apply(batch);
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        Box::pin(async { Err(StoreError::Failed("no snapshots".into())) })
    }
}

fn hash(seed: &str) -> EkHash {
    seed.repeat(32).parse().unwrap()
}

fn yaml(rules: &str) -> String {
    format!(
        "kind: token\nversion: v2\nmetadata: {{name: t}}\nspec:\n  roles: [Bot]\n  \
         join_method: tpm\n  bot_name: b\n  tpm: {{allow: [{rules}]}}\n"
    )
}

fn allows(seed: &str) -> String {
    yaml(&format!("{{ek_public_hash: {}}}", hash(seed)))
}

async fn put(records: &Records, yaml: &str) {
    records.put(&read(yaml).unwrap(), IfExists::Replace, author()).await.unwrap();
}

fn author() -> Author {
    Author::system(time::OffsetDateTime::UNIX_EPOCH)
}

async fn look(cache: &TokenCache, records: &Records) -> Option<Arc<OpenToken>> {
    let parsed = cache.token(records, &"t".parse().unwrap()).await.unwrap();
    parsed.map(|parsed| parsed.open.clone().unwrap())
}

/// An EK with this certificate, if any: serial and issuer.
fn ek(seed: &str, certificate: Option<(&str, &str)>) -> ProvenEk {
    ProvenEk {
        public_hash: hash(seed),
        certificate_serial: certificate.map(|(serial, _)| serial.parse().unwrap()),
        certificate_issuer: certificate.map(|(_, issuer)| issuer.parse().unwrap()),
        verified_by: None,
    }
}

fn matches_rule(token: &OpenToken, seed: &str) -> bool {
    token.check_rules(&ek(seed, None)).is_ok()
}

#[tokio::test]
async fn an_unchanged_token_is_read_and_parsed_once() {
    let store = Arc::new(Memory::default());
    let (records, cache) = (Records::new(Arc::<Memory>::clone(&store)), TokenCache::default());
    put(&records, &allows("aa")).await;
    let before = store.0.lock().unwrap().token_reads;
    let first = look(&cache, &records).await.unwrap();
    for _ in 0..10 {
        assert!(Arc::ptr_eq(&first, &look(&cache, &records).await.unwrap()));
    }
    assert_eq!(store.0.lock().unwrap().token_reads - before, 1);
}

#[tokio::test]
async fn a_token_that_was_written_or_removed_is_read_again() {
    let records = Records::new(Arc::new(Memory::default()));
    let cache = TokenCache::default();
    assert!(look(&cache, &records).await.is_none());
    put(&records, &allows("aa")).await;
    assert!(matches_rule(&look(&cache, &records).await.unwrap(), "aa"));
    put(&records, &allows("bb")).await;
    let token = look(&cache, &records).await.unwrap();
    assert!(matches_rule(&token, "bb") && !matches_rule(&token, "aa"));
    records.remove(Kind::Token, "t", author()).await.unwrap();
    assert!(look(&cache, &records).await.is_none());
    put(&records, &allows("bb")).await;
    assert!(look(&cache, &records).await.is_some());
}

#[tokio::test]
async fn a_token_that_is_written_while_it_is_read_is_not_served_from_before() {
    let store = Arc::new(Memory::default());
    let (records, cache) = (Records::new(Arc::<Memory>::clone(&store)), TokenCache::default());
    put(&records, &allows("aa")).await;
    // The batch that another process commits, as records write it.
    let other = Arc::new(Memory::default());
    put(&Records::new(Arc::<Memory>::clone(&other)), &allows("bb")).await;
    let batch = other.0.lock().unwrap().records.clone().into_iter();
    let batch = batch.map(|((table, key), record)| Change::Put(table, key, record)).collect();
    store.0.lock().unwrap().written_during_read = Some(batch);
    assert!(matches_rule(&look(&cache, &records).await.unwrap(), "aa"), "read before the write");
    let token = look(&cache, &records).await.unwrap();
    assert!(matches_rule(&token, "bb") && !matches_rule(&token, "aa"));
}

#[tokio::test]
async fn a_rule_admits_by_everything_that_it_sets() {
    let records = Records::new(Arc::new(Memory::default()));
    let cache = TokenCache::default();
    let rules = [
        format!("{{ek_public_hash: {}}}", hash("aa")),
        format!("{{ek_public_hash: {}, ek_certificate_serial: '01'}}", hash("bb")),
        format!("{{ek_public_hash: {}, ek_certificate_serial: '02'}}", hash("bb")),
    ];
    put(&records, &yaml(&rules.join(", "))).await;
    let token = look(&cache, &records).await.unwrap();
    let allows = |seed: &str, serial: Option<&str>| {
        let certificate = serial.map(|serial| (serial, "CN=issuer"));
        token.check_rules(&ek(seed, certificate)).is_ok()
    };
    assert!(allows("aa", None) && allows("aa", Some("07")));
    assert!(allows("bb", Some("01")) && allows("bb", Some("02")));
    assert!(!allows("bb", None) && !allows("bb", Some("03")) && !allows("cc", Some("01")));
}

#[test]
fn a_rule_without_a_hash_admits_by_the_serial() {
    let by_serial = Rule { ek_certificate_serial: "01".parse().ok(), ..Rule::default() };
    let rules = Rules::new(vec![by_serial, Rule::default()]);
    assert!(rules.matches(&ek("aa", Some(("01", "CN=issuer")))));
    assert!(!rules.matches(&ek("aa", Some(("02", "CN=issuer")))));
    assert!(!rules.matches(&ek("aa", None)), "a rule without fields matches no TPM");
}

#[test]
fn rule_that_sets_nothing_matches_no_tpm() {
    let description = Some("all of them".into());
    for rule in [Rule::default(), Rule { description, ..Rule::default() }] {
        assert!(!rule.matches(&ek("aa", Some(("01", "CN=issuer")))));
        assert!(!rule.matches(&ek("aa", None)));
    }
}

#[test]
fn rule_with_an_issuer_does_not_admit_the_same_serial_of_another_issuer() {
    let rule = |hash, serial: &str, issuer: &str| Rule {
        ek_public_hash: hash,
        ek_certificate_serial: serial.parse().ok(),
        ek_certificate_issuer: issuer.parse().ok(),
        description: None,
    };
    let rules = Rules::new(vec![
        rule(None, "01", "CN=one"),
        rule(None, "01", "CN=two"),
        rule(Some(hash("bb")), "02", "CN=one"),
    ]);
    for issuer in ["CN=one", "CN=two"] {
        assert!(rules.matches(&ek("aa", Some(("01", issuer)))));
    }
    assert!(rules.matches(&ek("bb", Some(("02", "CN=one")))));
    for (seed, serial, issuer) in
        [("aa", "01", "CN=three"), ("bb", "02", "CN=two"), ("aa", "02", "CN=one")]
    {
        assert!(!rules.matches(&ek(seed, Some((serial, issuer)))), "{seed} {serial} {issuer}");
    }
    // One who joined before issuers were recorded.
    let before = ProvenEk { certificate_issuer: None, ..ek("aa", Some(("01", "CN=one"))) };
    assert!(!rules.matches(&before));
}

#[test]
fn token_of_an_unknown_join_method_refuses_joins_by_tpm() {
    let hash = "ab".repeat(32);
    let token = |method: &str| {
        let record = format!(
            r#"{{"v":1,"kind":"token","version":"v2","metadata":{{"name":"t"}},"spec":{{"roles":
            ["Bot"],"join_method":"{method}","bot_name":"b","tpm":{{"allow":[{{"ek_public_hash":
            "{hash}"}}]}}}}}}"#
        );
        let token = store::decode(Table::Tokens, "t", record.as_bytes()).unwrap();
        Parsed::new(token, String::new()).unwrap()
    };
    assert!(token("tpm").open.is_ok());
    assert_eq!(token("tpm_and_more").open.as_ref().err(), Some(&Code::TokenMethod));
}

impl Rules {
    fn matches(&self, ek: &ProvenEk) -> bool {
        self.find(ek).is_some()
    }
}
