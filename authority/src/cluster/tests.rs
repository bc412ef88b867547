use std::fs;

use host::clock::Clock;

use super::keyring_files::tests::write as write_key_files;
use super::*;
use crate::audit::Author;
use crate::issue::CaType;
use crate::keyring::{Caution, Step};
use crate::store::{Change, MemoryStore, Table};

/// A data directory whose records are in memory, so that it can be opened again at once.
struct Place {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), store: Arc::new(MemoryStore::default()) }
    }

    fn directory(&self) -> DataDirectory {
        DataDirectory::new(self.dir.path().join("data"))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory().cluster().join(file)
    }

    async fn open(&self) -> Result<Cluster, Failure> {
        let directory = self.directory();
        let lock = directory.lock().unwrap();
        let (store, name) = (Some(Arc::clone(&self.store)), Some("a".parse().unwrap()));
        let jwt = JwtSettings::default();
        Cluster::open(&directory, &lock, store, name, jwt, Clock::system().now()).await
    }

    async fn refused(&self) -> Failure {
        match self.open().await {
            Ok(_) => panic!("it is opened"),
            Err(failure) => failure,
        }
    }

    /// Makes it a directory of layout 2 with these CAs.
    fn with_key_files(&self, keys: &Keys) {
        drop(self.directory().lock().unwrap());
        let path = self.directory().cluster();
        if !path.exists() {
            fs::create_dir(&path).unwrap();
        }
        write_key_files(&path, keys);
        replace_private(&path.join(RECORD), br#"{"layout":2,"name":"a"}"#).unwrap();
    }

    fn private_keys(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory().cluster()).unwrap();
        let names = names.map(|one| one.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".key") || name == "keyring.json").collect()
    }
}

fn keys() -> Keys {
    let now = Clock::system().now();
    new_keys(&"a".parse().unwrap(), JwtAlgorithm::Es256, now).unwrap()
}

#[tokio::test]
async fn public_key_for_ssh_servers_is_written_again_if_missing_and_refused_if_it_is_another() {
    let place = Place::new();
    drop(place.open().await.unwrap());
    let path = place.path("ssh-ca.pub");
    let written = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    place.open().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
    let commented = format!("{} for servers\n", written.trim_end());
    fs::write(&path, &commented).unwrap();
    place.open().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), commented);
    let other = format!("{}\n", keys().ssh.active().public_key());
    for junk in ["", "junk", &other, &format!("{written}{other}"), &format!("\n{other}{written}")] {
        fs::write(&path, junk).unwrap();
        let refused = place.refused().await;
        assert_eq!(refused.exit, Exit::Data);
        assert!(
            refused.message.ends_with("ssh-ca.pub holds a key that is not a CA of this cluster")
        );
    }
}

#[tokio::test]
async fn public_keys_of_an_earlier_rotation_are_brought_up_to_date() {
    let place = Place::new();
    let cluster = place.open().await.unwrap();
    let files = ["x509-ca.pem", "ssh-ca.pub", "ssh-host-ca.pub"].map(|name| place.path(name));
    let read = || files.each_ref().map(|file| fs::read_to_string(file).unwrap());
    let before = read();
    for ca_type in [CaType::X509, CaType::Ssh, CaType::SshHost] {
        let author = Author::system(Clock::system().now());
        let step = cluster.keyring.step(ca_type, Step::Prepare, Caution::Wait, false, author);
        step.await.unwrap();
    }
    let after = read();
    for (before, after) in before.iter().zip(&after) {
        assert!(after.starts_with(before) && after.len() > before.len(), "{after}");
    }
    // As on an authority that was not running.
    files.iter().zip(&before).for_each(|(file, text)| fs::write(file, text).unwrap());
    place.open().await.unwrap();
    assert_eq!(read(), after);
}

