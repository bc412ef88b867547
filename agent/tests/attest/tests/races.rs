//! Processes that end, hand their socket on, change their user or execute another program.

use std::sync::{Arc, Mutex};

use agent::attest::{Attestor, Reader, Refused};

use super::actor::Actor;
use super::faulty::{Faults, Faulty};
use super::{ALICE, BOB, Socket, attested, is_root, without};

#[tokio::test]
async fn caller_that_has_ended_is_refused() {
    let socket = Socket::new();
    let mut actor = Actor::start(&socket.path);
    actor.tell("connect");
    let stream = socket.accept().await;
    actor.end();
    for result in attested(&stream).await {
        assert!(matches!(result, Err(Refused::Ended)), "{result:?}");
    }
    // The kernel still shows its user: without the check it would be attested.
    for no_peer_pidfd in [false, true] {
        let faults = Faults { never_ended: true, no_peer_pidfd, ..Faults::default() };
        assert_eq!(without(faults, &stream).await.unwrap().unix.pid, actor.pid());
    }
    actor.reap();
    for result in attested(&stream).await {
        assert!(matches!(result, Err(Refused::Ended)), "{result:?}");
    }
}

/// The peer is who connected, and not who writes.
#[tokio::test]
async fn socket_that_was_handed_to_a_child_attests_nobody() {
    let socket = Socket::new();
    let mut actor = Actor::start(&socket.path);
    actor.tell("connect");
    let stream = socket.accept().await;
    actor.tell("hand");
    actor.end();
    for result in attested(&stream).await {
        assert!(matches!(result, Err(Refused::Ended)), "{result:?}");
    }
    let faults = Faults { never_ended: true, ..Faults::default() };
    assert!(without(faults, &stream).await.is_ok(), "the check is what refuses it");
    actor.reap();
    for result in attested(&stream).await {
        assert!(matches!(result, Err(Refused::Ended)), "{result:?}");
    }
}

#[tokio::test]
async fn caller_that_ends_meanwhile_is_refused() {
    let socket = Socket::new();
    for (faults, is_refused) in [
        (Faults::default(), true),
        (Faults { no_peer_pidfd: true, ..Faults::default() }, true),
        (Faults { repeats: true, ..Faults::default() }, true),
        (Faults { repeats: true, never_ended: true, ..Faults::default() }, false),
    ] {
        let mut actor = Actor::start(&socket.path);
        actor.tell("connect");
        let stream = socket.accept().await;
        let kernel = Faulty::new(faults).between(move || actor.reap());
        let result = Attestor::by(kernel).attest(&stream).await;
        assert_eq!(matches!(result, Err(Refused::Ended)), is_refused, "{result:?}");
    }
}

#[tokio::test]
async fn caller_that_has_changed_its_user_is_refused() {
    if !is_root() {
        return;
    }
    let socket = Socket::new();
    let mut actor = Actor::start(&socket.path);
    actor.tell("connect");
    let stream = socket.accept().await;
    actor.tell(&ALICE.to_string());
    for result in attested(&stream).await {
        assert!(matches!(result, Err(Refused::Changed)), "{result:?}");
    }
    let faults = Faults { credentials_of_now: true, ..Faults::default() };
    assert_eq!(without(faults, &stream).await.unwrap().unix.uid, ALICE.uid);
}

#[tokio::test]
async fn caller_that_changes_its_groups_meanwhile_is_refused() {
    if !is_root() {
        return;
    }
    let socket = Socket::new();
    for (repeats, is_refused) in [(false, true), (true, false)] {
        let mut actor = Actor::start(&socket.path);
        actor.tell("user 0 0 6001");
        actor.tell("connect");
        let stream = socket.accept().await;
        let actor = Arc::new(Mutex::new(actor));
        let told = Arc::clone(&actor);
        let kernel = Faulty::new(Faults { repeats, ..Faults::default() });
        let kernel = kernel.between(move || told.lock().unwrap().tell("user 0 0 6002"));
        let result = Attestor::by(kernel).attest(&stream).await;
        assert_eq!(matches!(result, Err(Refused::Changed)), is_refused, "{result:?}");
    }
}

/// A caller is the program that it executes now, and never partly one and partly another.
#[tokio::test]
async fn program_is_the_one_that_runs_at_the_attestation() {
    let socket = Socket::new();
    let program = socket.program();
    let reader = || Reader::start(env!("CARGO_BIN_EXE_agent").as_ref()).unwrap();

    let mut actor = Actor::start(&socket.path);
    actor.tell("connect");
    let stream = socket.accept().await;
    let attestor = Attestor::new(Some(reader()));
    let path = |caller: agent::attest::Caller| {
        caller.unix.executable.unwrap().host_path().unwrap().to_owned()
    };
    let (caller, peer) = attestor.attest(&stream).await.unwrap();
    assert_eq!(path(caller), std::env::current_exe().unwrap().to_str().unwrap());
    actor.execute(&program);
    let caller = attestor.attest_peer(&peer).await.unwrap();
    assert_eq!(path(caller), program.to_str().unwrap());
    let (caller, _) = attestor.attest(&stream).await.unwrap();
    assert_eq!(path(caller), program.to_str().unwrap());

    for (repeats, is_refused) in [(false, true), (true, false)] {
        let mut actor = Actor::start(&socket.path);
        actor.tell("connect");
        let stream = socket.accept().await;
        let kernel = Faulty::new(Faults { repeats, ..Faults::default() });
        let (actor, program) = (Arc::new(Mutex::new(actor)), program.clone());
        let told = Arc::clone(&actor);
        let kernel = kernel.reading_executables(reader());
        let kernel = kernel.between(move || told.lock().unwrap().execute(&program));
        let result = Attestor::by(kernel).attest(&stream).await;
        assert_eq!(matches!(result, Err(Refused::Changed)), is_refused, "{result:?}");
    }
}

#[tokio::test]
async fn end_of_the_caller_is_seen_by_whoever_serves_it() {
    let socket = Socket::new();
    for no_peer_pidfd in [false, true] {
        let mut actor = Actor::start(&socket.path);
        actor.tell("connect");
        let stream = socket.accept().await;
        let kernel = Faulty::new(Faults { no_peer_pidfd, ..Faults::default() });
        let (_, peer) = Attestor::by(kernel).attest(&stream).await.unwrap();
        let ended = peer.ended();
        tokio::pin!(ended);
        let at_once = std::future::poll_fn(|context| {
            std::task::Poll::Ready(ended.as_mut().poll(context).is_ready())
        });
        assert!(!at_once.await, "it has not ended yet");
        actor.end();
        ended.await.unwrap();
        peer.clone().ended().await.unwrap();
    }
}

#[tokio::test]
async fn users_are_told_apart() {
    if !is_root() {
        return;
    }
    let socket = Socket::new();
    for user in [ALICE, BOB] {
        let (actor, stream) = socket.connected(user).await;
        for result in attested(&stream).await {
            let unix = result.unwrap().unix;
            assert_eq!((unix.pid, unix.uid, unix.gid), (actor.pid(), user.uid, user.gid));
            assert_eq!(unix.supplementary_gids, [user.mark]);
            assert_eq!(unix.executable, None, "nothing reads executables");
        }
    }
}
