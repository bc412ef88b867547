//! What docs/teleport.md says of tbot's and tctl's command lines is what the programs do.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::world::{Said, World};

/// The first two cells of the rows of a table, by the first title.
fn rows<'p>(page: &'p str, title: &str) -> Result<Vec<(&'p str, &'p str)>> {
    let (_, table) = page.split_once(&format!("| {title} | here |")).context("no such table")?;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
        cells.next().zip(cells.next()).with_context(|| row.to_owned())
    })
    .collect()
}

fn page() -> Result<String> {
    Ok(fs::read_to_string(xtask::workspace().join("docs/teleport.md"))?)
}

/// Two lines: what is not supported, and what to do.
fn is_refused(said: &Said) -> bool {
    let lines: Vec<&str> = said.err.lines().collect();
    said.code == Some(64) && lines.len() == 2 && lines[0].contains("is not supported")
}

#[test]
fn command_of_tbot_is_as_the_page_says() -> Result<()> {
    let (world, page) = (World::absent(programs!())?, page()?);
    let rows = rows(&page, "command of tbot")?;
    assert!(rows.len() > 30, "{rows:?}");
    for (command, here) in rows {
        let words: Vec<&str> = command.split(' ').collect();
        match here {
            "supported" => {
                let help = world.agent(&[&words[..], &["--help"]].concat())?.success()?;
                ensure!(help.contains(&format!("Usage: agent {command}")), "{command}: {help}");
            }
            "refused" => {
                let said = world.agent(&[&words[..], &["--any", "thing", "--help"]].concat())?;
                ensure!(is_refused(&said), "{command}: {said:?}");
            }
            other => anyhow::bail!("{command}: {other}"),
        }
    }
    Ok(())
}

#[test]
fn option_of_tbot_is_as_the_page_says() -> Result<()> {
    let (world, page) = (World::absent(programs!())?, page()?);
    for verb in ["start", "configure"] {
        let help = world.agent(&[verb, "--help"])?.success()?;
        for (option, here) in rows(&page, "option of `tbot start`")? {
            let is_listed = help.contains(&format!("{option} <"))
                || help.contains(&format!("{option}[="))
                || help.contains(&format!("alias: {option}]"));
            match here {
                "supported"
                    if verb == "configure" && ["--config", "--pid-file"].contains(&option) => {}
                "supported" => ensure!(is_listed, "{option} is not in {help}"),
                "refused" => {
                    let said = world.agent(&[verb, &format!("{option}=x")])?;
                    ensure!(!is_listed && is_refused(&said), "{option}: {said:?}");
                }
                other => anyhow::bail!("{option}: {other}"),
            }
        }
    }
    Ok(())
}

#[test]
fn command_of_tctl_is_as_the_page_says() -> Result<()> {
    let (world, page) = (World::absent(programs!())?, page()?);
    let rows = rows(&page, "command of tctl")?;
    assert!(rows.len() > 30, "{rows:?}");
    for (command, here) in rows {
        let words: Vec<&str> = command.split(' ').collect();
        match here {
            "supported" => {
                let help = world.authority(&[&words[..], &["--help"]].concat())?.success()?;
                ensure!(help.contains(&format!("Usage: authority {command}")), "{command}: {help}");
            }
            "refused" => {
                let said = world.authority(&[&words[..], &["ls", "--any", "--help"]].concat())?;
                ensure!(is_refused(&said), "{command}: {said:?}");
            }
            other => anyhow::bail!("{command}: {other}"),
        }
    }
    Ok(())
}

/// A host that is run by the commands of the guides for tbot and tctl, through links of those names.
#[test]
fn host_joins_with_the_command_lines_of_tbot_and_tctl() -> Result<()> {
    let made = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?;
    let swtpm = made.start()?;
    let world = World::new(programs!())?;
    let programs = programs!();
    let links = [("tbot", programs.agent), ("tctl", programs.authority)];
    for (name, program) in &links {
        std::os::unix::fs::symlink(program, world.path(name))?;
    }
    let run = |line: &str| -> Result<String> {
        let mut words = line.split_whitespace();
        let program = world.path(words.next().context("no program")?);
        let output = Command::new(&program)
            .args(words)
            .current_dir(world.path(""))
            .env("AGENT_TPM", swtpm.tcti())
            .env("AUTHORITY_DATA_DIR", world.path("data"))
            .output()?;
        let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.success(), "{line}: {err}");
        Ok(out)
    };
    let identified = run("tbot tpm identify")?;
    let value = |label: &str| {
        let line = identified.lines().find_map(|line| line.strip_prefix(label));
        line.map(str::to_owned).with_context(|| identified.clone())
    };
    let (hash, serial) = (value("EK Public Hash: ")?, value("EK Certificate Serial: ")?);
    assert_eq!(value("EK Certificate Detected: ")?, "true");
    let with_pem = run("tbot -d tpm identify")?;
    let public = with_pem.split_once("EK Public:\n").context("no key")?.1;
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
    assert!(public.contains("EK Certificate:\n-----BEGIN CERTIFICATE-----\n"), "{public}");

    run("tctl bots add robot --roles=access --logins=root")?;
    run(&format!(
        "tctl tokens add --type=bot --value=robots --bot robot --ek-public-hash {hash} --ek-certificate-serial {serial}"
    ))?;
    let status = run("tctl status")?;
    let pin = status.lines().find_map(|line| line.strip_prefix("CA pin   ")).context("a pin")?;
    let address = world.address();
    let out = world.path("out");
    run(&format!(
        "tbot start identity --oneshot --token=robots --join-method=tpm --ca-pin={pin} --auth-server={address} \
         --storage=file://{} --destination=file://{} --certificate-ttl=30m --no-debug --log-format=json",
        world.path("bot").display(),
        out.display()
    ))?;
    for file in ["key", "key-cert.pub", "tlscert", "identity"] {
        let path: &Path = &out.join(file);
        ensure!(path.exists(), "{} is missing", path.display());
    }
    let listed = run("tctl bots instances ls robot --format json")?;
    let instances: Vec<serde_json::Value> = serde_json::from_str(&listed)?;
    assert_eq!(instances.len(), 1, "{listed}");
    let id = instances[0]["spec"]["instance_id"].as_str().context("an id")?;
    assert!(run(&format!("tctl bots instances show robot/{id}"))?.contains(&hash));
    run(&format!("tctl get bot_instance/robot/{id}"))?;

    let uri = format!("tbot+auth+tpm://robots@{address}");
    run(&format!("tbot start noop --oneshot --join-uri={uri} --ca-pin={pin} --storage=memory:"))?;
    let listed = run("tctl bots instances --format json")?;
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&listed)?.len(), 2, "{listed}");
    run("tctl tokens rm robots")?;
    run("tctl bots rm robot")?;
    assert!(run("tctl tokens ls")?.starts_with("No tokens found"));
    Ok(())
}
