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
                let reason = reason(&page, command)?;
                let is_given = !command.starts_with("start ") || said.err.contains(reason);
                ensure!(is_given, "{command}: {reason:?} is not the reason: {said:?}");
            }
            other => anyhow::bail!("{command}: {other}"),
        }
    }
    Ok(())
}

/// The notes on a command of tbot, as far as they are a reason.
fn reason<'p>(page: &'p str, command: &str) -> Result<&'p str> {
    let (_, rest) = page.split_once(&format!("| `{command}` | refused | ")).context("no row")?;
    Ok(rest.split([';', '|']).next().unwrap_or_default().trim())
}

/// The keys that tbot's configuration has too, in each section.
const KEYS_OF_TBOT: [(&str, &[&str]); 14] = [
    (
        "",
        &[
            "version",
            "auth_server",
            "proxy_server",
            "join_uri",
            "onboarding",
            "storage",
            "services",
            "outputs",
            "credential_ttl",
            "certificate_ttl",
            "renewal_interval",
            "oneshot",
            "debug",
            "diag_addr",
            "fips",
            "insecure",
            "scoped",
            "leeway",
        ],
    ),
    ("onboarding", &["token", "join_method", "ca_pins", "ca_path"]),
    ("storage", &["type", "path", "symlinks", "acls"]),
    (
        "services[] of type identity",
        &[
            "type",
            "name",
            "destination",
            "credential_ttl",
            "renewal_interval",
            "ssh_config",
            "allow_reissue",
        ],
    ),
    (
        "services[] of type x509",
        &["type", "name", "destination", "credential_ttl", "renewal_interval", "selector"],
    ),
    (
        "services[] of type workload-identity-jwt",
        &[
            "type",
            "name",
            "destination",
            "credential_ttl",
            "renewal_interval",
            "audiences",
            "selector",
        ],
    ),
    (
        "services[] of type ssh_host",
        &["type", "name", "destination", "principals", "credential_ttl", "renewal_interval"],
    ),
    ("services[].destination", &["type", "path", "symlinks", "acls", "readers"]),
    ("services[].destination.readers[]", &["user", "group"]),
    (
        "services[] of type workload-identity-api",
        &["type", "name", "listen", "selector", "credential_ttl"],
    ),
    (
        "services[] of type spiffe-workload-api",
        &["type", "name", "listen", "svids", "credential_ttl"],
    ),
    ("services[].selector", &["name", "labels"]),
    ("services[].svids[]", &["path", "hint", "rules"]),
    ("services[].rules[]", &["unix"]),
];

/// In `rules` of the older form of the Workload API.
const UNIX_OF_TBOT: [&str; 3] = ["pid", "uid", "gid"];

#[test]
fn keys_that_must_go_when_a_host_moves_out_are_all_that_tbot_does_not_have() -> Result<()> {
    let page = page()?;
    let (_, table) = page.split_once("| section of `/etc/tbot.yaml` |").context("no table")?;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let listed: Vec<(&str, &str)> = rows
        .map(|row| {
            let mut cells = row.split('|').skip(1).map(str::trim);
            cells.next().zip(cells.next()).context("two cells")
        })
        .collect::<Result<_>>()?;
    let mut expected = Vec::new();
    for section in agent::config::reference() {
        let of_tbot = match section.path {
            "services[].rules[].unix" => &UNIX_OF_TBOT[..],
            path => {
                let known = KEYS_OF_TBOT.iter().find(|(known, _)| *known == path);
                known.map(|(_, keys)| *keys).unwrap_or_default()
            }
        };
        let keys = section.keys.iter().map(|(key, _)| *key);
        let ours: Vec<&str> = keys.filter(|key| !of_tbot.contains(key)).collect();
        let name = match section.path {
            "" => "top".to_owned(),
            path => format!("`{path}`"),
        };
        match ours.len() {
            0 => {}
            all if all == section.keys.len() => expected.push((name, vec!["all".to_owned()])),
            _ => expected.push((name, ours.iter().map(|key| format!("`{key}`")).collect())),
        }
    }
    let sorted = |(name, mut keys): (String, Vec<String>)| {
        keys.sort();
        (name, keys)
    };
    let split = |keys: &str| keys.split(", ").map(ToOwned::to_owned).collect();
    let listed = listed.into_iter().map(|(name, keys)| sorted((name.to_owned(), split(keys))));
    let expected = expected.into_iter().map(sorted);
    let (mut listed, mut expected): (Vec<_>, Vec<_>) = (listed.collect(), expected.collect());
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    Ok(())
}

/// docs/troubleshooting.md quotes what operators look for.
#[test]
fn quote_of_a_service_that_teleport_does_not_issue_is_what_the_program_says() -> Result<()> {
    let world = World::absent(programs!())?;
    let page = fs::read_to_string(xtask::workspace().join("docs/troubleshooting.md"))?;
    let mut quotes = page.split('`');
    let quote = quotes.find(|quote| quote.starts_with("a Teleport cluster cannot issue"));
    let config = "proxy_server: a:1\nonboarding: {token: t, protocol: teleport}\n\
                  services: [{type: x509, name: web, destination: /d}]\n";
    fs::write(world.path("tbot.yaml"), config)?;
    let said = world.agent(&["check", "-c", "tbot.yaml"])?;
    ensure!(said.out.contains(quote.context("no quote")?), "{said:?}");
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
