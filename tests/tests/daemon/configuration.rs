//! What the daemon makes of its configuration: checked, reloaded, unusable.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use tests::world::run;

use super::{host, stop};

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

/// The configuration may be for another host.
#[test]
fn a_check_warns_of_a_group_that_does_not_exist() -> Result<()> {
    let (host, _swtpm) = host()?;
    host.configure("  - {type: ssh-agent, listen: \"unix:///run/a\", group: no-such-group}\n")?;
    let said = host.world.agent(&["check", "-c", "tbot.yaml"])?.success()?;
    let warning = "warning: the group \"no-such-group\" is not in /etc/group\n  --> tbot.yaml:";
    ensure!(said.contains(warning) && said.contains("tbot.yaml is valid"), "{said}");
    Ok(())
}
