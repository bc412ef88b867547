//! Ways to a TPM other than a device and swtpm's own: the simulator's protocol and a command, with tpm2-tools as second opinion.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::start_tcp;
use tpm2::commands::GetRandom;
use tpm2::template::SRK_P256;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Hierarchy, SensitiveCreate, SessionType};
use tpm2::{Fault, Tpm, object, session};

/// Speaks the simulator's protocol, with swtpm behind it. It works until the process ends.
struct Double {
    port: u16,
    /// What was asked at the platform's port.
    signals: Arc<Mutex<Vec<u32>>>,
}

impl Double {
    fn new(swtpm: &Swtpm) -> Result<Self> {
        let (commands, platform) = neighbours()?;
        let (port, tcti) = (commands.local_addr()?.port(), swtpm.tcti().parse::<Tcti>()?);
        let signals = Arc::new(Mutex::new(Vec::new()));
        thread::spawn(move || {
            for client in commands.incoming().map_while(Result::ok) {
                let Ok(mut tpm) = tcti.open() else { continue };
                let _ = serve_commands(client, &mut tpm);
            }
        });
        let seen = Arc::clone(&signals);
        thread::spawn(move || {
            for client in platform.incoming().map_while(Result::ok) {
                let _ = serve_platform(client, &seen);
            }
        });
        Ok(Self { port, signals })
    }

    fn tcti(&self) -> String {
        format!("mssim:host=127.0.0.1,port={}", self.port)
    }

    fn signals(&self) -> Vec<u32> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Listeners on two ports, one above the other, below the range from which the kernel takes ports for clients.
fn neighbours() -> Result<(TcpListener, TcpListener)> {
    let first = 26_000 + u16::try_from(std::process::id() % 3000)?;
    (first..first + 200)
        .step_by(2)
        .find_map(|port| {
            let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
            listen(port).zip(listen(port + 1))
        })
        .context("no two neighbouring TCP ports are free")
}

fn read_u32(stream: &mut TcpStream) -> io::Result<u32> {
    let mut octets = [0; 4];
    stream.read_exact(&mut octets)?;
    Ok(u32::from_be_bytes(octets))
}

fn serve_commands(
    mut client: TcpStream,
    tpm: &mut dyn Transport<Error = io::Error>,
) -> io::Result<()> {
    while read_u32(&mut client)? == 8 {
        let mut locality = [0];
        client.read_exact(&mut locality)?;
        assert_eq!(locality, [0]);
        let size = usize::try_from(read_u32(&mut client)?).map_err(io::Error::other)?;
        let (mut command, mut answer) = (vec![0; size], [0; 4096]);
        client.read_exact(&mut command)?;
        let len = tpm.exchange(&command, &mut answer)?;
        let size = u32::try_from(len).map_err(io::Error::other)?;
        client.write_all(&[&size.to_be_bytes(), &answer[..len], &[0; 4]].concat())?;
    }
    Ok(())
}

fn serve_platform(mut client: TcpStream, signals: &Mutex<Vec<u32>>) -> io::Result<()> {
    loop {
        let signal = read_u32(&mut client)?;
        signals.lock().unwrap_or_else(PoisonError::into_inner).push(signal);
        if signal == 20 {
            return Ok(());
        }
        client.write_all(&[0; 4])?;
    }
}

/// A primary key, and random octets under a session.
fn work(address: &str) -> Result<()> {
    let mut tpm = Tpm::open(address)?;
    let (auth, empty) = (session::Auth::EMPTY, SensitiveCreate::EMPTY);
    let key = object::create_primary(&mut tpm, Hierarchy::Owner, auth, &SRK_P256, empty)?.0;
    let (kind, encryption) = (SessionType::HMAC, session::Encryption::On);
    let mut salted = tpm.start_salted_session(kind, &key.salt_key()?, encryption)?;
    let answer = tpm.secured(&mut salted).run(&GetRandom { bytes_requested: 32 }, [])?;
    ensure!(answer.random_bytes.octets().len() == 32);
    Ok(())
}

/// tpm2-tools find the same key at the same address.
fn tools(address: &str) -> Result<String> {
    let mut tool = Command::new("tpm2_createprimary");
    tool.args(["-C", "o", "-G", "ecc256:aes128cfb", "-T", address]);
    let output = tool.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn simulator_is_spoken_to_as_tpm2_tss_does() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let double = Double::new(&swtpm)?;
    work(&double.tcti())?;
    assert!(swtpm.handles()?.transient.is_empty(), "the client flushes without a resource manager");
    let ours = double.signals();
    assert_eq!(ours[..2], [1, 11], "power on, then NV on");
    assert!(tools(&double.tcti())?.contains("type:"));
    let theirs = double.signals();
    let theirs = &theirs[theirs.len().saturating_sub(2)..];
    assert_eq!(theirs, [1, 11], "tpm2-tss asks the same, and does not say that it ends");
    Ok(())
}

#[test]
fn command_carries_what_tpm2_tss_carries_through_it() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let address = format!("cmd:exec tpm2_send -T {}", swtpm.tcti());
    work(&address)?;
    assert!(swtpm.handles()?.transient.is_empty());
    assert!(tools(&address)?.contains("type:"));
    Ok(())
}

#[test]
fn command_that_ends_is_reported_with_its_status() -> Result<()> {
    for (command, said) in [("exit 3", "exit status: 3"), ("no-such-program", "exit status: 127")] {
        let mut tpm = Tpm::open(&format!("cmd:{command} 2>/dev/null"))?;
        let error = tpm.run(&GetRandom { bytes_requested: 1 }, []).unwrap_err();
        assert!(matches!(error.fault(), Fault::Transport), "{error}");
        assert!(format!("{error:#}").contains(said), "{error:#}");
        assert!(matches!(
            tpm.run(&GetRandom { bytes_requested: 1 }, []).unwrap_err().fault(),
            Fault::Poisoned
        ));
    }
    // One that does not mind the end of its input is ended nevertheless, and its client does not wait for it.
    drop(Tpm::open("cmd:exec sleep 1000")?);
    Ok(())
}