#[tokio::test]
async fn older_layout_is_raised_by_its_number_alone_and_a_newer_one_is_refused() {
    let place = Place::new();
    let keys = keys();
    place.with_key_files(&keys);
    assert!(Cluster::has_key_files(&place.directory()).unwrap());
    let cluster = place.open().await.unwrap();
    assert_eq!(cluster.origin, Origin::Found);
    let path = place.path(RECORD);
    let written = fs::read_to_string(&path).unwrap();
    // What older versions read: with another field they would say that, not that they are too old.
    assert_eq!(written, r#"{"layout":3,"name":"a"}"#);
    assert!(!Cluster::has_key_files(&place.directory()).unwrap());
    fs::write(&path, written.replace('3', "4")).unwrap();
    let refused = place.refused().await;
    assert!(refused.message.ends_with("has layout 4, but this version needs 3"), "{refused:?}");
    assert_eq!(
        (refused.exit, refused.advice),
        (Exit::Config, "use the version of authority that created it".into())
    );
}

#[tokio::test]
async fn private_keys_in_files_are_moved_into_the_store_and_a_killed_start_is_completed() {
    let place = Place::new();
    let keys = keys();
    place.with_key_files(&keys);
    let same = |cluster: &Cluster| {
        let found = cluster.issuer.keyring().keys();
        assert_eq!(found.fingerprint().unwrap(), keys.fingerprint().unwrap());
        assert_eq!(found.sequence, keys.sequence);
        assert!(found.jwt.active().can_sign());
    };
    same(&place.open().await.unwrap());
    assert_eq!(place.private_keys(), [] as [&str; 0]);
    same(&place.open().await.unwrap());
    // Killed after the write to the store.
    place.with_key_files(&keys);
    same(&place.open().await.unwrap());
    assert_eq!(place.private_keys(), [] as [&str; 0]);
    // Killed after the new layout was written.
    write_key_files(&place.directory().cluster(), &keys);
    same(&place.open().await.unwrap());
    assert_eq!(place.private_keys(), [] as [&str; 0]);
}

#[tokio::test]
async fn private_keys_of_another_cluster_are_neither_used_nor_removed() {
    let place = Place::new();
    drop(place.open().await.unwrap());
    place.with_key_files(&keys());
    let before = place.private_keys();
    let refused = place.refused().await;
    assert_eq!(refused.exit, Exit::Config, "{refused:?}");
    assert!(refused.message.ends_with("x509-ca.key is not of the cluster in the store"));
    assert_eq!(place.private_keys(), before);
}

#[tokio::test]
async fn store_without_the_keys_of_the_cluster_is_refused() {
    let mut place = Place::new();
    drop(place.open().await.unwrap());
    place.store = Arc::new(MemoryStore::default());
    let refused = place.refused().await;
    assert_eq!(refused.exit, Exit::Data);
    assert!(refused.message.contains("the store has no CA keys"), "{refused:?}");
    assert_eq!(place.store.read(Table::Keyring, "").await.unwrap(), None);
}

#[tokio::test]
async fn authority_that_is_not_admitted_is_told_how_to_be() {
    let one = Place::new();
    let cluster = one.open().await.unwrap();
    let two = Place { store: Arc::clone(&one.store), ..Place::new() };
    let refused = two.refused().await;
    assert_eq!(refused.exit, Exit::Config);
    assert!(refused.message.contains("not admitted"), "{refused:?}");
    assert!(refused.advice.contains("authority authorities request"), "{refused:?}");
    assert!(!two.directory().cluster().exists());

    let own = Own::of(&two.directory(), &two.directory().lock().unwrap()).unwrap();
    let request = own.request(Some("two".parse().unwrap()));
    let author = Author::system(Clock::system().now());
    cluster.keyring.admit(&request, author).await.unwrap();
    let second = two.open().await.unwrap();
    assert_eq!(second.origin, Origin::Found);
    let keys = |cluster: &Cluster| cluster.issuer.keyring().keys().fingerprint().unwrap();
    assert_eq!(keys(&second), keys(&cluster));

    // With another wrapping key it is another authority.
    let row = one.store.read(Table::Authorities, own.id()).await.unwrap().unwrap();
    fs::remove_file(two.directory().path().join("wrapping.key")).unwrap();
    assert!(two.refused().await.message.contains("not admitted"));
    assert_eq!(one.store.read(Table::Authorities, own.id()).await.unwrap().unwrap(), row);
    let removed = vec![Change::Remove(Table::Authorities, own.id().to_owned())];
    one.store.write(removed).await.unwrap();
    assert!(two.refused().await.message.contains("not admitted"));
}
