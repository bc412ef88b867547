//! An agent in namespaces of its own: what it cannot see it must not guess.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agent::attest::Attestor;
use tokio::net::UnixListener;

use super::actor::Actor;
use super::evidence::Group;
use super::{ALICE, is_root};

/// Where the agent listens.
const DIRECTORY: &str = "ATTEST_DIRECTORY";

/// Whether the process that connects is in the namespaces too.
const WITHIN: &str = "ATTEST_WITHIN";

/// An agent that `unshare` starts with these options, and what it says line by line.
fn agent(
    options: &[&str],
    directory: &Path,
    within: &str,
) -> (Child, impl Iterator<Item = String>) {
    let mut agent = Command::new("unshare")
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .args(["tests::namespaces::agent_elsewhere", "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(WITHIN, within)
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare is installed");
    let mut said = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line == "listening"));
    (agent, said)
}

/// What such an agent says of a process of Alice outside that has this control group.
fn of_outside(options: &[&str], group: Option<&Group>) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (mut agent, said) = agent(options, directory.path(), "");
    let mut actor = Actor::start(&directory.path().join("socket"));
    if let Some(Group(path)) = group {
        fs::write(path.join("cgroup.procs"), actor.pid().to_string()).unwrap();
    }
    actor.tell(&ALICE.to_string());
    actor.tell("connect");
    let said = result(said);
    agent.wait().unwrap();
    actor.reap();
    said
}

/// The line with the result; the others are read too, so that the agent can write them.
fn result(said: impl Iterator<Item = String>) -> String {
    let results: Vec<_> = said.filter(|line| line.starts_with("result")).collect();
    results.concat()
}

const INVISIBLE: &str =
    "result: the process is not visible from the agent's namespaces, or /proc hides it";

#[test]
fn user_that_the_agents_namespace_lacks_is_refused() {
    if !is_root() {
        return;
    }
    assert_eq!(of_outside(&["--user", "--map-root-user"], None), INVISIBLE);
    assert!(of_outside(&["--mount"], None).starts_with("result: uid 5001"));
}

#[test]
fn process_outside_of_the_agents_pid_namespace_is_refused() {
    if !is_root() {
        return;
    }
    assert_eq!(of_outside(&["--pid", "--fork", "--mount-proc"], None), INVISIBLE);
}

/// Numbers of one namespace would be looked up in the list of another.
#[test]
fn proc_of_another_pid_namespace_is_refused() {
    if !is_root() {
        return;
    }
    for (options, result) in [
        (&["--pid", "--fork", "--mount-proc"][..], "result: uid 0"),
        (&["--pid", "--fork"], INVISIBLE),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (mut agent, said) = agent(options, directory.path(), "within");
        let said = self::result(said);
        assert!(said.starts_with(result), "{options:?}: {said}");
        agent.wait().unwrap();
    }
}

/// The path looks like one from the root, and begins at the agent's own group.
#[test]
fn control_groups_are_no_evidence_in_a_namespace_of_their_own() {
    if !is_root() {
        return;
    }
    let Some(group) = Group::new("system.slice/attest-namespace.service") else { return };
    let unit = "unit Some(\"attest-namespace.service\")";
    let outside = of_outside(&["--mount"], Some(&group));
    assert!(outside.ends_with(unit), "{outside}");
    let inside = of_outside(&["--cgroup"], Some(&group));
    assert!(inside.ends_with("unit None"), "{inside}");
}

/// The process of the tests above.
#[test]
#[ignore = "a process that other tests start"]
fn agent_elsewhere() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let path = Path::new(&directory).join("socket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        println!("\nlistening");
        let within = std::env::var(WITHIN).is_ok_and(|within| !within.is_empty());
        let actor = within.then(|| {
            let mut actor = Actor::start(&path);
            actor.tell("connect");
            actor
        });
        let (stream, _) = listener.accept().await.unwrap();
        match Attestor::new(None).attest(&stream).await {
            Ok((caller, _)) => {
                println!("result: uid {} unit {:?}", caller.unix.uid, caller.systemd.unit);
            }
            Err(refused) => println!("result: {refused}"),
        }
        drop(actor);
    });
}
