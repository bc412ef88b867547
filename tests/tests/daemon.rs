//! `agent start`: a daemon that keeps credentials fresh, on a software TPM, against a real authority.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, ensure};
use testkit::bus::{command_code, forward};
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use testkit::tap::Tap;
use tests::host::{Host, IDENTITY, WEB, until};
use tests::programs;
use tests::world::{TIMEOUT, World, run};
use tpm2::types::CommandCode;

fn tpm() -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()
}

fn host() -> Result<(Host, Swtpm)> {
    let swtpm = tpm()?;
    Ok((Host::new(World::new(programs!())?, &swtpm.tcti())?, swtpm))
}

#[test]
fn daemon_joins_serves_renews_on_signal_and_stops_cleanly() -> Result<()> {
    let (mut host, swtpm) = host()?;
    let before = swtpm.handles()?;
    host.start()?;
    host.wait_healthy()?;
    ensure!(host.world.path("reloaded").exists(), "the reload hook has not run");
    ensure!(swtpm.handles()? == before, "something is left behind in the TPM");

    for (signal, renewals) in [("USR1", 1), ("HUP", 2)] {
        host.signal(signal)?;
        host.until_logged("renewed name=identity", renewals)?;
        host.until_logged("issued name=web", renewals + 1)?;
        host.web_is_whole()?;
    }
    let private = run("find", &[&host.world.path("bot"), Path::new("-name"), Path::new("key")])?;
    ensure!(private.is_empty(), "a private key in the bot's storage: {private}");

    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    ensure!(!host.world.path("pid").exists() && !host.world.path("bot/agent.sock").exists());
    ensure!(swtpm.handles()? == before, "something is left behind in the TPM");
    Ok(())
}

#[test]
fn a_restart_with_valid_credentials_asks_nothing_of_the_tpm() -> Result<()> {
    let (mut host, swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    host.kill()?;

    // The TPM is gone and so is the authority: what is valid needs neither.
    host.world.stop()?;
    let tcti = swtpm.tcti();
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    fs::write(host.world.path("tbot.yaml"), text.replace(&tcti, "swtpm:path=/nonexistent"))?;
    host.start()?;
    host.wait_healthy()?;
    ensure!(host.count("joined") == 1, "{}", host.log());
    Ok(())
}

/// The consumer that has not heard of its files hears of them after a restart, without the TPM and the authority.
#[test]
fn pending_reload_hook_runs_after_a_restart() -> Result<()> {
    for end in [Host::kill, stop] {
        let (mut host, swtpm) = host()?;
        let config = host.world.path("tbot.yaml");
        let works = fs::read_to_string(&config)?;
        fs::write(&config, works.replace("command: [touch, ", "command: [\"false\", "))?;
        host.start()?;
        host.until_logged("the reload hook failed name=web", 1)?;
        end(&mut host)?;

        host.world.stop()?;
        fs::write(&config, works.replace(&swtpm.tcti(), "swtpm:path=/nonexistent"))?;
        host.start()?;
        host.wait_healthy()?;
        ensure!(
            host.world.path("reloaded").exists(),
            "the reload hook has not run: {}",
            host.log()
        );
        ensure!(host.count("issued name=web") == 0, "{}", host.log());

        // And then no more.
        stop(&mut host)?;
        fs::remove_file(host.world.path("reloaded"))?;
        host.start()?;
        host.wait_healthy()?;
        ensure!(!host.world.path("reloaded").exists(), "the reload hook ran again: {}", host.log());
    }
    Ok(())
}

#[test]
fn a_foreign_file_is_no_pid_file_and_a_damaged_identity_no_end() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    fs::write(host.world.path("pid"), "precious")?;
    let said = host.world.agent(&["start", "-c", "tbot.yaml", "--pid-file", "pid"])?;
    ensure!(said.code == Some(64) && said.err.contains("the pid file pid: "), "{said:?}");
    ensure!(fs::read_to_string(host.world.path("pid"))? == "precious");
    fs::remove_file(host.world.path("pid"))?;

    host.start()?;
    host.wait_healthy()?;
    stop(&mut host)?;
    fs::write(host.path("bot/identity.json"), b"{\xff")?;
    host.start()?;
    host.until_logged("the stored identity is not used", 1)?;
    host.until_logged("joined name=identity", 2)?;
    host.wait_healthy()
}

#[test]
fn an_outage_is_said_and_outlived() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    host.world.stop()?;
    host.start()?;
    host.until_logged("not joined", 2)?;
    ensure!(host.log().contains("cannot reach the authority"), "{}", host.log());
    host.world.start(&[])?;
    host.wait_healthy()
}

