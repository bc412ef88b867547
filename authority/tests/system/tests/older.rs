//! The data directory of version 0.1.0, and records of versions that do not exist yet.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use authority::cluster::{Cluster, Origin};
use authority::data_directory::DataDirectory;
use authority::issue::JwtSettings;
use authority::resource::{JoinMethod, Kind, Target};
use authority::store::{Change, MemoryStore, Pages, Records, Store, Table};
use host::clock::Clock;

use super::harness::author;

/// Copies the directory of `fixtures/0.1.0`, as private as a data directory must be.
fn data_of_0_1_0(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0");
    for directory in ["", "cluster"] {
        fs::create_dir(to.join(directory)).unwrap();
        fs::set_permissions(to.join(directory), Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(from.join(directory)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let copy = to.join(directory).join(entry.file_name());
                fs::copy(entry.path(), &copy).unwrap();
                fs::set_permissions(copy, Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn data_directory_of_0_1_0_is_read_and_given_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let directory = DataDirectory::new(dir.path().join("data"));
    data_of_0_1_0(directory.path());
    let lock = directory.lock().unwrap();
    let now = Clock::system().now();
    let cluster = Cluster::open(&directory, &lock, None, None, JwtSettings::default(), now);
    let cluster = cluster.await.unwrap();
    assert_eq!(cluster.origin, Origin::Found);
    assert_eq!(cluster.issuer.cluster().as_str(), "fixture.example");
    // By this number alone version 0.1.0 refuses the directory: "has layout 3, not 1".
    let record = fs::read_to_string(directory.cluster().join("cluster.json")).unwrap();
    assert_eq!(record, r#"{"layout":3,"name":"fixture.example"}"#);

    let keys = cluster.issuer.keyring().keys();
    assert!(keys.jwt.active().can_sign() && keys.sequence == 1, "it has a key for JWTs now");
    let files = fs::read_dir(directory.cluster()).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let private: Vec<_> = files.filter(|name| name.ends_with(".key")).collect();
    assert_eq!(private, [] as [&str; 0], "the private keys are in the store");

    let store = cluster.store;
    let records = Records::new(Arc::clone(&store));
    records.migrate(author()).await.unwrap();
    let entries = records.log_entries(records.log_id(), 0, 100).await.unwrap();
    assert!(!entries.is_empty(), "the records of the older version are in the log");
    let bot = records.bot(&"web".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(bot.spec.logins(), ["root"]);
    let token = records.resource(Kind::Token, "t").await.unwrap();
    assert!(token.is_some());
    let target = [Target::Bot("other".parse().unwrap())];
    assert!(records.lock_on(&target, Clock::system().now()).await.unwrap().is_some());
    let id = "18db896c-4ce3-49e1-871c-e9c70ef50a5a".parse().unwrap();
    let instance = records.instance_by_id(&id).await.unwrap().unwrap();
    assert_eq!(instance.status.join_method, JoinMethod::Tpm);
    assert!(records.has_instance_of_ek(&instance.status.ek.public_hash).await.unwrap());
    let ending = Pages::new(&*store, Table::Expiry, "").all().await.unwrap();
    assert_eq!(ending.len(), 2, "the instance, and the lock that had ended");
}

#[tokio::test]
async fn record_with_fields_of_a_newer_version_is_read() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let bot = r#"{"v":1,"kind":"bot","version":"v1","metadata":{"name":"b","region":"eu"},
        "spec":{"roles":["dev"],"quota":{"hosts":3}},"approved_by":["x"]}"#;
    let newer = r#"{"v":2,"kind":"bot","version":"v1","metadata":{"name":"c"},"spec":{}}"#;
    let put = |name: &str, record: &str| Change::Put(Table::Bots, name.into(), record.into());
    store.write(vec![put("b", bot), put("c", newer)]).await.unwrap();
    let records = Records::new(store);
    let bot = records.bot(&"b".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(bot.spec.roles.len(), 1);
    let refused = records.bot(&"c".parse().unwrap()).await.unwrap_err();
    let text = "bot \"c\" was written by a newer authority: upgrade this one";
    assert_eq!(refused.to_string(), text);
}
