//! The list of bugs that others have had names tests that there are, and all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR"));
    docs.parent().expect("docs is inside the repository").into()
}

/// What stands between backticks in a cell.
fn quoted(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

/// Files with the tests that the page has under them: the header of a table names the file.
fn listed() -> Vec<(String, BTreeSet<String>)> {
    let page = fs::read_to_string(root().join("docs/reference/regressions.md")).unwrap();
    let mut all: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cell = line.trim_end_matches('|').rsplit('|').next().unwrap();
        match (quoted(cell), cell.trim().starts_with("test in")) {
            (Some(file), true) => all.push((file.into(), BTreeSet::new())),
            (Some(test), false) => {
                let (_, tests) = all.last_mut().expect("a header comes first");
                tests.insert(test.into());
            }
            (None, _) => assert!(line.starts_with("|-"), "no test: {line}"),
        }
    }
    all
}

/// Names of the tests in a file.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[test]" {
            let name = lines.next().unwrap_or_default().trim();
            let name = name.trim_start_matches("fn ").split('(').next();
            tests.insert(name.unwrap_or_default().to_string());
        }
    }
    tests
}

#[test]
fn each_bug_has_a_test_and_each_such_test_is_listed() {
    let listed = listed();
    assert_eq!(listed.len(), 3);
    for (file, named) in listed {
        let source = fs::read_to_string(root().join(&file)).expect(&file);
        let there = tests_in(&source);
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(missing.is_empty(), "not in {file}: {missing:?}");
        let is_one = |test: &&String| {
            ["issue_", "commit_", "cecb5de8"]
                .iter()
                .any(|start| test.starts_with(start))
        };
        let unlisted: Vec<_> = there.difference(&named).filter(is_one).collect();
        assert!(
            unlisted.is_empty(),
            "of {file}, not on the page: {unlisted:?}"
        );
    }
}
