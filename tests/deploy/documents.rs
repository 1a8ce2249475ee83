//! The documents: their links lead somewhere, and the tests that they name exist.

use std::path::Path;

use super::anchors;
use crate::support::deployment::{read, root};

#[test]
fn links_between_the_documents_lead_somewhere() {
    for name in ["RUNBOOK.md", "DEPLOY.md", "SCALE.md"] {
        let document = read(&root().join("docs").join(name));
        for link in document
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with("http") {
                continue;
            }
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { name } else { path };
            let target = root().join("docs").join(path);
            assert!(target.exists(), "{name} links to {link}");
            if !section.is_empty() {
                assert!(
                    anchors(&read(&target)).contains(section),
                    "{name} links to {link}"
                );
            }
        }
    }
}

/// The source of a module: its file, and the files in the directory of its name.
fn sources(module: &Path) -> String {
    let entries = std::fs::read_dir(module).into_iter().flatten();
    let inner = entries.map(|entry| entry.expect("an entry").path());
    let own = module.with_extension("rs");
    inner
        .chain(own.is_file().then_some(own))
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| read(&path))
        .collect()
}

#[test]
fn every_test_that_holds_a_promise_of_security_exists() {
    let document = read(&root().join("docs/SECURITY.md"));
    let (_, table) = document
        .split_once("| what | in | test |")
        .expect("a table");
    let rows = table.lines().skip(2).take_while(|line| !line.is_empty());
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, _, place, test, _] = cells[..] else {
            panic!("not three cells: {row}");
        };
        let function = format!("fn {}(", test.trim_matches('`'));
        assert!(
            sources(&root().join(place)).contains(&function),
            "{place} has no {function}"
        );
        count += 1;
    }
    assert!(count > 30, "only {count} rows");
}

#[test]
fn the_deployment_guide_says_at_its_top_what_was_never_run() {
    let guide = read(&root().join("docs/DEPLOY.md"));
    let top: String = guide.lines().take(4).collect();
    assert!(
        top.contains("container files have never been built or started"),
        "{top}"
    );
}
