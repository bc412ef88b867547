//! A process that does as it is told, a line at a time. It is this test's own program, started again.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

const SOCKET: &str = "ATTEST_SOCKET";

/// What an answer begins with, among what the test harness says.
const DONE: &str = "actor: ";

/// The process, killed at the end.
pub(crate) struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn start(socket: &Path) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), socket)
    }

    /// The same by way of another program, whose last arguments are a command line.
    pub(crate) fn start_by(mut command: Command, socket: &Path) -> Self {
        command
            .args(["tests::actor::acts", "--exact", "--ignored", "--nocapture"])
            .env(SOCKET, socket);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut actor = Self { child, input, output: BufReader::new(output) };
        actor.answer();
        actor
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Returns when it has done so.
    pub(crate) fn tell(&mut self, what: &str) {
        writeln!(self.input.as_ref().unwrap(), "{what}").unwrap();
        self.answer();
    }

    /// Returns when it executes the program: the pipe of its answers is closed then.
    pub(crate) fn execute(&mut self, program: &Path) {
        writeln!(self.input.as_ref().unwrap(), "execute {}", program.display()).unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).unwrap();
    }

    fn answer(&mut self) {
        let mut line = String::new();
        while !line.starts_with(DONE) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the process has ended");
        }
    }

    /// Ends it, and leaves its ID occupied.
    pub(crate) fn end(&mut self) {
        self.input = None;
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).unwrap();
        let id = rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&self.child));
        let options =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(id, options).unwrap();
    }

    /// Frees its ID.
    pub(crate) fn reap(&mut self) {
        self.input = None;
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "a process that other tests start"]
#[expect(clippy::zombie_processes, reason = "it ends before its child does")]
fn acts() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let mut socket = None;
    let done = || println!("{DONE}done");
    done();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["connect"] => socket = Some(UnixStream::connect(&path).unwrap()),
            ["user", uid, gid, mark] => {
                let [gid, mark] = [gid, mark].map(|id| Gid::from_raw(id.parse().unwrap()));
                let uid = Uid::from_raw(uid.parse().unwrap());
                setgroups(&[mark]).unwrap();
                setresgid(gid, gid, gid).unwrap();
                setresuid(uid, uid, uid).unwrap();
            }
            // The child ends with the socket.
            ["hand"] => {
                let socket = OwnedFd::from(socket.take().unwrap());
                Command::new("/bin/cat").stdin(socket).stdout(Stdio::null()).spawn().unwrap();
            }
            ["execute", program] => {
                let socket = OwnedFd::from(socket.take().unwrap());
                // It is closed when the program is the other one, and not a moment before.
                let _answers = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
                let error = Command::new(program).stdin(socket).stdout(Stdio::null()).exec();
                panic!("{program}: {error}");
            }
            other => panic!("{other:?}"),
        }
        done();
    }
}
