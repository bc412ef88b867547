//! Files and options that a configuration consists of.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use tests::host::Host;
use tests::programs;
use tests::world::{Said, World};

use super::switched_on;

/// A user who can write the configuration, or a directory in its path, decides which programs the agent runs.
#[test]
fn files_that_others_can_write_are_refused() -> Result<()> {
    let swtpm = switched_on()?;
    let host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let directory = host.world.path("etc");
    fs::create_dir(&directory)?;
    let [config, token, ca] = ["tbot.yaml", "token", "ca.pem"].map(|name| directory.join(name));
    fs::copy(host.world.path("data/cluster/x509-ca.pem"), &ca)?;
    fs::write(&token, "t")?;
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    let text = text.replace("token: t\n", &format!("token: {}\n", token.display()));
    let pins = format!("ca_pins: [{}]", host.world.pin());
    let text = text.replace(&pins, &format!("ca_path: {}", ca.display()));
    fs::write(&config, format!("{text}oneshot: true\n"))?;
    let shown = config.display().to_string();
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode));
    for path in [&directory, &config, &token, &ca] {
        let before = fs::metadata(path)?.permissions().mode();
        mode(path, before | 0o002)?;
        for verb in ["check", "start"] {
            let said = host.world.agent(&[verb, "-c", &shown])?;
            let words = format!("other users can write to {}", path.display());
            ensure!(said.code != Some(0), "{verb}: {said:?}");
            ensure!(said.out.contains(&words) || said.err.contains(&words), "{verb}: {said:?}");
        }
        mode(path, before)?;
    }
    host.world.agent(&["check", "-c", &shown])?.success()?;
    host.world.agent(&["start", "-c", &shown])?.success()?;
    host.web_is_whole()
}

#[test]
fn hooks_that_cannot_run_are_found_by_a_check() -> Result<()> {
    let swtpm = switched_on()?;
    let host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let script = host.world.path("hook");
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    let hook = format!("command: [\"{}\", ", script.display());
    fs::write(host.world.path("tbot.yaml"), text.replace("command: [touch, ", &hook))?;
    let check = || host.world.agent(&["check", "-c", "tbot.yaml"]);
    for (content, mode, words) in [
        ("#!/bin/sh\r\n", 0o755, "CRLF"),
        ("#!/no/such/sh\n", 0o755, "/no/such/sh"),
        ("#!/bin/sh\n", 0o644, "cannot be executed"),
    ] {
        fs::write(&script, content)?;
        fs::set_permissions(&script, Permissions::from_mode(mode))?;
        let said = check()?;
        ensure!(said.code == Some(78) && said.out.contains(words), "{said:?}");
    }
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    check()?.success()?;
    Ok(())
}

#[test]
fn option_on_the_command_line_goes_before_its_counterpart_in_the_environment() -> Result<()> {
    let swtpm = switched_on()?;
    let host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let ca = host.world.path("data/cluster/x509-ca.pem").display().to_string();
    let pin = host.world.pin();
    let check = |given: &[&str], variables: &[(&str, &str)]| -> Result<Said> {
        let mut command =
            host.world.agent_command(&[&["check", "-c", "tbot.yaml"], given].concat());
        Said::by(command.envs(variables.iter().copied()))
    };
    let (auth, proxy) = (("TELEPORT_AUTH_SERVER", "auth:1"), ("TELEPORT_PROXY", "proxy:1"));
    for (given, variable, words) in [
        (["--auth-server", "a:1"], proxy, "Authority:    a:1"),
        (["--proxy-server", "p:1"], auth, "Authority:    p:1"),
        (["--ca-path", &ca], ("AGENT_CA_PIN", pin), "Trusted by:   CA in"),
        (["--ca-pin", pin], ("AGENT_CA_PATH", "/nowhere"), "Trusted by:   CA pin"),
    ] {
        let said = check(&given, &[variable])?.success()?;
        ensure!(said.contains(words), "{given:?}: {said}");
    }
    for contradiction in [
        check(&["--auth-server", "a:1", "--proxy-server", "p:1"], &[])?,
        check(&["--ca-path", &ca, "--ca-pin", pin], &[])?,
        check(&[], &[auth, proxy])?,
    ] {
        ensure!(contradiction.code == Some(64), "{contradiction:?}");
        ensure!(contradiction.err.contains("cannot be used together"), "{contradiction:?}");
    }
    Ok(())
}
