mod actor;
mod evidence;
mod faulty;
mod namespaces;
mod races;
mod reuse;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent::attest::{Attestor, Caller, Refused};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

use self::actor::Actor;
use self::faulty::{Faults, Faulty};

/// A listener that any user can connect to.
struct Socket {
    directory: TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        open(directory.path(), 0o755);
        open(&path, 0o666);
        Self { directory, path, listener }
    }

    /// A program that is nowhere else, which ends with its input.
    fn program(&self) -> PathBuf {
        let path = self.directory.path().join("program");
        std::fs::copy("/bin/cat", &path).unwrap();
        path
    }

    /// A process of this user that has connected, and the accepted socket.
    async fn connected(&self, user: User) -> (Actor, UnixStream) {
        let mut actor = Actor::start(&self.path);
        actor.tell(&user.to_string());
        actor.tell("connect");
        (actor, self.accept().await)
    }

    async fn accept(&self) -> UnixStream {
        self.listener.accept().await.unwrap().0
    }
}

/// A user of a process, with a supplementary group that tells processes apart.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
    mark: u32,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user {} {} {}", self.uid, self.gid, self.mark)
    }
}

const ALICE: User = User { uid: 5001, gid: 5001, mark: 6001 };
const BOB: User = User { uid: 5002, gid: 5002, mark: 6002 };

/// Whether this process may change users; says so if it may not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("only root can start processes of other users");
    }
    is_root
}

/// Says why a test shows nothing here.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// What is said of a socket by kernels with and without SO_PEERPIDFD, and no other fault.
async fn attested(stream: &UnixStream) -> Vec<Result<Caller, Refused>> {
    let mut all = Vec::new();
    for faults in [Faults::default(), Faults { no_peer_pidfd: true, ..Faults::default() }] {
        let attestor = Attestor::by(Faulty::new(faults));
        all.push(attestor.attest(stream).await.map(|(caller, _)| caller));
    }
    all
}

/// What is said of it without these checks.
async fn without(faults: Faults, stream: &UnixStream) -> Result<Caller, Refused> {
    Attestor::by(Faulty::new(faults)).attest(stream).await.map(|(caller, _)| caller)
}
