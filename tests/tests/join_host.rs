//! The host's side of a join: what it refuses, what it keeps, and what it says when something is in its way.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use agent::storage::Storage;
use anyhow::{Context, Result, ensure};
use host::clock::Clock;
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::world::{BOT, Said, World, names, run};
use time::format_description::well_known::Rfc3339;

fn tpm(kind: Kind, number: u16) -> Result<Swtpm> {
    Factory::shared().unit(Maker::Vendor, kind, number)?.start()
}

/// A world with a host that has joined, and what it has stored.
fn joined(kind: Kind) -> Result<(World, Swtpm, Vec<u8>)> {
    let swtpm = tpm(kind, 0)?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    world.granted()?;
    let stored = identity(&world)?;
    Ok((world, swtpm, stored))
}

fn identity(world: &World) -> Result<Vec<u8>> {
    Ok(fs::read(world.path("storage/identity.json"))?)
}

fn whoami(world: &World, swtpm: &Swtpm) -> Result<Said> {
    world.agent(&["whoami", "--storage", "storage", "--tpm", &swtpm.tcti()])
}

#[test]
fn a_second_join_is_a_new_instance_with_a_new_key_on_the_same_ek() -> Result<()> {
    let (world, swtpm, _) = joined(Kind::P256)?;
    let directory = world.path("storage");
    let first = Storage::identity(&directory)?.context("an identity")?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    let second = Storage::identity(&directory)?.context("an identity")?;
    assert_ne!(first.instance, second.instance);
    assert_ne!(first.join_key(), second.join_key());
    assert_eq!(first.tpm.ek_public_hash, second.tpm.ek_public_hash);
    whoami(&world, &swtpm)?.success()?;
    assert_eq!(world.instances()?, 2);
    Ok(())
}

#[test]
fn another_tpm_is_refused_where_one_has_joined() -> Result<()> {
    for kind in Kind::ALL {
        let (world, _swtpm, stored) = joined(kind)?;
        let other = tpm(kind, 1)?;
        let before = other.handles()?;
        world.allow("t", &world.rule(&other.tcti())?, &[])?;
        let said = world.join(&other.tcti(), "t", "storage")?;
        let [what, advice] = said.failure(65).with_context(|| format!("{kind:?}"))?;
        assert!(what.contains("not the one of the stored identity"), "{what}");
        assert!(advice.contains("--storage"), "{advice}");
        assert_eq!(identity(&world)?, stored);

        // A copy of the storage is worth nothing on another machine.
        let said = whoami(&world, &other)?;
        let [what, advice] = said.failure(65)?;
        assert!(what.contains("a different join key than the stored identity's"), "{what}");
        assert!(advice.contains("another machine"), "{advice}");
        assert_eq!(other.handles()?, before);
        // The other one is welcome in a storage of its own.
        world.join(&other.tcti(), "t", "other")?.success()?;
    }
    Ok(())
}

/// Kinds without certificates here, with an uncommon hash and curve.
#[test]
fn larger_endorsement_keys_join_too() -> Result<()> {
    let swtpm = tpm(Kind::NoCertificates, 0)?;
    let world = World::new(programs!())?;
    let tcti = swtpm.tcti();
    for ek in ["p384", "p521", "rsa3072"] {
        let identify = ["identify", "--tpm", &tcti, "--ek", ek, "--format", "rule"];
        world.allow("t", &world.agent(&identify)?.success()?, &[])?;
        let join = world.join_arguments(&tcti, "t", ek);
        world.agent(&[&join[..], &["--ek", ek]].concat())?.success().context(ek)?;
        world.granted()?;
        world.agent(&["whoami", "--storage", ek, "--tpm", &tcti])?.success()?;
    }
    Ok(())
}

#[test]
fn a_cleared_tpm_is_refused_where_it_has_joined_before() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::NoCertificates)?.start_tcp()?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    swtpm.tool("tpm2_changeeps", &[])?;
    let said = world.join(&swtpm.tcti(), "t", "storage")?;
    assert!(said.failure(65)?[0].contains("not the one of the stored identity"));
    assert!(whoami(&world, &swtpm)?.failure(65)?[0].contains("different join key"));
    Ok(())
}

