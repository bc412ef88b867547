//! A TPM that does not answer: workloads are served what they have.

use std::process::Command;

use anyhow::{Result, ensure};
use testkit::swtpm::{Kind, Swtpm};
use tests::host::Host;
use tests::programs;
use tests::tpm::start;
use tests::world::World;
use xtask::figures::streams::Streams;

const STREAMS: usize = 200;

/// A TPM in the middle of a command, until this is dropped.
struct Busy(u32);

impl Busy {
    fn new(swtpm: &Swtpm) -> Result<Self> {
        signal(swtpm.id(), "STOP")?;
        Ok(Self(swtpm.id()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = signal(self.0, "CONT");
    }
}

fn signal(process: u32, name: &str) -> Result<()> {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -\"$1\" \"$2\"", "kill", name, &process.to_string()]);
    ensure!(kill.status()?.success(), "no signal {name}");
    Ok(())
}

#[test]
fn tpm_that_does_not_answer_delays_neither_streams_nor_health() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let socket = host.path("run/workload.sock");
    let service = "  - type: workload-identity-api\n    name: api\n    listen: unix://";
    host.configure(&format!("{service}{}\n", socket.display()))?;
    host.start()?;
    host.wait_healthy()?;
    host.until_logged("serving workloads name=api", 1)?;
    // Its identities are what others receive too.
    let first = Streams::open(&socket, 1)?;
    let busy = Busy::new(&swtpm)?;
    host.signal("USR1")?;
    host.until_logged("asked to renew", 1)?;
    let others = Streams::open(&socket, STREAMS)?;
    assert_eq!(host.readyz()?.0, 200);
    assert_eq!(host.metric("agent_workload_streams{name=\"api\"}")?, STREAMS as f64 + 1.0);
    assert_eq!(host.count("renewed name=identity"), 0, "the TPM has answered: {}", host.log());
    drop(busy);
    host.until_logged("renewed name=identity", 1)?;
    drop((first, others));
    Ok(())
}
