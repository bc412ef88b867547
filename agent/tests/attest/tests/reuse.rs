//! Process IDs that are used again, on purpose: in a PID namespace of our own, where nobody else takes them.

use std::process::Command;
use std::sync::{Arc, Mutex};

use agent::attest::{Attestor, Refused};
use tokio::net::UnixStream;

use super::actor::Actor;
use super::faulty::{Faults, Faulty};
use super::{ALICE, BOB, Socket, User, attested, is_root, without};

const INSIDE: &str = "ATTEST_INSIDE";

/// Whether this process is in a namespace of its own. Outside, it runs the test once more there.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !is_root() {
        return false;
    }
    let mut inside = Command::new("unshare");
    inside.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    inside.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    // One thread for tests: threads take IDs too.
    let status = inside.arg("--test-threads=1").env(INSIDE, "1").status();
    assert!(status.expect("unshare is installed").success());
    false
}

/// A process of this user with this ID, which must be free.
fn with_id(pid: i32, user: User, socket: &Socket) -> Actor {
    for _ in 0..100 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut actor = Actor::start(&socket.path);
        if actor.pid() == pid {
            actor.tell(&user.to_string());
            return actor;
        }
    }
    panic!("the ID {pid} is not free");
}

/// A process of Alice that has connected, and left the socket to its child. Its ID is free.
async fn left(socket: &Socket) -> (i32, UnixStream) {
    let (mut actor, stream) = socket.connected(ALICE).await;
    let pid = actor.pid();
    actor.tell("hand");
    actor.reap();
    (pid, stream)
}

/// Another process of Alice, which can be told apart.
const OTHER: User = User { mark: 6003, ..ALICE };

#[tokio::test]
async fn process_with_the_id_of_the_caller_is_not_the_caller() {
    if !is_inside("tests::reuse::process_with_the_id_of_the_caller_is_not_the_caller") {
        return;
    }
    let socket = Socket::new();
    for other in [BOB, OTHER] {
        let (pid, stream) = left(&socket).await;
        let _other = with_id(pid, other, &socket);
        let attestor = Attestor::by(Faulty::new(Faults::default()));
        let result = attestor.attest(&stream).await;
        assert!(matches!(result, Err(Refused::Ended)), "{result:?}");
        // Without a look at the end of the process, the other one's identity would be given away.
        let never_ended = true;
        let credentials_of_now = other.uid != ALICE.uid;
        let faults = Faults { never_ended, credentials_of_now, ..Faults::default() };
        let caller = without(faults, &stream).await.unwrap();
        assert_eq!(caller.unix.supplementary_gids, [other.mark]);
    }
}

#[tokio::test]
async fn older_kernel_tells_processes_of_other_users_apart() {
    if !is_inside("tests::reuse::older_kernel_tells_processes_of_other_users_apart") {
        return;
    }
    let socket = Socket::new();
    let (pid, stream) = left(&socket).await;
    let bob = with_id(pid, BOB, &socket);
    let older = Faults { no_peer_pidfd: true, ..Faults::default() };
    let result = without(older, &stream).await;
    assert!(matches!(result, Err(Refused::Changed)), "{result:?}");
    let faults = Faults { credentials_of_now: true, ..older };
    assert_eq!(without(faults, &stream).await.unwrap().unix.uid, BOB.uid);
    drop(bob);
    // The limit that the documentation of the module states: the same user, and the ID used again before accept(2).
    let _other = with_id(pid, OTHER, &socket);
    assert_eq!(without(older, &stream).await.unwrap().unix.supplementary_gids, [OTHER.mark]);
}

/// The peer is held from accept(2) on, by every kernel.
#[tokio::test]
async fn id_that_is_used_again_after_accept_belongs_to_nobody() {
    if !is_inside("tests::reuse::id_that_is_used_again_after_accept_belongs_to_nobody") {
        return;
    }
    let socket = Socket::new();
    for no_peer_pidfd in [false, true] {
        for never_ended in [false, true] {
            let (mut actor, stream) = socket.connected(ALICE).await;
            let faults = Faults { no_peer_pidfd, never_ended, ..Faults::default() };
            let attestor = Attestor::by(Faulty::new(faults));
            let peer = attestor.peer(&stream).unwrap();
            actor.tell("hand");
            actor.reap();
            let _other = with_id(actor.pid(), OTHER, &socket);
            match attestor.attest_peer(&peer).await {
                Ok(caller) => {
                    assert!(never_ended, "another's identity");
                    assert_eq!(caller.unix.supplementary_gids, [OTHER.mark]);
                }
                Err(refused) => assert!(!never_ended && matches!(refused, Refused::Ended)),
            }
        }
    }
}

/// Between the two readings, too.
#[tokio::test]
async fn id_that_is_used_again_while_it_is_read_belongs_to_nobody() {
    if !is_inside("tests::reuse::id_that_is_used_again_while_it_is_read_belongs_to_nobody") {
        return;
    }
    let socket = Arc::new(Socket::new());
    let twin = User { ..ALICE };
    for no_peer_pidfd in [false, true] {
        for (never_ended, by_number) in [(false, false), (true, false), (true, true)] {
            let (mut actor, stream) = socket.connected(ALICE).await;
            let pid = actor.pid();
            let other = Arc::new(Mutex::new(None));
            let (made, place) = (Arc::clone(&other), Arc::clone(&socket));
            let faults = Faults { no_peer_pidfd, never_ended, by_number, ..Faults::default() };
            let kernel = Faulty::new(faults).between(move || {
                actor.tell("hand");
                actor.reap();
                *made.lock().unwrap() = Some(with_id(pid, twin, &place));
            });
            let result = Attestor::by(kernel).attest(&stream).await;
            // The directory of the process stays its own: reading by number and no look at the end are needed to go wrong.
            assert_eq!(result.is_ok(), never_ended && by_number, "{result:?}");
            if let Err(refused) = result {
                assert!(matches!(refused, Refused::Ended), "{refused}");
            }
            drop(other.lock().unwrap().take());
        }
    }
}

/// The attestation of everyone that is there, in the namespace as outside.
#[tokio::test]
async fn callers_in_the_namespace_are_attested() {
    if !is_inside("tests::reuse::callers_in_the_namespace_are_attested") {
        return;
    }
    let socket = Socket::new();
    let (_actor, stream) = socket.connected(ALICE).await;
    for result in attested(&stream).await {
        assert_eq!(result.unwrap().unix.supplementary_gids, [ALICE.mark]);
    }
}
