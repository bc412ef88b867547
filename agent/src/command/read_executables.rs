//! `agent read-executables`: the process that reads executables, which the daemon starts.

use std::io::stdin;
use std::os::fd::AsFd;

use host::exit::{Exit, Failure};
use nix::sys::signal::SigSet;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

use crate::attest::{privilege, reader};
use crate::parts;

pub(crate) fn run() -> Result<(), Failure> {
    if !parts::WORKLOAD_API.is_built {
        return Err(parts::WORKLOAD_API.refusal());
    }
    let socket = stdin();
    if socket_type(socket.as_fd()) != Ok(SocketType::SEQPACKET) {
        let message = "the agent itself runs this command, with a socket as its input";
        return Err(Failure::new(Exit::Usage, message, "run `agent start`"));
    }
    let failed = |cause: std::io::Error| Failure::io(&cause, "reading executables");
    // Signals are for the agent, with which this process ends.
    SigSet::all().thread_block().map_err(|error| failed(error.into()))?;
    privilege::keep_nothing_else().map_err(|error| failed(error.into()))?;
    reader::serve(socket).map_err(failed)
}