#[test]
fn a_certificate_that_has_expired_says_so_and_the_host_joins_again() -> Result<()> {
    let (world, swtpm, _) = joined(Kind::P256)?;
    // No certificate outlives its bot.
    let bot = |metadata: &str| {
        let metadata = format!("metadata:\n  name: {BOT}\n{metadata}");
        world.create(&format!("kind: bot\nversion: v1\n{metadata}spec:\n  roles: []\n"))
    };
    let end = Clock::system().now() + time::Duration::seconds(4);
    bot(&format!("  expires: {}\n", end.replace_nanosecond(0)?.format(&Rfc3339)?))?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    whoami(&world, &swtpm)?.success()?;
    bot("")?;
    while Clock::system().now() < end + time::Duration::seconds(1) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = world.agent(&["status", "--storage", "storage"])?.success()?;
    assert!(status.contains("(expired: join again)"), "{status}");
    let said = whoami(&world, &swtpm)?;
    let [what, advice] = said.failure(1)?;
    assert!(what.contains("certificate: it has expired"), "{what}");
    assert!(advice.contains("join again"), "{advice}");
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    whoami(&world, &swtpm)?.success()?;
    Ok(())
}

#[test]
fn servers_that_are_not_the_authority_are_refused() -> Result<()> {
    let (world, swtpm, stored) = joined(Kind::P256)?;
    let tcti = swtpm.tcti();
    let before = swtpm.handles()?;
    let other = World::new(programs!())?;
    let wrong_pin = format!("sha256:{}", "ab".repeat(32));
    let unreachable = {
        let socket = TcpListener::bind("127.0.0.1:0")?;
        socket.local_addr()?.to_string()
    };
    let join = |authority: &str, pin: &str| {
        let join = ["join", "--authority", authority, "--ca-pin", pin, "--token", "t"];
        world.agent(&[&join[..], &["--storage", "storage", "--tpm", &tcti]].concat())
    };
    for (authority, pin, code, words) in [
        (world.address(), wrong_pin.as_str(), 69, "correct the configured pin"),
        (other.address(), world.pin(), 69, "correct the configured pin"),
        (&unreachable, world.pin(), 69, "authority status"),
        ("no.such.host.invalid:1", world.pin(), 69, "address"),
    ] {
        let said = join(authority, pin)?;
        println!("{}", said.err);
        let [what, advice] = said.failure(code)?;
        assert!(what.contains(authority), "{what}");
        assert!(advice.contains(words), "{advice}");
        assert_eq!(identity(&world)?, stored);
        assert_eq!(swtpm.handles()?, before);
    }
    // One of several pins is enough: that is how a CA is changed.
    let both = ["--ca-pin", &wrong_pin];
    world.agent(&[&world.join_arguments(&tcti, "t", "storage")[..], &both].concat())?.success()?;
    Ok(())
}

#[test]
fn join_tries_several_addresses_and_takes_the_endorsement_key_that_is_asked_for() -> Result<()> {
    let (world, swtpm, stored) = joined(Kind::RsaAndP384)?;
    let tcti = swtpm.tcti();
    let join = |authority: &str, more: &[&str]| {
        let join = ["join", "--authority", authority, "--ca-pin", world.pin(), "--token", "t"];
        world.agent(&[&join[..], &["--storage", "storage", "--tpm", &tcti], more].concat())
    };
    join(&format!("127.0.0.1:1,{}", world.address()), &[])?.success()?;
    ensure!(identity(&world)? != stored, "it has not joined again");
    for nonsense in ["nowhere", "127.0.0.1:99999", "https://authority:1"] {
        let said = join(nonsense, &[])?;
        ensure!(said.code == Some(64) && said.err.contains(nonsense), "{said:?}");
    }
    let rule = world.agent(&["identify", "--tpm", &tcti, "--ek", "p384", "--format", "rule"])?;
    world.allow("t", &rule.success()?, &[])?;
    join(world.address(), &["--ek", "p384"])?.success()?;
    let stored = String::from_utf8(identity(&world)?)?;
    ensure!(stored.contains("\"ek\": \"p384\""), "{stored}");
    Ok(())
}

