//! What an operator writes: bots and tokens in YAML.

use authority::resource::{Resource, read, to_yaml};

use crate::{Verdict, assert_harmless};

/// The input is a stream of documents.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    match read(text) {
        Ok(resources) => {
            assert!(!resources.is_empty());
            resources.iter().for_each(check);
            Verdict::Accepted
        }
        Err(error) => {
            // A carriage return alone ends a line too: YAML 1.2 section 5.4.
            let breaks = text.matches(['\n', '\r']).count() as u64;
            assert!((1..=breaks + 2).contains(&error.line), "{error}");
            assert_harmless(&error.message);
            Verdict::Refused
        }
    }
}

/// What is printed reads back to the same, and so does what is stored.
fn check(resource: &Resource) {
    let yaml = to_yaml(resource).expect("what was read can be written");
    match read(&yaml).as_deref() {
        Ok([again]) => assert_eq!(again, resource, "{yaml}"),
        other => panic!("{other:?}\n{yaml}"),
    }
    let json = serde_json::to_string(resource).expect("what was read can be stored");
    let stored = Resource::from_json(resource.kind(), &json).expect("our own record");
    assert_eq!(&stored, resource, "{json}");
}
