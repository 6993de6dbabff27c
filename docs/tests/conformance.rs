//! The page of conformance behaviours names tests that there are.

use std::fs;
use std::path::Path;

/// Behaviours that need no container, of the 446 of the suite.
const BEHAVIOURS: usize = 217;

/// The rows of the page: what stands between backticks in the last cell.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| area |"))
        .map(|line| {
            let cell = line.trim_end_matches('|').rsplit('|').next().unwrap();
            cell.split('`').skip(1).step_by(2).collect()
        })
        .collect()
}

#[test]
fn each_named_test_is_there_and_the_page_counts_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    let rows = rows(&page);
    assert_eq!(rows.len(), BEHAVIOURS);
    let named: Vec<&Vec<&str>> = rows.iter().filter(|row| !row.is_empty()).collect();
    for row in &named {
        let [file, test] = row[..] else {
            panic!("not a file and a test: {row:?}")
        };
        let source = fs::read_to_string(root.join(file)).expect(file);
        let function = format!("fn {test}()");
        let at = source
            .find(&function)
            .unwrap_or_else(|| panic!("no {test} in {file}"));
        let before = source[..at].trim_end_matches("async ").trim_end();
        assert!(before.ends_with(']'), "{test} in {file} is no test");
    }
    let count = format!("{} of {BEHAVIOURS} have a test.", named.len());
    assert!(page.contains(&count), "the page should say: {count}");
}
