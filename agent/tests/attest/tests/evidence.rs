//! What is attested besides the user: the executable, by a process that may read it, and the control groups.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::attest::cgroup::Runtime;
use agent::attest::rule::{Rule, UnixRule};
use agent::attest::{Attestor, Caller, Path as ExecutablePath, Reader, privilege, reader};
use sha2::{Digest, Sha256};
use tokio::net::UnixListener;

use super::actor::Actor;
use super::{ALICE, Socket, is_root, skip};

const AGENT: &str = env!("CARGO_BIN_EXE_agent");

/// Where the unprivileged agent listens, and the program that it starts.
const DIRECTORY: &str = "ATTEST_DIRECTORY";

fn sha256(path: &Path) -> [u8; 32] {
    Sha256::digest(fs::read(path).unwrap()).into()
}

async fn caller(socket: &Socket, attestor: &Attestor, actor: Actor) -> (Caller, Actor) {
    let stream = socket.accept().await;
    (attestor.attest(&stream).await.unwrap().0, actor)
}

#[tokio::test]
async fn removed_executable_keeps_its_path_and_hash() {
    let socket = Socket::new();
    let program = socket.program();
    let hash = sha256(&program);
    let attestor = Attestor::new(Some(Reader::start(AGENT.as_ref()).unwrap()));
    let mut actor = Actor::start(&socket.path);
    actor.tell("connect");
    actor.execute(&program);
    fs::remove_file(&program).unwrap();
    // What is there now is not what runs.
    fs::write(&program, "other").unwrap();
    let (caller, _actor) = caller(&socket, &attestor, actor).await;
    let executable = caller.unix.executable.unwrap();
    assert_eq!(executable.host_path(), program.to_str());
    assert_eq!(executable.sha256, Some(hash));
}

#[tokio::test]
async fn path_in_another_mount_namespace_says_nothing_alone() {
    if !is_root() {
        return;
    }
    let socket = Socket::new();
    let attestor = Attestor::new(Some(Reader::start(AGENT.as_ref()).unwrap()));
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(&own);
    let mut actor = Actor::start_by(command, &socket.path);
    actor.tell("connect");
    let (caller, _actor) = caller(&socket, &attestor, actor).await;
    let executable = caller.unix.executable.as_ref().unwrap();
    let path = own.to_str().unwrap().to_owned();
    assert_eq!(executable.path, Some(ExecutablePath::OfNamespace(path.clone())));
    let rule = |sha256| Rule {
        unix: UnixRule { path: Some(path.clone()), sha256, ..UnixRule::default() },
        ..Rule::default()
    };
    assert!(!rule(None).matches(&caller));
    assert!(rule(Some(sha256(&own))).matches(&caller));
}

#[test]
fn process_that_reads_executables_is_not_started_by_hand() {
    let output = Command::new(AGENT).arg(reader::COMMAND).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("the agent itself runs this command"), "{said}");
}

/// The agent as its systemd unit starts it: a user's process with one capability, which only the process that reads executables
/// keeps.
#[tokio::test]
async fn unprivileged_agent_attests_executables_of_others() {
    if !is_root() {
        return;
    }
    let socket = Socket::new();
    let program = socket.program();
    let directory = socket.directory.path().join("agent");
    fs::create_dir(&directory).unwrap();
    // Where the user of the agent can execute them, wherever they were built.
    for (from, to) in [(AGENT.into(), "agent"), (std::env::current_exe().unwrap(), "test")] {
        let from: PathBuf = from;
        fs::copy(from, directory.join(to)).unwrap();
    }
    std::os::unix::fs::chown(&directory, Some(5003), Some(5003)).unwrap();
    let mut agent = Command::new("setpriv")
        .args(["--reuid=5003", "--regid=5003", "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps=-all,+sys_ptrace", "--ambient-caps=+sys_ptrace"])
        .args(["--bounding-set=-all,+sys_ptrace"])
        .arg(directory.join("test"))
        .args(["tests::evidence::agent_without_privileges", "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, &directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("setpriv is installed");
    let mut said = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line == "listening"));
    let mut actor = Actor::start(&directory.join("socket"));
    actor.tell(&ALICE.to_string());
    actor.tell("connect");
    actor.execute(&program);
    fs::write(directory.join("executed"), "").unwrap();
    let said: Vec<String> = said.collect();
    let found = |line: &str| assert!(said.iter().any(|other| other == line), "{line}: {said:#?}");
    found(&format!("uid {} of {:?}", ALICE.uid, Some(program.to_str().unwrap())));
    found(&format!("hash {:?}", Some(sha256(&program))));
    // Only the right to read what other users' processes execute, and only in the process that does so.
    found("agent CapEff:\t0000000000000000 CapPrm:\t0000000000000000 CapAmb:\t0000000000000000");
    found("reader CapEff:\t0000000000080000 CapPrm:\t0000000000080000 CapAmb:\t0000000000000000");
    found("the agent itself: permission denied");
    assert!(agent.wait().unwrap().success());
}

