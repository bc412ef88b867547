//! `docs/known-faults.md` names tests, and each of them is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

/// The names of functions in all sources under a directory.
fn functions(directory: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden && !path.ends_with("target") {
            functions(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let defined = text.lines().filter_map(|line| line.split_once("fn ")?.1.split_once('('));
            names.extend(defined.map(|(name, _)| name.to_owned()));
        }
    }
    Ok(())
}

#[test]
fn every_test_that_the_list_names_is_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeSet::new();
    functions(&root, &mut known)?;
    let list = fs::read_to_string(root.join("docs/known-faults.md"))?;
    let rows = list.lines().filter(|line| line.starts_with('|'));
    // Behind a file in the last column stands a sentence: a name of four words or more is a test.
    let mut named = 0;
    for row in rows {
        let column = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        for test in column.split('`').skip(1).step_by(2) {
            let sentence = test.matches('_').count() >= 3 && !test.contains(['/', '.']);
            if sentence {
                assert!(known.contains(test), "{test} is nowhere: {row}");
                named += 1;
            }
        }
    }
    assert!(named >= 40, "{named}");
    Ok(())
}
