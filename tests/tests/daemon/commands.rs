//! The commands that the daemon sends to its TPM, counted.

use anyhow::{Result, ensure};
use testkit::bus::command_code;
use testkit::tap::Tap;
use tests::host::{Host, until};
use tests::programs;
use tests::world::World;
use tpm2::types::CommandCode;

use super::{host, stop, tpm};

/// Counted on the wire. Includes flushing what was loaded, as there is no resource manager.
#[test]
fn renewal_takes_two_tpm_commands_and_a_restart_takes_zero() -> Result<()> {
    let swtpm = tpm()?;
    let tap = Tap::new(&swtpm)?;
    let mut host = Host::new(World::new(programs!())?, &tap.tcti())?;
    let commands = || -> Vec<CommandCode> {
        tap.recording().exchanges().iter().map(|exchange| command_code(&exchange.command)).collect()
    };
    let before = commands().len();
    host.start()?;
    host.wait_healthy()?;
    let joined = commands().len();
    ensure!(joined > before, "the tap hears nothing");
    for renewal in 1..=3 {
        let before = commands().len();
        host.signal("USR1")?;
        host.until_logged("renewed name=identity", renewal)?;
        // The service's certificates come over the same connection.
        host.until_logged("issued name=web", renewal + 1)?;
        let expected = [CommandCode::CREATE_PRIMARY, CommandCode::SIGN, CommandCode::FLUSH_CONTEXT];
        until(|| {
            ensure!(commands()[before..] == expected, "{:x?}", &commands()[before..]);
            Ok(())
        })?;
    }
    for end in [Host::kill, stop] {
        end(&mut host)?;
        let before = commands().len();
        let starts = host.count("all credentials are valid");
        host.start()?;
        host.until_logged("all credentials are valid", starts + 1)?;
        host.wait_healthy()?;
        ensure!(commands().len() == before, "{:x?}", &commands()[before..]);
    }
    Ok(())
}

/// Counted by the agent itself. Includes flushing what was loaded, as there is no resource manager.
#[test]
fn renewal_with_three_services_takes_two_commands_of_the_tpm() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    let more = ["b", "c"].map(|name| {
        let place = host.path(name).display().to_string();
        format!("  - type: x509\n    name: {name}\n    destination: {place}\n")
    });
    host.configure(&more.concat())?;
    host.start()?;
    host.wait_healthy()?;
    for renewal in 1..=3 {
        let before = host.metric("agent_tpm_commands_total")?;
        host.signal("USR1")?;
        host.until_logged("renewed name=identity", renewal)?;
        for service in ["web", "b", "c"] {
            host.until_logged(&format!("issued name={service}"), renewal + 1)?;
        }
        let commands = host.metric("agent_tpm_commands_total")? - before;
        ensure!(commands == 3.0, "{commands} commands");
    }
    Ok(())
}