/// The process of the test above.
#[test]
#[ignore = "a process that another test starts"]
fn agent_without_privileges() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    assert!(privilege::is_held().unwrap());
    let reader = Reader::start(&directory.join("agent")).unwrap();
    privilege::give_up().unwrap();
    assert!(!privilege::is_held().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = directory.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        println!("\nlistening");
        let (stream, _) = listener.accept().await.unwrap();
        while !directory.join("executed").exists() {
            tokio::task::yield_now().await;
        }
        let (caller, _) = Attestor::new(Some(reader)).attest(&stream).await.unwrap();
        let executable = caller.unix.executable.unwrap();
        println!("uid {} of {:?}", caller.unix.uid, executable.host_path());
        println!("hash {:?}", executable.sha256);
        let own = fs::read_link(format!("/proc/{}/exe", caller.unix.pid));
        println!("the agent itself: {}", own.unwrap_err().kind());
    });
    println!("agent {}", capabilities(Path::new("/proc/thread-self/status")));
    println!("reader {}", capabilities(&child().join("status")));
}

/// The directory of the process that this one has started.
fn child() -> PathBuf {
    let parent = format!("PPid:\t{}", std::process::id());
    let is_child = |path: &PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        status.lines().any(|line| line == parent)
    };
    fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).find(is_child).unwrap()
}

fn capabilities(status: &Path) -> String {
    let status = fs::read_to_string(status).unwrap();
    let line = |name| status.lines().find(|line| line.starts_with(name)).unwrap();
    [line("CapEff:"), line("CapPrm:"), line("CapAmb:")].join(" ")
}

/// A control group that is removed at the end.
pub(crate) struct Group(pub(crate) PathBuf);

impl Group {
    /// In the hierarchy of systemd. None, with a reason, where this is not possible.
    pub(crate) fn new(path: &str) -> Option<Self> {
        if !Attestor::new(None).reads_cgroups() {
            skip("this is a control group namespace of its own");
            return None;
        }
        let mut roots = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].into_iter().map(Path::new);
        let Some(root) = roots.find(|root| root.join("cgroup.procs").exists()) else {
            skip("there are no control groups");
            return None;
        };
        let path = root.join(path);
        if let Err(error) = fs::create_dir_all(&path) {
            skip(&format!("{} cannot be created: {error}", path.display()));
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // As far up as nobody else is.
        for path in self.0.ancestors() {
            if fs::remove_dir(path).is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn control_groups_of_the_process_are_what_is_attested() {
    if !is_root() {
        return;
    }
    let attestor = Attestor::new(None);
    let socket = Socket::new();
    let id = "b2a102854b4969b2ce98dc329c86b4fb2b06e4ad2cc8da9d8a7578c9cd2004a2";
    let pod = "72f7f152-440c-66ac-9084-e0fc1d8a910c";
    let below_user = format!("user.slice/user-5001.slice/user@5001.service/docker-{id}.scope");
    for (path, unit, container, pod_uid) in [
        ("system.slice/attest-test.service".to_owned(), Some("attest-test.service"), None, None),
        (format!("kubepods/burstable/pod{pod}/{id}"), None, Some(None), Some(pod)),
        (format!("docker/{id}"), None, Some(Some(Runtime::Docker)), None),
        (below_user, Some("user@5001.service"), None, None),
    ] {
        let Some(group) = Group::new(&path) else { return };
        let mut actor = Actor::start(&socket.path);
        fs::write(group.0.join("cgroup.procs"), actor.pid().to_string()).unwrap();
        actor.tell("connect");
        let (caller, mut actor) = caller(&socket, &attestor, actor).await;
        actor.reap();
        assert_eq!(caller.systemd.unit.as_deref(), unit, "{path}");
        assert_eq!(caller.container.map(|container| container.runtime), container, "{path}");
        assert_eq!(caller.pod_uid.as_deref(), pod_uid, "{path}");
    }
}
