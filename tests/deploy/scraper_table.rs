//! The tests that `docs/SCRAPERS.md` names exist in this binary.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::deployment::{read, root};

#[test]
fn every_test_that_the_table_names_exists() {
    let binary = std::env::current_exe().expect("a running test");
    let listed = Command::new(binary).arg("--list").output().expect("a list");
    let listed = String::from_utf8(listed.stdout).expect("names");
    let tests: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let document = read(&root().join("docs/SCRAPERS.md"));
    let rows = document.lines().filter(|line| line.starts_with('|'));
    let named: BTreeSet<&str> = rows
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .filter(|code| code.contains("::"))
        .collect();
    assert!(named.len() > 15, "only {named:?}");
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