#[test]
fn server_without_tls_is_refused() -> Result<()> {
    let (world, swtpm, _) = joined(Kind::P256)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let tcti = swtpm.tcti();
    let join = ["join", "--authority", &address, "--ca-pin", world.pin(), "--token", "t"];
    let said = world.agent(&[&join[..], &["--storage", "new", "--tpm", &tcti]].concat())?;
    assert!(said.failure(69)?[1].contains("authority"), "{}", said.err);
    Ok(())
}

/// As when its machine loses power: the connection stays open, and nothing arrives any more.
#[test]
fn silent_authority_times_out() -> Result<()> {
    let (world, swtpm, stored) = joined(Kind::P256)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let authority = world.address().to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let authority = authority.clone();
            std::thread::spawn(move || until_the_handshake_is_done(client, &authority));
        }
    });
    let tcti = swtpm.tcti();
    let join = ["join", "--authority", &address, "--ca-pin", world.pin(), "--token", "t"];
    let said = world.agent(&[&join[..], &["--storage", "storage", "--tpm", &tcti]].concat())?;
    let [what, advice] = said.failure(69)?;
    assert!(what.contains("no answer in 60 seconds"), "{what}");
    assert!(advice.contains("try again"), "{advice}");
    assert_eq!(identity(&world)?, stored);
    Ok(())
}

/// Carries what both say until the client's first encrypted record, which ends the handshake of TLS 1.3; then nothing.
/// A client may say ChangeCipherSpec before it has the server's whole flight, so that record ends nothing.
fn until_the_handshake_is_done(mut client: TcpStream, authority: &str) -> Result<()> {
    const APPLICATION_DATA: u8 = 23;
    let mut authority = TcpStream::connect(authority)?;
    let mut answers = (authority.try_clone()?, client.try_clone()?);
    let answering = std::thread::spawn(move || std::io::copy(&mut answers.0, &mut answers.1));
    loop {
        let mut header = [0; 5];
        client.read_exact(&mut header)?;
        if header[0] == APPLICATION_DATA {
            break;
        }
        let mut record = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
        client.read_exact(&mut record)?;
        authority.write_all(&[&header[..], &record].concat())?;
    }
    authority.shutdown(Shutdown::Both)?;
    answering.join().ok().context("the one who answers")??;
    // What the client says is taken and thrown away, until it goes.
    std::io::copy(&mut client, &mut std::io::sink())?;
    Ok(())
}

#[test]
fn a_storage_that_cannot_be_used_is_said_before_anything_is_done() -> Result<()> {
    let swtpm = tpm(Kind::P256, 0)?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    fs::write(world.path("file"), "")?;
    for (storage, code, words) in [
        ("file", 78, "is not a directory"),
        ("file/below", 78, "is not a directory"),
        ("/proc/endorse", 74, "/proc/endorse"),
    ] {
        let said = world.join(&swtpm.tcti(), "t", storage)?;
        println!("{}", said.err);
        assert!(said.failure(code)?[0].contains(words), "{}", said.err);
    }
    assert!(!fs::read_to_string(world.path("data/audit.jsonl"))?.contains("bot.join"));
    Ok(())
}