#[test]
fn a_host_that_is_no_longer_allowed_says_why_and_comes_back_when_it_is() -> Result<()> {
    let (mut host, swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    host.world.authority(&["rm", "token/t"])?.success()?;
    host.signal("USR1")?;
    until(|| {
        ensure!(host.health()?["services"][IDENTITY]["status"] == "unhealthy");
        Ok(())
    })?;
    let rule = host.world.rule(&swtpm.tcti())?;
    host.world.allow("t", &rule, &[])?;
    host.signal("USR1")?;
    host.wait_healthy()
}

#[test]
fn a_configuration_that_became_unusable_changes_nothing() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    host.configure("nonsense: true\n")?;
    host.signal("HUP")?;
    host.until_logged("the configuration was not changed", 1)?;
    ensure!(host.health()?["status"] == "healthy", "{}", host.log());
    Ok(())
}

/// Otherwise systemd would restart, at each TimeoutStartSec, an agent that waits for one of its destinations.
#[test]
fn service_manager_grants_a_start_the_time_it_needs() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    let web = host.path(WEB);
    fs::write(&web, "not a directory")?;
    host.start()?;
    host.until_logged("not issued name=web", 1)?;
    let is_extension = |message: &String| message.starts_with("EXTEND_TIMEOUT_USEC=180000000");
    until(|| {
        let messages = host.notifications();
        ensure!(messages.iter().filter(|message| is_extension(message)).count() > 1);
        ensure!(!messages.iter().any(|message| message.starts_with("READY=1")), "{messages:#?}");
        Ok(())
    })?;
    fs::remove_file(&web)?;
    host.signal("USR1")?;
    host.wait_healthy()?;
    let messages = host.notifications();
    let ready = messages.iter().position(|message| message.starts_with("READY=1"));
    ensure!(messages.iter().rposition(is_extension) < ready, "{messages:#?}");
    stop(&mut host)
}

/// systemd waits for READY=1 after RELOADING=1, whatever became of the reload.
#[test]
fn every_reload_ends_for_the_service_manager() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    let ready = |host: &Host| {
        let messages = host.notifications();
        let reloading = messages.iter().rposition(|message| message.starts_with("RELOADING=1"));
        let last = messages.get(reloading.map_or(0, |at| at + 1)..).unwrap_or_default();
        let ready = last.iter().find(|message| message.starts_with("READY=1\nSTATUS="));
        ready.cloned().with_context(|| format!("{messages:#?}"))
    };
    let config = fs::read_to_string(host.world.path("tbot.yaml"))?;
    host.configure("nonsense: true\n")?;
    host.signal("HUP")?;
    host.until_logged("the configuration was not changed", 1)?;
    let status = until(|| ready(&host))?;
    ensure!(status.contains("the new configuration was rejected: "), "{status}");

    fs::write(host.world.path("tbot.yaml"), config)?;
    host.signal("HUP")?;
    host.until_logged("all credentials are valid", 2)?;
    let status = until(|| ready(&host))?;
    ensure!(!status.contains("was rejected"), "{status}");
    stop(&mut host)?;
    let messages = host.notifications();
    ensure!(messages.iter().any(|message| message.starts_with("STOPPING=1")), "{messages:#?}");
    Ok(())
}

#[test]
fn sighup_applies_diag_addr_and_log_format_and_says_what_it_does_not_apply() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    // The address is taken: nothing changes.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let config = host.world.path("tbot.yaml");
    let text = fs::read_to_string(&config)?;
    let place = text.find("diag_addr: ").context("no diag_addr")?;
    let (head, tail) = text.split_at(place);
    let (_, tail) = tail.split_once('\n').context("no line")?;
    fs::write(&config, format!("{head}diag_addr: {}\n{tail}", taken.local_addr()?))?;
    host.signal("HUP")?;
    host.until_logged("the configuration was not changed", 1)?;
    host.wait_healthy()?;

    fs::write(&config, format!("{text}log_format: json\noneshot: true\n"))?;
    let old = host.change_diag()?;
    host.signal("HUP")?;
    host.wait_healthy()?;
    ensure!(TcpStream::connect((Ipv4Addr::LOCALHOST, old)).is_err(), "it answers at {old}");
    host.until_logged("`oneshot` takes effect at the next start", 1)?;
    host.until_logged("\"message\":\"renewed\"", 1)?;
    stop(&mut host)
}

