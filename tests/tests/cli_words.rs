//! Help texts and messages of both programs, verbatim. `UPDATE_WORDS=1 cargo test -p tests --test cli_words` rewrites them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::CommandFactory;
use host::terminal::is_printable;
use serde_json::Value;
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::world::{Said, World, names};

/// Compares with the file `tests/words/NAME.txt`.
fn is_written(name: &str, said: &str) -> Result<()> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/words").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_WORDS").is_some() {
        return Ok(fs::write(&path, said)?);
    }
    let written = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    ensure!(said == written, "{name} is not as written down:\n{said}");
    Ok(())
}

/// A command line, what it says and how it ends; what differs from run to run replaced by a word for it.
fn shown(
    world: &World,
    program: &str,
    arguments: &[&str],
    words: &[(&str, &str)],
) -> Result<String> {
    let said = match program {
        "agent" => world.agent(arguments)?,
        _ => world.authority(arguments)?,
    };
    let Said { code, out, err } = &said;
    let code = code.filter(|code| *code != 0).map(|code| format!("[{code}]\n")).unwrap_or_default();
    let text = format!("$ {program} {}\n{out}{err}{code}\n", arguments.join(" "));
    Ok(words.iter().fold(
        text,
        |text, (what, word)| {
            if what.is_empty() { text } else { text.replace(what, word) }
        },
    ))
}

/// The command lines of a program that have a help of their own: the program itself, its verbs, and theirs.
fn verbs(command: &clap::Command, path: &[String]) -> Vec<Vec<String>> {
    let below = command.get_subcommands().flat_map(|verb| {
        let path = [path, &[verb.get_name().to_owned()]].concat();
        verbs(verb, &path)
    });
    [path.to_vec()].into_iter().chain(below).collect()
}

/// Each help is written down, and nothing is that there is not: a new verb fails here until its help is read and kept.
#[test]
fn help_of_every_verb_makes_sense_at_a_hundred_columns() -> Result<()> {
    let world = World::absent(programs!())?;
    let directory = world.path("data").display().to_string();
    let programs =
        [("agent", agent::cli::command()), ("authority", authority::cli::Cli::command())];
    let mut kept = Vec::new();
    for (program, command) in programs {
        for path in verbs(&command, &[]) {
            let line: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
            let said = shown(&world, program, &line, &[(&directory, "DIRECTORY")])?;
            let name = [&[program.to_owned()], &path[..], &["help".to_owned()]].concat().join("-");
            is_written(&name, &said)?;
            let widest = said.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= 100, "{widest} columns:\n{said}");
            kept.push(format!("{name}.txt"));
        }
    }
    kept.sort_unstable();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/words");
    let written = names(&directory).into_iter().filter(|name| name.ends_with("-help.txt"));
    assert_eq!(written.collect::<Vec<_>>(), kept, "helps of verbs that are not");
    Ok(())
}

#[test]
fn the_first_help_names_every_exit_code() -> Result<()> {
    let world = World::absent(programs!())?;
    let helps = [world.agent(&["--help"])?.success()?, world.authority(&["--help"])?.success()?];
    for help in helps {
        for code in
            ["  0  ", "  1  ", " 64  ", " 65  ", " 69  ", " 70  ", " 74  ", " 77  ", " 78  "]
        {
            assert!(help.contains(code), "{code:?} is not in\n{help}");
        }
    }
    assert_eq!(
        world.agent(&["--version"])?.success()?,
        format!("agent {}\n", env!("CARGO_PKG_VERSION"))
    );
    Ok(())
}

