//! Writers that are killed at any point, under readers that look all the time.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use p256::SecretKey;
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};
use rustix::fs::Mode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use testkit::forge::Ca;
use webpki::EndEntityCert;

use super::super::FileSet;
use super::fixture::{directory, fast_directory, is_root, names};

const PAIRS: usize = 6;
const DIRECTORY: &str = "AGENT_TEST_DIRECTORY";
const KEYS: &str = "AGENT_TEST_KEYS";
const UMASK: &str = "AGENT_TEST_UMASK";

/// Large enough for more than one write, were it written so.
const REPEATED: usize = 9000;

/// Certificates with their keys.
fn make_pairs(dir: &Path) {
    for n in 0..PAIRS {
        let ca = Ca::new(&n.to_string());
        fs::write(dir.join(format!("{n}.key")), ca.key_pem()).unwrap();
        fs::write(dir.join(format!("{n}.pem")), ca.root().pem()).unwrap();
    }
}

/// Writes sets until it is killed: the tests below run it, as a process of its own.
#[test]
#[ignore = "a part of other tests"]
fn writer() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let keys = PathBuf::from(std::env::var_os(KEYS).unwrap());
    let umask = u32::from_str_radix(&std::env::var(UMASK).unwrap(), 8).unwrap();
    rustix::process::umask(Mode::from_raw_mode(umask));
    let read = |n: usize, kind| fs::read(keys.join(format!("{n}.{kind}"))).unwrap();
    let pairs: Vec<_> = (0..PAIRS).map(|n| (read(n, "pem"), read(n, "key"))).collect();
    println!("begun");
    let directory = directory(&dir);
    for n in (0..PAIRS).cycle() {
        let (certificate, key) = &pairs[n];
        let set = FileSet::new()
            .with("svid.pem", certificate.clone())
            .with("svid.key", key.clone())
            .with("padding", format!("{n:07}\n").repeat(REPEATED));
        directory.lock().unwrap().write(&set).unwrap();
    }
}

fn start(dir: &Path, keys: &Path, umask: &str, user: Option<u32>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").unwrap();
    command
        .args(["--exact", &format!("{module}::writer"), "--ignored", "--nocapture"])
        .env(DIRECTORY, dir)
        .env(KEYS, keys)
        .env(UMASK, umask)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let mut child = command.spawn().unwrap();
    let mut said = Vec::new();
    let output = child.stdout.as_mut().unwrap();
    while !said.ends_with(b"begun\n") {
        let mut byte = [0];
        if output.read(&mut byte).unwrap() == 0 {
            let output = child.wait_with_output().unwrap();
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        said.push(byte[0]);
    }
    child
}

/// All of one set, each file whole, the certificate of the key.
fn check(set: &FileSet) {
    let content = |name| std::str::from_utf8(set.content(name).unwrap()).unwrap();
    let key = SecretKey::from_pkcs8_pem(content("svid.key")).unwrap();
    let certificate = CertificateDer::from_pem_slice(content("svid.pem").as_bytes()).unwrap();
    let certificate = EndEntityCert::try_from(&certificate).unwrap();
    let public = key.public_key().to_public_key_der().unwrap();
    assert_eq!(certificate.subject_public_key_info().as_ref(), public.as_bytes());
    check_padding(content("padding"));
}

fn check_padding(padding: &str) {
    let first = padding.lines().next().unwrap();
    assert_eq!(padding, format!("{first}\n").repeat(REPEATED), "torn");
}

/// Whatever is in the directory and below at any instant, finished or not, is its owner's alone.
fn check_modes(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        if metadata.is_symlink() {
            continue;
        }
        let others = if metadata.is_dir() { 0o7077 } else { 0o7177 };
        assert_eq!(metadata.mode() & others, 0, "{}", entry.path().display());
        let Ok(files) = fs::read_dir(entry.path()) else { continue };
        for file in files.filter_map(Result::ok) {
            let Ok(metadata) = fs::symlink_metadata(file.path()) else { continue };
            assert_eq!(metadata.mode() & 0o7177, 0, "{}", file.path().display());
        }
    }
}