/// A pipe without a writer, like a file system that hangs: the daemon continues, and stops when asked to.
#[test]
fn configuration_that_cannot_be_read_in_time_changes_nothing() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    let config = host.world.path("tbot.yaml");
    fs::remove_file(&config)?;
    run("mkfifo", &[&config])?;
    host.signal("HUP")?;
    host.until_logged("reloading the configuration", 1)?;
    ensure!(host.readyz()?.0 == 200, "{}", host.log());
    host.until_logged("the configuration was not changed", 1)?;
    host.until_logged("renewed name=identity", 1)?;
    host.wait_healthy()?;
    stop(&mut host)
}

#[test]
fn oneshot_is_ended_by_a_signal() -> Result<()> {
    let swtpm = tpm()?;
    let (reaching, reached) = sync_channel(1);
    let (_go_on, going_on) = sync_channel::<()>(1);
    let tap = Tap::with(&swtpm, move |command, tpm| {
        if command_code(command) == CREATE_PRIMARY {
            let _ = reaching.try_send(());
            let _ = going_on.recv_timeout(TIMEOUT);
        }
        forward(tpm, command)
    })?;
    let mut host = Host::new(World::new(programs!())?, &tap.tcti())?;
    host.configure("oneshot: true\n")?;
    host.start()?;
    reached.recv_timeout(TIMEOUT)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.code() == Some(75), "{ended}: {}", host.log());
    Ok(())
}

/// A reload hook is a job like any other: the first signal waits for it, the second does not.
#[test]
fn second_sigterm_ends_a_daemon_whose_hook_runs() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    let config = host.world.path("tbot.yaml");
    let text = fs::read_to_string(&config)?;
    let hook = format!("[sh, -c, 'touch {}; exec sleep 300']", host.world.path("runs").display());
    let touch = format!("[touch, {}]", host.world.path("reloaded").display());
    ensure!(text.contains(&touch), "{text}");
    fs::write(&config, text.replace(&touch, &format!("{hook}\n      timeout: 300s")))?;
    host.start()?;
    until(|| {
        ensure!(host.world.path("runs").exists(), "the hook does not run");
        Ok(())
    })?;
    host.signal("TERM")?;
    host.until_logged("INFO  stopping", 1)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.code() == Some(75), "{ended}: {}", host.log());
    Ok(())
}

#[test]
fn every_fault_of_the_configuration_is_in_the_log() -> Result<()> {
    let (host, _swtpm) = host()?;
    host.configure("version: v3\ndebug: perhaps\n")?;
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    let text = text.replacen("version: v2\n", "", 1).replace("token: t", "tokne: t");
    fs::write(host.world.path("tbot.yaml"), &text)?;
    let said = host.world.agent(&["start", "-c", "tbot.yaml"])?;
    ensure!(said.code == Some(78) && said.out.is_empty(), "{said:?}");
    let lines: Vec<&str> = said.err.lines().collect();
    let [version, token, debug] = ["version: v3", "tokne", "debug"].map(|key| {
        let line = text.lines().position(|line| line.contains(key)).unwrap_or_default() + 1;
        format!("at=tbot.yaml:{line}:")
    });
    for (place, what, advice) in [
        (token, "unknown key `tokne` in onboarding", "did you mean `token`?"),
        (version, "version v3 is not supported", "write `version: v2`"),
        (debug, "`debug` must be true or false", "write true or false"),
    ] {
        let of_this = |line: &&&str| {
            line.contains(" ERROR ")
                && [&place, what, advice].iter().all(|word| line.contains(word))
        };
        ensure!(lines.iter().filter(of_this).count() == 1, "{place} {what}: {}", said.err);
    }
    ensure!(said.err.contains("and 2 other errors"), "{}", said.err);
    Ok(())
}

#[test]
fn a_check_looks_at_the_files_that_are_named() -> Result<()> {
    let (host, _swtpm) = host()?;
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    let file = |name: &str| host.world.path(name).display().to_string();
    let (ca, token) = (file("ca.pem"), file("token"));
    let pins = format!("ca_pins: [{}]", host.world.pin());
    let text = text.replace(&pins, &format!("ca_path: {ca}"));
    let text = text.replace("token: t", &format!("token: {token}"));
    fs::write(host.world.path("tbot.yaml"), text)?;
    let check = || host.world.agent(&["check", "-c", "tbot.yaml"]);
    let sound = fs::read_to_string(host.world.path("data/cluster/x509-ca.pem"))?;
    for (given, names, faults) in [
        (None, None, &[(4, "token: No such file"), (5, "ca.pem: ")][..]),
        (Some("nothing"), Some("t"), &[(5, "ca.pem: it contains no certificate")]),
        (Some(&sound), Some(" \n"), &[(4, "token is not a single name")]),
        (Some(&sound), Some("a b"), &[(4, "token is not a single name")]),
        (Some(&sound), Some("t\n"), &[]),
    ] {
        for (path, content) in [(&ca, given), (&token, names)] {
            let _ = content.map(|content| fs::write(path, content)).transpose()?;
        }
        let said = check()?;
        let expected = if faults.is_empty() { 0 } else { 78 };
        ensure!(said.code == Some(expected), "{said:?}");
        ensure!(
            said.out.lines().filter(|line| line.starts_with("error: ")).count() == faults.len(),
            "{}",
            said.out
        );
        for (line, words) in faults {
            let place = format!("--> tbot.yaml:{line}:");
            ensure!(said.out.contains(&place) && said.out.contains(words), "{}", said.out);
        }
    }
    Ok(())
}

