//! What was acknowledged is there, whatever happened since.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use authority::store::{Change, Pages, RedbStore, Store, StoreError, Table};

const STORE: &str = "TEST_STORE";

/// Not a test of its own: the process that is killed. It says what was acknowledged, a line for
/// each.
#[test]
#[ignore = "run by other tests"]
fn writer() {
    let path = PathBuf::from(std::env::var_os(STORE).expect("a store"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(RedbStore::open(&path).unwrap());
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for number in 0.. {
                        let key = format!("{writer}-{number}");
                        match store.write(insert(&key)).await {
                            Ok(()) => println!("acknowledged {key}"),
                            Err(failure) => {
                                println!("failed {failure}");
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        println!("done");
    });
}

fn insert(key: &str) -> Vec<Change> {
    // Large enough to fill a small disk soon.
    vec![Change::Insert(Table::Instances, key.to_owned(), vec![0x5a; 2000])]
}

fn spawn(path: &Path, shell: &str) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(format!("{shell} exec \"$@\""))
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tests::store::writer", "--ignored", "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn acknowledged(output: &str) -> BTreeSet<String> {
    // The last line may be cut off by the kill.
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    whole.lines().filter_map(|line| line.strip_prefix("acknowledged ")).map(String::from).collect()
}

async fn keys(store: &RedbStore) -> BTreeSet<String> {
    let all = Pages::new(store, Table::Instances, "").all().await.unwrap();
    all.into_iter().map(|(key, _)| key).collect()
}

async fn stored(path: &Path) -> BTreeSet<String> {
    let store = RedbStore::open(path).unwrap();
    keys(&store).await
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let path = dir.path().join(format!("{round}.redb"));
        RedbStore::create(&path).unwrap();
        let mut child = spawn(&path, "");
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut output = String::new();
        while output.matches("acknowledged").count() < 200 + 100 * round {
            assert_ne!(reader.read_line(&mut output).unwrap(), 0, "{output}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reader.read_to_string(&mut output).unwrap();
        let (said, found) = (acknowledged(&output), stored(&path).await);
        assert!(said.is_subset(&found), "{:?} are lost", said.difference(&found));
        assert!(found.len() - said.len() <= 256, "{} unasked", found.len() - said.len());
    }
}

#[tokio::test]
async fn a_file_that_cannot_grow_is_an_error_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    RedbStore::create(&path).unwrap();
    let mut child = spawn(&path, "ulimit -f 8192; trap '' XFSZ;");
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    assert!(output.contains("failed the store failed: ") && output.contains("done"), "{output}");
    let said = acknowledged(&output);
    assert!(said.len() > 100, "{}", said.len());
    let found = stored(&path).await;
    assert!(said.is_subset(&found), "{:?} are lost", said.difference(&found));
}

/// A file system of 4 MiB, if this user may mount one.
pub(crate) struct SmallDisk(pub(crate) tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(dir.path());
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()).then(|| Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_loses_nothing_and_is_got_over() {
    let Some(disk) = SmallDisk::new() else {
        println!("may not mount; a file that cannot grow stands in for it, in a test of its own");
        return;
    };
    let (path, ballast) = (disk.0.path().join("store.redb"), disk.0.path().join("ballast"));
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    RedbStore::create(&path).unwrap();
    let store = RedbStore::open(&path).unwrap();
    let mut said = BTreeSet::new();
    let failure = loop {
        let key = format!("{:05}", said.len());
        match store.write(insert(&key)).await {
            Ok(()) => said.insert(key),
            Err(failure) => break failure,
        };
        assert!(said.len() < 10_000, "4 MiB hold no 20 MB");
    };
    assert!(matches!(failure, StoreError::Failed(_)), "{failure}");
    std::fs::remove_file(&ballast).unwrap();
    store.write(insert("afterwards")).await.unwrap();
    said.insert("afterwards".into());
    let found = keys(&store).await;
    assert!(said.is_subset(&found), "{:?} are lost", said.difference(&found));
    drop(store);
}

#[test]
fn a_file_that_is_no_database_or_empty_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    assert!(RedbStore::open(&path).is_err());
    std::fs::write(&path, "").unwrap();
    assert!(RedbStore::open(&path).is_err());
    std::fs::write(&path, vec![0x5a; 100_000]).unwrap();
    assert!(RedbStore::open(&path).is_err());
    assert!(RedbStore::create(&path).is_err());
}