/// Reads by the path that programs are given. Here two sets can be written while a path is being followed.
fn read_plainly(path: &Path) -> String {
    let read = (0..5).find_map(|_| fs::read_to_string(path).ok());
    read.unwrap_or_else(|| fs::read_to_string(path).unwrap())
}

fn version(dir: &Path) -> u64 {
    let link = fs::read_link(dir.join("..data")).unwrap();
    link.to_str().unwrap().strip_prefix("..v").unwrap().parse().unwrap()
}

/// Only the owner can read finished files.
fn check_own_modes(dir: &Path) {
    let data = dir.join(fs::read_link(dir.join("..data")).unwrap());
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
    for name in ["svid.pem", "svid.key", "padding"] {
        assert_eq!(fs::metadata(data.join(name)).unwrap().mode() & 0o7777, 0o600, "{name}");
    }
}

/// Ends the readers, however the test ends.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills writers until there were so many of them and of sets, and returns how often readers looked.
fn torment(renewals: u64, kills: u32, umask: &str) -> u64 {
    let outer = fast_directory();
    let keys = outer.path().join("keys");
    fs::create_dir(&keys).unwrap();
    make_pairs(&keys);
    let path = outer.path().join("x");
    let mut child = start(&path, &keys, umask, None);
    while directory(&path).read().unwrap().is_none() {
        thread::yield_now();
    }
    let (done, looked) = (AtomicBool::new(false), AtomicU64::new(0));
    let until_done = |look: &dyn Fn()| {
        while !done.load(Ordering::Relaxed) {
            look();
            looked.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let readers = [
            scope.spawn(|| until_done(&|| check(&directory(&path).read().unwrap().unwrap()))),
            scope.spawn(|| {
                until_done(&|| check_padding(&read_plainly(&path.join("padding"))));
            }),
            scope.spawn(|| until_done(&|| check_modes(&path))),
        ];
        let _end = End(&done);
        let mut killed = 0;
        while (version(&path) < renewals || killed < kills)
            && readers.iter().all(|reader| !reader.is_finished())
        {
            let mut random = [0; 2];
            getrandom::fill(&mut random).unwrap();
            thread::sleep(Duration::from_micros(u64::from(u16::from_le_bytes(random)) / 4));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
            killed += 1;
            check(&directory(&path).read().unwrap().unwrap());
            child = start(&path, &keys, umask, None);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    });
    check_own_modes(&path);
    let writer = directory(&path).lock().unwrap();
    let last = directory(&path).read().unwrap().unwrap();
    writer.write(&last).unwrap();
    let version = version(&path);
    let [older, newer] = [version - 1, version].map(|version| format!("..v{version}"));
    let mut expected = ["..data", &older, &newer, "lock", "padding", "svid.key", "svid.pem"];
    expected.sort_unstable();
    assert_eq!(names(&path), expected);
    println!("{version} sets, {kills} kills, looked {} times", looked.load(Ordering::Relaxed));
    looked.into_inner()
}

#[test]
fn killed_at_any_point_nothing_is_torn_mixed_or_open_to_others() {
    assert!(torment(200, 40, "000") > 100);
    assert!(torment(200, 20, "777") > 100);
}

#[test]
#[ignore = "takes a minute"]
fn ten_thousand_renewals_and_a_thousand_kills() {
    assert!(torment(10_000, 1000, "000") > 10_000);
}

#[test]
fn a_user_whose_umask_takes_everything_away_writes_all_the_same() {
    if !is_root("running as another user") {
        return;
    }
    const NOBODY: u32 = 65534;
    let outer = fast_directory();
    let keys = outer.path().join("keys");
    fs::create_dir(&keys).unwrap();
    make_pairs(&keys);
    for path in [outer.path(), &keys] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for key in fs::read_dir(&keys).unwrap() {
        std::os::unix::fs::chown(key.unwrap().path(), Some(NOBODY), None).unwrap();
    }
    let path = outer.path().join("made/x");
    for _ in 0..5 {
        let mut child = start(&path, &keys, "777", Some(NOBODY));
        while fs::read_link(path.join("..data")).is_err() || version(&path) < 3 {
            assert!(child.try_wait().unwrap().is_none(), "it failed");
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(3));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
        check_modes(&path);
        check_own_modes(&path);
    }
    assert_eq!(fs::metadata(&path).unwrap().uid(), NOBODY);
}