#[test]
fn a_host_and_its_operator_from_first_to_last() -> Result<()> {
    let made = Factory::shared().tpm(Maker::Vendor, Kind::P256)?;
    let swtpm = made.start()?;
    let world = World::new(programs!())?;
    let tcti = swtpm.tcti();
    let report = world.agent(&["identify", "--tpm", &tcti, "--format", "json"])?.success()?;
    let report: Value = serde_json::from_str(&report)?;
    let hash = report["selected"].as_str().context("a hash")?.to_owned();
    let certificate = &report["endorsement_keys"][0]["certificate"];
    let ek_serial = certificate["serial"].as_str().context("a serial")?.to_owned();
    let rule = world.rule(&tcti)?;
    let host = rule.lines().next().and_then(|line| line.split('"').nth(1)).context("a host")?;
    world.allow("t", &rule, &[])?;
    let (address, pin) = (world.address().to_owned(), world.pin().to_owned());
    let fixed = [
        (hash.as_str(), "HASH"),
        (&tcti, "TCTI"),
        (&address, "HOST:PORT"),
        (&pin, "PIN"),
        (host, "HOSTNAME"),
    ];
    let serial = format!("\"{ek_serial}\"");
    let serial_line = format!("Serial: {ek_serial}\n");
    let rule_words =
        [&fixed[..], &[(&serial, "\"SERIAL\""), (&serial_line, "Serial: SERIAL\n")]].concat();

    let mut output = String::new();
    for format in ["text", "rule"] {
        output += &shown(
            &world,
            "agent",
            &["identify", "--tpm", &tcti, "--format", format],
            &rule_words,
        )?;
    }
    output += &shown(&world, "agent", &["status", "--storage", "storage"], &fixed)?;
    let join = world.join_arguments(&tcti, "t", "storage");
    let joined = shown(&world, "agent", &join, &fixed)?;
    let status = ["status", "--storage", "storage", "--format", "json"];
    let status: Value = serde_json::from_str(&world.agent(&status)?.success()?)?;
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let (instance, began, ends) = (text("instance"), text("joined"), text("not_after"));
    let times = [(instance.as_str(), "INSTANCE"), (&began, "JOINED"), (&ends, "UNTIL")];
    output += &times.iter().fold(joined, |text, (what, word)| text.replace(what, word));
    let words = [&fixed[..], &times[..]].concat();
    let shown_status = shown(&world, "agent", &["status", "--storage", "storage"], &words)?;
    output += &["60", "59"].iter().fold(shown_status, |text, minutes| {
        text.replace(&format!("({minutes} more minutes)"), "(N more minutes)")
    });
    let event = world.granted()?;
    let issued = event["certificate_serial"].as_str().context("a serial")?.to_owned();
    let words = [&words[..], &[(issued.as_str(), "SERIAL")]].concat();
    output += &shown(&world, "agent", &["whoami", "--storage", "storage", "--tpm", &tcti], &words)?;
    let shown_status = shown(&world, "authority", &["status"], &words)?;
    // Which one it is, the processor says.
    output += &["graviola", "RustCrypto"].iter().fold(shown_status, |text, library| {
        text.replace(&format!("Crypto   {library}\n"), "Crypto   LIBRARY\n")
    });
    let words = [&rule_words[..], &[(ek_serial.as_str(), "SERIAL")]].concat();
    output += &shown(&world, "authority", &["get", "token/t"], &words)?;
    output += &shown(&world, "authority", &["rm", "token/t"], &words)?;
    output += &shown(&world, "agent", &join, &words)?;
    is_written("a-host", &output)
}

#[test]
fn errors_have_a_message_and_a_line_of_advice() -> Result<()> {
    let mut world = World::new(programs!())?;
    let directory = world.path("").display().to_string();
    let directory = directory.trim_end_matches('/');
    let words = [(directory, "DIRECTORY")];
    fs::write(
        world.path("twice.yaml"),
        "kind: bot\nversion: v1\nmetadata:\n  name: my-bot\nspec:\n  roles: []\n",
    )?;
    fs::write(world.path("authority.yaml"), "listne: 0.0.0.0:3025\njoin_timeout: 1h\n")?;
    let mut output = String::new();
    for (program, arguments) in [
        ("agent", &["identify", "--tpm", "device:/dev/absent"][..]),
        ("agent", &["identify", "--tpm", "swtpm:path=/absent"]),
        ("agent", &["status", "--storage", "absent"]),
        ("agent", &["whoami", "--storage", "absent"]),
        ("authority", &["check", "-c", "authority.yaml"]),
        ("authority", &["create", "absent.yaml"]),
        ("authority", &["create", "twice.yaml"]),
        ("authority", &["get", "token/absent"]),
        ("authority", &["rm", "bot/absent"]),
    ] {
        output += &shown(&world, program, arguments, &words)?;
    }
    world.stop()?;
    output += &shown(&world, "authority", &["status"], &words)?;
    is_written("errors", &output)
}

#[test]
fn a_wrong_command_line_is_usage() -> Result<()> {
    let world = World::absent(programs!())?;
    let pin = format!("sha256:{}", "ab".repeat(32));
    let join = ["join", "--authority", "h:1", "--token", "t", "--storage", "s", "--ca-pin"];
    for arguments in [
        &[][..],
        &["nonsense"],
        &["identify", "--tpm", "nonsense"],
        &["identify", "--tpm", "device:relative"],
        &["identify", "--tpm", "swtpm:port=70000"],
        &["identify", "--ek", "rsa1024"],
        &["identify", "--format", "yaml"],
        &["join"],
        &[&join[..], &["md5:00"]].concat(),
        &[&join[..], &["sha256:00"]].concat(),
        &[&join[..5], &["--ca-pin", &pin]].concat(),
        &["status"],
    ] {
        let said = world.agent(arguments)?;
        assert_eq!((said.code, said.out.as_str()), (Some(64), ""), "{arguments:?}: {said:?}");
        assert!(said.err.contains("Usage: agent") || said.err.contains("--help"), "{}", said.err);
    }
    Ok(())
}

