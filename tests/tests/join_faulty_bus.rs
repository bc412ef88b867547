//! Joins of hosts whose TPM, or the bus to it, is at fault: the operator reads so, and the authority sees nothing of it.

use anyhow::{Result, ensure};
use testkit::bus::{command_code, forward};
use testkit::swtpm::Kind;
use testkit::tap::Tap;
use tests::programs;
use tests::tpm::{define, start_tcp, undefine};
use tests::world::{Said, World};
use tpm2::types::{CommandCode, Handle};

const START_AUTH_SESSION: CommandCode = CommandCode(0x176);
const SIGN: CommandCode = CommandCode(0x15d);

/// A join over a bus that changes a bit of the answers to these commands, so many bytes before their end.
fn join_over_a_faulty_bus(code: CommandCode, before_end: usize) -> Result<(World, Said)> {
    let swtpm = start_tcp(Kind::RsaAndP384)?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    let tap = Tap::with(&swtpm, move |command, tpm| {
        let mut answer = forward(tpm, command)?;
        if command_code(command) == code {
            let at = answer.len() - before_end;
            answer[at] ^= 1;
        }
        Ok(answer)
    })?;
    let said = world.join(&tap.tcti(), "t", "storage")?;
    Ok((world, said))
}

#[test]
fn wrong_nonce_is_no_password() -> Result<()> {
    let (_, said) = join_over_a_faulty_bus(START_AUTH_SESSION, 1)?;
    let [what, advice] = said.failure(65)?;
    ensure!(what.contains("the TPM refuses the HMAC of the session"), "{said:?}");
    ensure!(advice.contains("bus"), "{said:?}");
    Ok(())
}

#[test]
fn signature_that_does_not_verify_is_not_sent() -> Result<()> {
    // Behind the signature is an empty authorization: the size of a nonce, attributes, the size of an HMAC.
    let (world, said) = join_over_a_faulty_bus(SIGN, 6)?;
    let [what, advice] = said.failure(65)?;
    ensure!(what.contains("the TPM's signature does not verify with the join key"), "{said:?}");
    ensure!(advice.contains("bus"), "{said:?}");
    ensure!(world.instances()? == 0);
    Ok(())
}

#[test]
fn index_that_was_never_written_is_passed_over_unless_it_is_asked_for() -> Result<()> {
    const RSA: Handle = Handle(0x01c0_0002);
    let swtpm = start_tcp(Kind::RsaAndP384)?;
    let world = World::new(programs!())?;
    undefine(&swtpm, RSA)?;
    define(&swtpm, RSA, 1000, Some(&[0xff; 1000]))?;
    let shown = world.agent(&["identify", "--tpm", &swtpm.tcti()])?.success()?;
    ensure!(shown.contains("EKCert Detected: true"), "{shown}");
    let said = world.agent(&["identify", "--tpm", &swtpm.tcti(), "--ek", "rsa2048"])?;
    let [what, _] = said.failure(65)?;
    ensure!(what.ends_with("NV index 0x01c00002 is provisioned but was never written"), "{what}");
    Ok(())
}
