//! Modules of a crate that use each other, also by way of a name that the crate's root re-exports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use anyhow::{Context, Result};

use super::module_of;
use crate::source::{root_names, rust_files};

/// Which modules each module uses, and where.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// Each name that hides which module it is in, and each cycle once, by the path that leads around it.
pub(super) fn faults(name: &str, source: &Path) -> Result<Vec<String>> {
    let mut uses = Uses::new();
    for (path, text) in rust_files(source)? {
        note(&mut uses, name, path.strip_prefix(source)?, &text)
            .with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(faults_of(name, &uses))
}

fn faults_of(name: &str, uses: &Uses) -> Vec<String> {
    let mut faults = without_module(uses);
    faults.extend(around(name, uses));
    faults
}

/// A name that is not a module's is the root's: what it re-exports belongs to a module that the path does not name.
fn without_module(uses: &Uses) -> Vec<String> {
    let all = uses.values().flatten().filter(|(used, _)| !uses.contains_key(*used));
    all.map(|(used, at)| {
        format!("{at}: `{used}` is no module: name things by the module they live in")
    })
    .collect()
}

/// Notes what one file uses; `file` is relative to the crate's `src`.
fn note(uses: &mut Uses, name: &str, file: &Path, source: &str) -> Result<()> {
    let Some((module, depth)) = module_of(file) else { return Ok(()) };
    let found = uses.entry(module.clone()).or_default();
    for used in root_names(source, depth)? {
        if used.name != module {
            let at = || format!("{name}/src/{}:{}", file.display(), used.line);
            found.entry(used.name).or_insert_with(at);
        }
    }
    Ok(())
}

fn around(name: &str, uses: &Uses) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for start in uses.keys() {
        let Some(path) = back_to(start, uses) else { continue };
        if !seen.insert(path.iter().cloned().collect::<BTreeSet<_>>()) {
            continue;
        }
        let places: Vec<&str> = path
            .iter()
            .zip(path.iter().skip(1))
            .filter_map(|(from, to)| Some(uses.get(from)?.get(to)?.as_str()))
            .collect();
        faults.push(format!(
            "crate {name}: modules use each other, {}: {}",
            path.join(" -> "),
            places.join(", ")
        ));
    }
    faults
}

/// The shortest way from a module back to itself.
fn back_to(start: &str, uses: &Uses) -> Option<Vec<String>> {
    let mut waiting = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop_front() {
        let used = path.last().and_then(|last| uses.get(last));
        for next in used.into_iter().flat_map(BTreeMap::keys) {
            let mut longer = path.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if uses.contains_key(next) && seen.insert(next.clone()) {
                waiting.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut uses = Uses::new();
        for (file, source) in files {
            note(&mut uses, "agent", Path::new(file), source).unwrap();
        }
        faults_of("agent", &uses)
    }

    #[test]
    fn cycle_is_refused_once_with_its_places() {
        let faults = found(&[
            ("config/files.rs", "use crate::client::Client;"),
            ("client.rs", "use crate::ceremony;"),
            ("ceremony.rs", "fn f() { crate::config::g() }"),
            ("daemon/mod.rs", "use crate::config::Settings;"),
            ("lib.rs", "pub use config::Settings;"),
        ]);
        let expected = "crate agent: modules use each other, ceremony -> config -> client -> \
                        ceremony: agent/src/ceremony.rs:1, agent/src/config/files.rs:1, \
                        agent/src/client.rs:1";
        assert_eq!(faults, [expected]);
    }

    #[test]
    fn names_that_the_root_reexports_are_refused() {
        let faults = found(&[
            ("config.rs", "\nuse crate::trust::ServerTrust;"),
            ("trust.rs", "use crate::AUTHORITY_NAME;\nuse super::{authority_name, config};"),
            ("lib.rs", "pub use config::{AUTHORITY_NAME, authority_name};"),
        ]);
        let [name, function, cycle] = &faults[..] else { panic!("{faults:?}") };
        let refused = "is no module: name things by the module they live in";
        assert_eq!(*name, format!("agent/src/trust.rs:1: `AUTHORITY_NAME` {refused}"));
        assert_eq!(*function, format!("agent/src/trust.rs:2: `authority_name` {refused}"));
        assert!(cycle.contains("modules use each other, config -> trust -> config"), "{cycle}");
        assert_eq!(found(&[("config.rs", "use crate::*;")]).len(), 1);
    }

    #[test]
    fn tests_and_modules_below_one_name_are_no_cycle() {
        assert!(
            found(&[
                ("config/tests/keys.rs", "use crate::client::Client;"),
                ("config/mod.rs", "#[cfg(test)] mod tests { use crate::client::Client; }"),
                ("client.rs", "use crate::config::Settings; use crate::client::x;"),
                ("lib.rs", "use crate::client::Client;"),
            ])
            .is_empty()
        );
    }
}
