//! Holds the house to its plan: three wings whose arrows point down, no circle between files, a pure registry.
//!
//! The rules stand here; how source is read and arrows are found stands beside. Behaviour is tested elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod graph;
mod interface;
mod package;
mod rooms;
mod source;

use std::path::Path;

use graph::{Module, Tree, circle};

/// The wings from the ground up: each may name itself and those before it.
const WINGS: [&str; 3] = ["registry", "vitals", "service"];

/// Crates that the registry must not name, by their first letters or their whole name.
const FOREIGN_TO_REGISTRY: [&str; 7] = [
    "actix", "diesel", "tokio", "r2d2", "procfs", "reqwest", "tracing",
];

/// Words of the standard library that would give the registry a clock or a way out.
const IMPURE: [&str; 5] = ["Instant", "SystemTime", "fs", "net", "env"];

/// How high a module stands: its wing, or the roof above all wings.
fn height(module: &Module) -> usize {
    let wing = module.first().map(String::as_str);
    WINGS
        .iter()
        .position(|name| wing == Some(name))
        .unwrap_or(WINGS.len())
}

/// One sentence for each arrow that points up.
fn upward_arrows(tree: &Tree) -> Vec<String> {
    tree.arrows()
        .iter()
        .filter(|((from, to), _)| height(to) > height(from))
        .map(|((from, to), path)| format!("{} names {} (as {path})", show(from), show(to)))
        .collect()
}

/// One sentence for each word in the registry that takes away its purity.
fn impurities(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (module, text) in tree.files().filter(|(module, _)| height(module) == 0) {
        for word in source::words(text) {
            if FOREIGN_TO_REGISTRY
                .iter()
                .any(|name| word == *name || word.starts_with(&format!("{name}_")))
            {
                found.push(format!("{} names {word}", show(module)));
            }
        }
        for path in source::named_paths(text) {
            if path.segments[0] == "std"
                && path
                    .segments
                    .iter()
                    .any(|part| IMPURE.contains(&part.as_str()))
            {
                found.push(format!(
                    "{} names {}",
                    show(module),
                    path.segments.join("::")
                ));
            }
        }
    }
    found
}

fn show(module: &Module) -> String {
    if module.is_empty() {
        return "lib.rs".to_owned();
    }
    format!("{}.rs", module.join("/"))
}

fn real_tree() -> Tree {
    Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("the source can be read")
}

#[test]
fn no_arrow_between_the_wings_points_up() {
    let found = upward_arrows(&real_tree());
    assert!(
        found.is_empty(),
        "arrows that point up:\n{}",
        found.join("\n")
    );
}

#[test]
fn no_circle_stands_between_the_files_of_the_crate() {
    let found = circle(&real_tree().arrows());
    let shown = found.map(|files| files.iter().map(show).collect::<Vec<_>>().join(" -> "));
    assert_eq!(shown, None);
}

