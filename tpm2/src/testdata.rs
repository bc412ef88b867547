//! The files of the directory `testdata`, which the published package leaves out.

use std::path::Path;
use std::string::String;

/// One of them; `None` in a published package, where the tests that need it have nothing to test.
pub(crate) fn read(name: &str) -> Option<&'static str> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    match std::fs::read_to_string(package.join("testdata").join(name)) {
        Ok(text) => Some(String::leak(text)),
        Err(error) => {
            let is_published = !package.join("api.txt").exists();
            assert!(is_published, "testdata/{name}: {error}");
            None
        }
    }
}
