//! The rooms of the house: each file says at its head what belongs there, no name is one that anything could hide behind,
//! and every room of a wing stands on the map, `docs/ARCHITECTURE.md`.

use std::path::{Path, PathBuf};

use crate::{WINGS, show};

const MAP: &str = include_str!("../../docs/ARCHITECTURE.md");

/// Names that say nothing.
const VAGUE: [&str; 6] = ["mod", "utils", "util", "common", "helpers", "misc"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below these directories.
fn sources(directories: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = directories.iter().map(|it| root().join(it)).collect();
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory of ours") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            if path.is_dir() && name != Some("node_modules") {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_file_says_at_its_head_what_belongs_there() {
    for path in sources(&["src", "tests", "benches", "examples", "fuzz/fuzz_targets"]) {
        let text = std::fs::read_to_string(&path).expect("a file of ours");
        let paragraph = text.lines().next().unwrap_or_default();
        assert!(paragraph.starts_with("//! "), "{}", path.display());
    }
}

#[test]
fn no_room_has_a_name_that_says_nothing() {
    for path in sources(&["src", "tests", "benches", "examples"]) {
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("a name in UTF-8");
        assert!(!VAGUE.contains(&name), "{}", path.display());
    }
}

#[test]
fn every_room_of_a_wing_stands_on_the_map() {
    for wing in WINGS {
        let (_, section) = MAP
            .split_once(&format!("\n### {wing}\n"))
            .expect("the wing is on the map");
        let section = section.split("\n#").next().unwrap_or_default();
        for path in std::fs::read_dir(root().join("src").join(wing)).expect("a wing") {
            let path = path.expect("an entry").path();
            let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
                continue;
            };
            let is_room = path.is_file() && name != "tests";
            let drawn = [format!("`{name}.rs`"), format!("`{name}/`")];
            let is_drawn = drawn.iter().any(|it| section.contains(it));
            let module = vec![wing.to_owned(), name.to_owned()];
            assert!(!is_room || is_drawn, "{} is not drawn", show(&module));
        }
    }
}