#[test]
fn oneshot_writes_all_credentials_and_exits() -> Result<()> {
    let (host, _swtpm) = host()?;
    host.configure("oneshot: true\n")?;
    host.world.agent(&["start", "-c", "tbot.yaml"])?.success()?;
    host.web_is_whole()?;
    Ok(())
}

const CREATE_PRIMARY: CommandCode = CommandCode(0x131);
const SIGN: CommandCode = CommandCode(0x15d);
const FLUSH_CONTEXT: CommandCode = CommandCode(0x165);

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
        let expected = [CREATE_PRIMARY, SIGN, FLUSH_CONTEXT];
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

fn stop(host: &mut Host) -> Result<()> {
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}

/// A copy of the whole storage, on a machine with another TPM that has joined by itself.
#[test]
fn a_copy_of_the_storage_is_worth_nothing_on_another_machine() -> Result<()> {
    let (mut host, swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    let other = Factory::shared().unit(Maker::Vendor, Kind::RsaAndP384, 1)?.start()?;
    let before = other.handles()?;
    let copies = Scratch::new("endorse-copy")?;
    let copy = |name: &str| -> Result<String> {
        let to = copies.path().join(name).display().to_string();
        run("cp", &["-r", &host.path("bot").display().to_string(), &to])?;
        Ok(to)
    };
    let [stolen, started] = [copy("stolen")?, copy("started")?];
    let instances = host.world.instances()?;
    host.world.events()?;

    // It shows what is public, and no key.
    let said = host.world.agent(&["status", "--storage", &stolen])?.success()?;
    ensure!(said.contains("Daemon:      not running"), "{said}");
    let keys = run("sh", &["-c", "grep -rl 'PRIVATE KEY' \"$1\" || true", "grep", &stolen])?;
    ensure!(keys.is_empty(), "a private key in {keys}");
    // No one else can use it.
    let tcti = other.tcti();
    let said = host.world.agent(&["whoami", "--storage", &stolen, "--tpm", &tcti])?;
    ensure!(
        said.failure(65)?[0].contains("a different join key than the stored identity's"),
        "{said:?}"
    );
    // It does not join, neither with an open door.
    let said = host.world.join(&tcti, "t", &stolen)?;
    ensure!(said.failure(65)?[0].contains("not the one of the stored identity"));
    host.world.allow("t", &host.world.rule(&tcti)?, &[])?;
    let said = host.world.join(&tcti, "t", &stolen)?;
    ensure!(said.failure(65)?[0].contains("not the one of the stored identity"));
    // Nor does it renew.
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    let text = text.replace(&host.path("bot").display().to_string(), &started);
    let text =
        text.replace(&swtpm.tcti(), &tcti).replace(&host.path("web").display().to_string(), "/x");
    let text = text.replace("diag_addr", "oneshot: true # ");
    fs::write(host.world.path("copy.yaml"), text)?;
    let said = host.world.agent(&["start", "-c", "copy.yaml"])?;
    ensure!(said.code == Some(65) && !Path::new("/x").exists(), "{said:?}");
    ensure!(said.err.contains("a different join key than the stored identity's"), "{said:?}");

    ensure!(other.handles()? == before, "something is left behind in the TPM");
    ensure!(host.world.instances()? == instances);
    // The host itself goes on, its instance untouched.
    let rule = format!("{}{}", host.world.rule(&swtpm.tcti())?, host.world.rule(&tcti)?);
    host.world.allow("t", &rule, &[])?;
    host.signal("USR1")?;
    host.until_logged("renewed name=identity", 1)?;
    let events = host.world.events()?;
    ensure!(events.iter().all(|event| event["outcome"] == "granted"), "{events:#?}");
    Ok(())
}
