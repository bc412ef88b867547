use std::io::{self, ErrorKind, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Transport;
use super::answer::read_answer;
use super::clock::Deadline;

/// A command that takes TPM commands on its standard input and gives the answers on its standard output, such as
/// `ssh HOST tpm2_send`. `cmd` in the notation of the TSS.
///
/// Nothing limits the time that a command may take.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// `None` once it was closed.
    pipes: Option<(ChildStdin, ChildStdout)>,
}

impl Process {
    /// How long a command may take to end after its input has ended.
    const END_TIMEOUT: Duration = Duration::from_secs(1);

    /// Starts the command with `/bin/sh -c`, with the environment and the rights of this process: never take it from a user
    /// who has fewer.
    ///
    /// # Errors
    /// As the operating system says. What the shell cannot run is noticed by the first exchange.
    pub fn start(command: &str) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        Ok(Self { child, pipes })
    }

    /// The end of the pipe, explained.
    fn ended(&mut self, error: io::Error) -> io::Error {
        if !matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe) {
            return error;
        }
        // One that has closed its output ends soon.
        self.end();
        let status = self.child.try_wait().ok().flatten();
        let status =
            status.map_or_else(std::string::String::new, |status| std::format!(": {status}"));
        io::Error::new(error.kind(), std::format!("the command ended without an answer{status}"))
    }

    /// Ends the command: its input first, and the command itself if that does not suffice.
    fn end(&mut self) {
        self.pipes = None;
        let deadline = Deadline::after(Self::END_TIMEOUT);
        while matches!(self.child.try_wait(), Ok(None)) {
            if deadline.left().is_err() {
                let _ = self.child.kill().and_then(|()| self.child.wait());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Transport for Process {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let closed = || io::Error::new(ErrorKind::BrokenPipe, "the command has ended");
        let (input, output) = self.pipes.as_mut().ok_or_else(closed)?;
        let sent = input.write_all(command).and_then(|()| input.flush());
        sent.and_then(|()| read_answer(output, response)).map_err(|error| self.ended(error))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
