//! Tests and files that `docs/` refers to exist.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use xtask::source::{rust_files, tests};
use xtask::workspace;

#[test]
fn every_test_that_the_list_names_is_there() -> Result<()> {
    let mut known = BTreeSet::new();
    for (_, source) in rust_files(workspace())? {
        known.extend(tests(&source)?);
    }
    let list = fs::read_to_string(workspace().join("docs/known-faults.md"))?;
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

#[test]
fn paths_in_the_guide_for_first_changes_exist() -> Result<()> {
    let page = fs::read_to_string(workspace().join("docs/first-change.md"))?;
    let quoted = page.split('`').skip(1).step_by(2);
    let paths: Vec<_> = quoted.filter(|text| text.contains('/') && !text.contains(' ')).collect();
    assert!(paths.len() >= 30, "{paths:?}");
    for path in paths {
        assert!(workspace().join(path).exists(), "{path} does not exist");
    }
    Ok(())
}