#[test]
fn a_document_that_is_wrong_is_refused_with_file_line_and_what() -> Result<()> {
    let world = World::new(programs!())?;
    let bot = "kind: bot\nversion: v1\nmetadata:\n  name: b\nspec:\n  roles: []\n";
    let token = tests::world::token("t", "- ek_public_hash: \"HASH\"", &[])
        .replace("HASH", &"ab".repeat(32));
    ensure!(token.lines().nth(9) == Some("    allow:"), "{token}");
    let pem = "    ekcert_allowed_cas:\n      - \"no certificate\"\n    allow:\n";
    for (document, line, what) in [
        (bot.replace("roles", "rolls"), 6, "rolls"),
        (bot.replace("roles: []", "roles: 7"), 6, "sequence"),
        (bot.replace("kind: bot", "kind: bat"), 1, "bat"),
        (bot.replace("version: v1", "version: v7"), 2, "v7"),
        (bot.replace("name: b", "name: [b]"), 4, "string"),
        (bot.replace("name: b", "name: b\n  name: c"), 5, "name"),
        (format!("{bot}---\n{}", bot.replace("spec:", "spck:")), 12, "spck"),
        (token.replace("join_method: tpm", "join_method: ec2"), 7, "ec2"),
        (token.replace("    allow:", "    allowed:"), 10, "allowed"),
        (token.replace("ek_public_hash", "ek_hash"), 11, "ek_hash"),
        (token.replace("\"abab", "\"xyab"), 11, "hash"),
        (token.replace("    allow:\n", pem), 11, "ekcert_allowed_cas[0]"),
        (
            token.replace("ek_public_hash", "ek_certificate_serial: 12\n        ek_public_hash"),
            11,
            "digits alone",
        ),
        ("{".to_owned(), 1, ""),
        (String::new(), 1, "no resource"),
        ("kind: bot\n\tversion: v1\n".to_owned(), 1, "tab"),
    ] {
        fs::write(world.path("wrong.yaml"), &document)?;
        let said = world.authority(&["create", "wrong.yaml"])?;
        println!("{}", said.err);
        let [message, _] = said.failure(65).with_context(|| document.clone())?;
        let place = format!("wrong.yaml: line {line}: ");
        assert!(message.starts_with(&place), "not {place}\n{message}\n{document}");
        assert!(message.contains(what), "{what} is not in {message}");
    }
    assert_eq!(world.authority(&["get", "tokens"])?.success()?, "");
    Ok(())
}

#[test]
fn agent_repeats_arguments_without_characters_that_steer_a_terminal() -> Result<()> {
    let world = World::absent(programs!())?;
    let hostile = "a\u{202e}b\u{200b}c\u{1b}[2Jd";
    let option = format!("--{hostile}");
    for arguments in
        [&[hostile][..], &[&option], &["wait", "--timeout", hostile], &["man", hostile]]
    {
        let Said { code, out, err } = world.agent(arguments)?;
        ensure!(code == Some(64) && out.is_empty(), "{code:?} {out}{err}");
        ensure!(err.contains("u{202e}b"), "{err}");
        ensure!(err.chars().all(|c| is_printable(c) || c == '\n'), "{err:?}");
    }
    Ok(())
}

/// Words with which an advice may begin. A new one belongs here if it is a verb in the imperative, or a command.
const ADVICE_BEGINS: [&str; 45] = [
    "add", "allow", "ask", "change", "check", "chmod", "choose", "chown", "compare", "convert",
    "copy", "correct", "create", "enable", "find", "free", "give", "install", "join", "keep",
    "let", "mount", "move", "name", "omit", "pass", "put", "read", "remove", "report", "restart",
    "restore", "rewrite", "run", "see", "set", "shorten", "start", "stop", "switch", "try",
    "update", "use", "wait", "write",
];

#[test]
fn every_advice_begins_with_a_verb() -> Result<()> {
    let mut wrong = Vec::new();
    for program in ["agent", "authority", "host", "verifier"] {
        for (file, advice) in xtask::advice::below(&xtask::workspace().join(program).join("src"))? {
            let first = advice.split([' ', ',', ':']).next().unwrap_or_default();
            // A question names the likely key; a placeholder stands for another advice.
            let is_other = advice.starts_with("did you mean ") || advice.starts_with('{');
            if !first.is_empty() && !is_other && !ADVICE_BEGINS.contains(&first) {
                wrong.push(format!("{file}: {advice}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