#[test]
fn a_stranger_may_neither_use_the_tpm_nor_the_storage() -> Result<()> {
    if !run("id", &["-u"])?.starts_with("0\n") {
        println!("only root can switch to another user");
        return Ok(());
    }
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("endorse-open")?;
    let (directory, agent) = (scratch.path().join("storage"), scratch.path().join("agent"));
    fs::copy(programs!().agent, &agent)?;
    fs::create_dir(&directory)?;
    // A character device that only root can open: anything else is not taken for a TPM.
    let tpm = scratch.path().join("tpm").display().to_string();
    ensure!(Command::new("mknod").args([&tpm, "c", "1", "3"]).status()?.success(), "no device");
    for (path, mode) in [("", 0o755), ("storage", 0o755), ("agent", 0o755), ("tpm", 0o600)] {
        fs::set_permissions(scratch.path().join(path), fs::Permissions::from_mode(mode))?;
    }
    let unprivileged = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&agent);
        Said::by(command.args(arguments).current_dir(scratch.path()))
    };
    let device = format!("device:{}", scratch.path().join("tpm").display());
    let said = unprivileged(&["identify", "--tpm", &device])?;
    let [what, advice] = said.failure(77)?;
    assert!(what.contains("Permission denied"), "{what}");
    assert!(advice.contains("tss") && advice.contains("usermod"), "{advice}");
    let pin = format!("sha256:{}", "ab".repeat(32));
    let join = ["join", "--authority", "127.0.0.1:1", "--ca-pin", &pin, "--token", "t"];
    let said = unprivileged(&[&join[..], &["--storage", "storage", "--tpm", &device]].concat())?;
    assert!(said.failure(77)?[0].contains("storage"), "{}", said.err);
    Ok(())
}

#[test]
fn a_damaged_identity_is_named_and_nothing_is_done_over_it() -> Result<()> {
    let (world, swtpm, stored) = joined(Kind::P256)?;
    let path = world.path("storage/identity.json");
    let text = String::from_utf8(stored)?;
    let cut = text[..text.len() / 2].to_owned();
    for (damage, words) in [
        (String::new(), "line 1"),
        (cut, "line"),
        (text.replace("\"version\": 1", "\"version\": 9"), "version 9"),
        (text.replace("\"unique\": \"", "\"unique\": \"AAAA"), "unique"),
        (text.replace("\"join_key\": \"ACM", "\"join_key\": \"ACN"), "join key"),
        (text.replace("\"bot\":", "\"bat\":"), "bot"),
    ] {
        ensure!(damage != text, "{words}: not damaged");
        fs::write(&path, &damage)?;
        for said in [
            whoami(&world, &swtpm)?,
            world.agent(&["status", "--storage", "storage"])?,
            world.join(&swtpm.tcti(), "t", "storage")?,
        ] {
            let [what, advice] = said.failure(65)?;
            assert!(what.contains("identity.json is damaged") && what.contains(words), "{what}");
            assert!(advice.contains("again"), "{advice}");
        }
        assert_eq!(fs::read_to_string(&path)?, damage, "evidence stays");
    }
    fs::remove_file(&path)?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    Ok(())
}

#[test]
fn a_full_disk_leaves_the_old_identity_whole() -> Result<()> {
    let swtpm = tpm(Kind::P256, 0)?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    fs::create_dir(world.path("small"))?;
    let may_mount = Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "none"])
        .arg(world.path("small"))
        .status();
    if !may_mount.is_ok_and(|status| status.success()) {
        println!("a small file system cannot be mounted here");
        return Ok(());
    }
    const SCRIPT: &str = "mount -t tmpfs -o size=64k none small && \"$@\" >first || exit 9
        cp -r small/storage before
        dd if=/dev/zero of=small/full bs=1k 2>/dev/null
        \"$@\"; echo $? >code
        cp -r small/storage after";
    let tcti = swtpm.tcti();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT, "sh", programs!().agent]);
    command.args(world.join_arguments(&tcti, "t", "small/storage")).current_dir(world.path(""));
    let said = Said::by(&mut command)?;
    println!("{}", said.err);
    assert_eq!(fs::read_to_string(world.path("code"))?, "74\n", "{said:?}");
    assert!(
        said.err.contains("No space left on device") && said.err.contains("free space"),
        "{}",
        said.err
    );
    let (before, after) = (world.path("before"), world.path("after"));
    assert_eq!(names(&before), names(&after), "no halves are left");
    assert_eq!(fs::read(before.join("identity.json"))?, fs::read(after.join("identity.json"))?);
    Ok(())
}
