//! A TPM that does not answer: workloads are served what they have.

use anyhow::Result;
use testkit::swtpm::Kind;
use tests::host::Host;
use tests::programs;
use tests::tpm::{Busy, start};
use tests::world::World;
use xtask::figures::streams::Streams;

const STREAMS: usize = 200;

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
