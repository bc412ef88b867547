//! What the configuration is held to. The faults, as a person sees them, are files beside this one.

mod faults;
mod hostile;
mod keys;
mod ssh;
mod text;
mod workload_api;
mod workload_identity;

use std::path::Path;

use super::{Findings, Loaded, Overrides, Settings, read, read_with};

const PIN: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The least that a configuration says, without a line break at its end.
const LEAST: &str = "\
proxy_server: example.teleport.sh:443
onboarding:
  token: my-bot-token
  ca_pins: [sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff]";

fn path() -> &'static Path {
    Path::new("/etc/tbot.yaml")
}

fn loaded(text: &str) -> Loaded {
    read(text, path()).unwrap_or_else(|findings| panic!("{text}\n{findings}"))
}

/// The least, and more, without a warning.
fn with(more: &str) -> Settings {
    let loaded = loaded(&format!("{LEAST}\n{more}"));
    assert!(loaded.warnings.is_empty(), "{more}\n{}", loaded.warnings);
    loaded.settings
}

/// What is said of the least and more.
fn refused(more: &str) -> Findings {
    let text = format!("{LEAST}\n{more}");
    read(&text, path()).map_or_else(|findings| findings, |_| panic!("accepted: {more}"))
}

fn over(text: &str, overrides: &Overrides) -> Settings {
    read_with(text, path(), overrides).unwrap_or_else(|findings| panic!("{findings}")).settings
}

/// Compares with the stored snapshot. `UPDATE_SNAPSHOTS=1` rewrites it; review the change.
fn assert_snapshot(name: &str, expected: &str, found: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests");
        std::fs::write(std::path::Path::new(directory).join(name), found).unwrap();
    } else {
        assert!(expected == found, "{name} differs; found:\n{found}");
    }
}
