//! The table of commands beside a second source, `testdata/commands.txt`.

use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use crate::commands::{COMMANDS, CommandInfo, Effect};
use crate::testdata;

/// A command as the source prints it.
struct Printed<'s> {
    code: u32,
    sessions: bool,
    command: Vec<&'s str>,
    response: Vec<&'s str>,
}

/// All of them; `None` in a published package.
fn printed() -> Option<BTreeMap<&'static str, Printed<'static>>> {
    let mut all = BTreeMap::new();
    for line in testdata::read("commands.txt")?.lines().filter(|line| !line.starts_with('#')) {
        let (command, response) = line.split_once("->").unwrap();
        let mut words = command.split_whitespace();
        let code = words.next().and_then(|word| word.strip_prefix("0x")).unwrap();
        let name = words.next().unwrap();
        assert!(words.next().unwrap().contains('.'), "{name} has no clause");
        let mut command: Vec<_> = words.collect();
        let sessions = command.first() != Some(&"-");
        command.retain(|word| *word != "-");
        let code = u32::from_str_radix(code, 16).unwrap();
        let response = response.split_whitespace().collect();
        let known = all.insert(name, Printed { code, sessions, command, response });
        assert!(known.is_none(), "{name} twice");
    }
    Some(all)
}

/// Names of one area, which are those that begin with one of these signs; without a sign, the parameters.
fn names(words: &[&str], signs: &[char]) -> Vec<String> {
    let mut names = Vec::new();
    for word in words {
        let inside =
            if signs.is_empty() { !word.starts_with(['@', '#']) } else { word.starts_with(signs) };
        if inside {
            names.push(plain(word.trim_start_matches(signs).split(':').next().unwrap()));
        }
    }
    names
}

/// A name without what tells the specification's spelling from Rust's.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

fn ours(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| plain(name)).collect()
}

/// A session can encrypt a first parameter that begins with its size, and no other. Part 1 §21.1.
fn encryptable(words: &[&str]) -> bool {
    let first = words.iter().find(|word| !word.starts_with(['@', '#']));
    first.and_then(|word| word.split(':').nth(1)).is_some_and(|ty| ty.starts_with("TPM2B_"))
}

#[test]
fn every_command_is_as_part_3_prints_it() {
    let Some(printed) = printed() else { return };
    for info in COMMANDS {
        let CommandInfo { name, response, .. } = info;
        let theirs = printed.get(name).unwrap_or_else(|| panic!("{name} is not in Part 3"));
        assert_eq!(info.code.0, theirs.code, "{name}");
        assert_eq!(info.sessions, theirs.sessions, "{name}");
        assert_eq!(ours(info.handles), names(&theirs.command, &['@', '#']), "{name}");
        assert_eq!(info.authorizations, names(&theirs.command, &['@']).len(), "{name}");
        assert_eq!(ours(info.parameters), names(&theirs.command, &[]), "{name}");
        assert_eq!(info.first_parameter_sized, encryptable(&theirs.command), "{name}");
        let handle: Vec<_> = response.handle.into_iter().collect();
        assert_eq!(ours(&handle), names(&theirs.response, &['#']), "{name}");
        assert_eq!(ours(response.parameters), names(&theirs.response, &[]), "{name}");
        assert_eq!(response.first_parameter_sized, encryptable(&theirs.response), "{name}");
    }
}

/// Part 3 says it in prose: §28.4; §17.8, 17.9, §20.3 and 20.6; §22.7; §24.6 and 24.8; §31.5 and 31.15.
#[test]
fn effects_belong_to_the_commands_that_part_3_gives_them() {
    let with = |effect| -> Vec<&str> {
        COMMANDS.iter().filter(|info| info.effect == effect).map(|info| info.name).collect()
    };
    assert_eq!(with(Effect::Flushes), ["TPM2_FlushContext"]);
    let mut ends = with(Effect::EndsSequence);
    ends.sort_unstable();
    let expected = [
        "TPM2_EventSequenceComplete",
        "TPM2_SequenceComplete",
        "TPM2_SignSequenceComplete",
        "TPM2_VerifySequenceComplete",
    ];
    assert_eq!(ends, expected);
    let mut sets = with(Effect::SetsAuth);
    sets.sort_unstable();
    let expected = ["TPM2_HierarchyChangeAuth", "TPM2_NV_ChangeAuth", "TPM2_PCR_SetAuthValue"];
    assert_eq!(sets, expected);
    let mut clears = with(Effect::ClearsAuth);
    clears.sort_unstable();
    assert_eq!(clears, ["TPM2_Clear", "TPM2_NV_UndefineSpaceSpecial"]);
}

#[test]
fn effects_find_the_handle_or_parameter_that_they_speak_of() {
    for info in COMMANDS {
        let found = match info.effect {
            Effect::None => true,
            Effect::Flushes => info.parameters == ["flush_handle"],
            Effect::EndsSequence => info.handles.contains(&"sequence_handle"),
            Effect::SetsAuth => info.authorizations > 0 && info.first_parameter_sized,
            Effect::ClearsAuth => info.authorizations > 0,
        };
        assert!(found, "{}", info.name);
    }
}

/// Two codes have two names each; the table has one.
#[test]
fn no_command_of_part_3_is_missing() {
    let codes = COMMANDS.iter().map(|info| info.code.0).collect::<Vec<_>>();
    let Some(printed) = printed() else { return };
    for (name, theirs) in &printed {
        assert!(codes.contains(&theirs.code), "{name} is missing");
    }
    assert_eq!(printed.len(), codes.len() + 2);
}
