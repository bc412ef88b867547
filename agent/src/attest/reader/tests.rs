use std::os::fd::AsFd;
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::*;

/// The process as a thread, for which only this process is readable for sure.
fn started() -> (Reader, thread::JoinHandle<io::Result<()>>) {
    let (reader, socket) = Reader::pair().unwrap();
    (reader, thread::spawn(move || serve(socket)))
}

fn directory(path: &str) -> OwnedFd {
    openat(CWD, path, OFlags::PATH, Mode::empty()).unwrap()
}

#[tokio::test]
async fn own_executable_is_read_and_the_end_of_the_agent_ends_the_process() {
    let (reader, process) = started();
    let own = directory("/proc/self");
    let found = reader.read(own.as_fd(), Content::Hash).await.unwrap();
    assert_eq!(found.executable.host_path(), std::env::current_exe().unwrap().to_str());
    assert!(found.executable.sha256.is_some());
    let again = reader.read(own.as_fd(), Content::Ignore).await.unwrap();
    assert!(found.is_same_file(&again) && again.executable.sha256.is_none());
    drop(reader);
    process.join().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_no_process_is_refused() {
    let (reader, _process) = started();
    for path in ["/proc", "/proc/sys", "/"] {
        let wrong = directory(path);
        assert!(reader.read(wrong.as_fd(), Content::Hash).await.is_err(), "{path}");
    }
    let forged = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", forged.path().join("exe")).unwrap();
    let forged = directory(forged.path().to_str().unwrap());
    let refused = reader.read(forged.as_fd(), Content::Hash).await.unwrap_err();
    assert!(matches!(refused, Refused::ReaderUnavailable), "{refused}");
}

#[tokio::test]
async fn malformed_request_gets_no_answer_and_others_are_served() {
    let (reader, _process) = started();
    let own = directory("/proc/self");
    let ask = |bytes: &[u8], count: usize| {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let descriptors = vec![theirs.as_fd(); count];
        let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(count == 0 || control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&reader.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
        drop(theirs);
        ours
    };
    for (bytes, count) in [
        (&[1][..], 0),
        (&[1], 1),
        (&[1], 3),
        (&[1], 8),
        (&[2], 2),
        (&[1, 1], 2),
        (&[1; 99], 2),
        (&[], 2),
    ] {
        let ours = ask(bytes, count);
        let said = answer(ours).await.unwrap();
        assert!(said.is_empty(), "{bytes:?} with {count} descriptors: {said:?}");
    }
    assert!(reader.read(own.as_fd(), Content::Ignore).await.is_ok());
}

#[tokio::test]
async fn end_of_the_process_is_an_error_at_once() {
    let (reader, socket) = Reader::pair().unwrap();
    let own = directory("/proc/self");
    drop(socket);
    let refused = reader.read(own.as_fd(), Content::Ignore).await.unwrap_err();
    assert!(matches!(refused, Refused::ReaderUnavailable), "{refused}");

    // It ends while it has the request.
    let (reader, socket) = Reader::pair().unwrap();
    let process = thread::spawn(move || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 8];
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&socket, &mut parts, &mut control, rustix::net::RecvFlags::empty())
            .unwrap();
    });
    let refused = reader.read(own.as_fd(), Content::Ignore).await.unwrap_err();
    assert!(matches!(refused, Refused::ReaderUnavailable), "{refused}");
    process.join().unwrap();
}
