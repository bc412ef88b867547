//! Several addresses, and others than the authority behind some of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Result, ensure};
use testkit::tap::Tap;
use tests::host::Host;
use tests::programs;
use tests::world::{TIMEOUT, World};

use super::{holds, switched_on};

/// Has the host try this address before the authority's.
fn put_first(host: &Host, address: &str) -> Result<()> {
    let config = host.world.path("tbot.yaml");
    let text = fs::read_to_string(&config)?;
    let real = host.world.address();
    let both = format!("proxy_server: [\"{address}\", \"{real}\"]");
    Ok(fs::write(config, text.replace(&format!("proxy_server: {real}"), &both))?)
}

#[test]
fn impostor_at_the_first_address_does_not_keep_the_agent_from_the_authority() -> Result<()> {
    let swtpm = switched_on()?;
    let before = swtpm.handles()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let impostor = World::new(programs!())?;
    put_first(&host, impostor.address())?;
    host.start()?;
    host.wait_healthy()?;
    ensure!(host.count("not joined") == 0, "{}", host.log());
    host.signal("USR1")?;
    host.until_logged("renewed name=identity", 1)?;
    ensure!(host.count("not renewed") == 0, "{}", host.log());
    holds(&swtpm, &before)
}

#[test]
fn relay_that_closes_after_the_handshake_does_not_keep_the_agent_from_the_authority() -> Result<()>
{
    let swtpm = switched_on()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    put_first(&host, &listener.local_addr()?.to_string())?;
    let authority = host.world.address().to_owned();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            if let Ok(authority) = relay_until_the_call(&mut client, &authority) {
                let _ = authority.shutdown(Shutdown::Both);
            }
            let _ = client.shutdown(Shutdown::Both);
        }
    });
    host.start()?;
    host.wait_healthy()?;
    ensure!(host.count("not joined") == 0, "{}", host.log());
    Ok(())
}

/// Carries what both say until the client makes its call, which is longer than all that it says before and is not passed on.
fn relay_until_the_call(client: &mut TcpStream, authority: &str) -> Result<TcpStream> {
    const BEFORE_THE_CALL: usize = 600;
    let mut authority = TcpStream::connect(authority)?;
    let mut answers = (authority.try_clone()?, client.try_clone()?);
    let mut bytes = [0; 16 * 1024];
    let len = client.read(&mut bytes)?;
    authority.write_all(&bytes[..len])?;
    thread::spawn(move || std::io::copy(&mut answers.0, &mut answers.1));
    let mut said = 0;
    loop {
        let len = client.read(&mut bytes)?;
        ensure!(len > 0, "the client hung up first");
        said += len;
        if said > BEFORE_THE_CALL {
            return Ok(authority);
        }
        authority.write_all(&bytes[..len])?;
    }
}

#[test]
fn stop_does_not_wait_for_an_authority_that_does_not_answer() -> Result<()> {
    let swtpm = switched_on()?;
    let before = swtpm.handles()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    put_first(&host, &listener.local_addr()?.to_string())?;
    let authority = host.world.address().to_owned();
    let (calling, called) = sync_channel(1);
    thread::spawn(move || {
        let (mut client, _) = listener.accept()?;
        let _authority = relay_until_the_call(&mut client, &authority)?;
        calling.send(())?;
        // Until the client has gone.
        std::io::copy(&mut client, &mut std::io::sink())?;
        anyhow::Ok(())
    });
    host.start()?;
    called.recv_timeout(TIMEOUT)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.success(), "{ended}: {}", host.log());
    holds(&swtpm, &before)
}

/// Servers that are not the authority, or do not answer, cost no TPM command.
#[test]
fn tpm_is_not_asked_for_anything_before_the_authority_is_there() -> Result<()> {
    let swtpm = switched_on()?;
    let tap = Tap::new(&swtpm)?;
    let mut host = Host::new(World::new(programs!())?, &tap.tcti())?;
    let commands = || tap.recording().exchanges().len();
    let config = host.world.path("tbot.yaml");
    let works = fs::read_to_string(&config)?;
    let impostor = World::new(programs!())?;
    let before = commands();
    let lies = works.replace(host.world.address(), impostor.address());
    fs::write(&config, &lies)?;
    host.start()?;
    host.until_logged("not joined", 2)?;
    ensure!(host.log().contains("is not the authority"), "{}", host.log());
    ensure!(commands() == before, "{} commands for an impostor", commands() - before);
    host.kill()?;

    // It renews: the key is made before the first try, and not again.
    fs::write(&config, &works)?;
    host.start()?;
    host.wait_healthy()?;
    host.kill()?;
    fs::write(&config, &lies)?;
    host.start()?;
    host.wait_healthy()?;
    host.signal("USR1")?;
    host.until_logged("not renewed", 1)?;
    let before = commands();
    host.until_logged("not renewed", 3)?;
    ensure!(commands() == before, "{} commands for an impostor", commands() - before);
    Ok(())
}