#[test]
fn the_registry_is_pure() {
    let found = impurities(&real_tree());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_upward_arrow_is_caught_however_it_is_written() {
    let spellings = [
        ("use crate::vitals::Vitals;", "a plain import"),
        (
            "pub use crate::{vitals::{self, http::Monitor}};",
            "a nested group",
        ),
        (
            "fn f() { crate::vitals::start() }",
            "a path in an expression",
        ),
        ("use super::vitals;", "a relative import"),
        (
            "mod inner { use super::super::vitals::Vitals; }",
            "from an inline module",
        ),
        (
            "macro_rules! m { () => { $crate::vitals::start() } }",
            "in a macro",
        ),
    ];
    for (source, why) in spellings {
        let tree = Tree::new(&[
            ("registry.rs", source),
            ("vitals.rs", ""),
            ("vitals/http.rs", ""),
        ]);
        assert!(
            !upward_arrows(&tree).is_empty(),
            "{why} was missed: {source}"
        );
    }
}

#[test]
fn what_only_looks_like_an_upward_arrow_is_let_be() {
    let innocent = [
        ("// use crate::vitals::Vitals;", "a comment"),
        (
            "/* /* nested */ crate::vitals::x */",
            "a nested block comment",
        ),
        ("const A: &str = \"crate::vitals\";", "a string"),
        (
            "const A: &str = r#\"\" crate::vitals::x\"#;",
            "a raw string",
        ),
        (
            "const A: char = '\"'; const B: char = '\\''; // crate::vitals::x",
            "quotes in characters",
        ),
        (
            "#[cfg(test)]\nmod tests { use crate::vitals::Vitals; }",
            "test code",
        ),
        (
            "#[cfg(test)] use crate::vitals::{Vitals, http};",
            "an import for tests",
        ),
        ("use other::vitals::Vitals;", "another crate"),
    ];
    for (source, why) in innocent {
        let tree = Tree::new(&[
            ("registry.rs", source),
            ("vitals.rs", ""),
            ("registry/tests.rs", "use crate::vitals::V;"),
        ]);
        assert_eq!(
            upward_arrows(&tree),
            Vec::<String>::new(),
            "{why}: {source}"
        );
    }
}

#[test]
fn an_arrow_behind_a_test_item_is_still_seen() {
    let source =
        "#[cfg(test)] mod tests { fn a() {} }\n#[cfg(test)] use a::{b};\nuse crate::service::X;";
    let tree = Tree::new(&[("registry.rs", source), ("service.rs", "")]);
    assert_eq!(upward_arrows(&tree).len(), 1);
}

#[test]
fn the_roof_is_above_every_wing() {
    let tree = Tree::new(&[
        ("lib.rs", "pub use service::X;"),
        ("service.rs", "use crate::VERSION;"),
    ]);
    assert_eq!(upward_arrows(&tree).len(), 1);
}

#[test]
fn a_circle_inside_a_wing_is_caught() {
    let siblings = Tree::new(&[
        ("registry.rs", "mod a; mod b; pub use a::A;"),
        ("registry/a.rs", "use super::b::B;"),
        ("registry/b.rs", "use crate::registry::a::A;"),
    ]);
    assert!(circle(&siblings.arrows()).is_some(), "two siblings");

    let through_the_parent = Tree::new(&[
        ("registry.rs", "mod a; pub struct P; fn f() { a::g() }"),
        ("registry/a.rs", "use super::P;"),
    ]);
    assert!(
        circle(&through_the_parent.arrows()).is_some(),
        "a child and its parent"
    );
}

#[test]
fn a_tree_without_a_circle_passes() {
    let tree = Tree::new(&[
        ("lib.rs", "pub mod registry;"),
        ("registry.rs", "mod a; mod b; mod c; pub use {a::A, b::B};"),
        ("registry/a.rs", "use super::{b::B, c};\n fn f() { c::g() }"),
        ("registry/b.rs", "use super::c::C;"),
        ("registry/c.rs", "mod inner { use super::Own; }"),
    ]);
    assert_eq!(circle(&tree.arrows()), None);
    assert_eq!(tree.arrows().len(), 5, "{:#?}", tree.arrows());
}

#[test]
fn an_impure_registry_is_caught() {
    for source in [
        "use std::time::{Duration, Instant};",
        "fn f() { std::fs::read(\"x\"); }",
        "use std::{net::TcpStream};",
        "use actix_web::web;",
        "fn f() -> tokio::task::JoinHandle<()> { g() }",
        "use diesel::prelude::*;",
    ] {
        let tree = Tree::new(&[("registry/a.rs", source)]);
        assert!(!impurities(&tree).is_empty(), "missed: {source}");
    }
    let pure = Tree::new(&[(
        "registry/a.rs",
        "use std::time::Duration; use std::sync::Arc; // Instant",
    )]);
    assert_eq!(impurities(&pure), Vec::<String>::new());
}
