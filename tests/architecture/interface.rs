//! The public interface of the library, listed: what is `pub` in the registry and the recorders, with its signature. The
//! compiler's `unreachable_pub` sees to it that this is what can be reached.
//!
//! `make api` writes the listing anew; a change of it is for a reviewer to see, and a line that goes is a breaking one.

use std::fmt::Write as _;
use std::path::Path;

use crate::graph::Tree;
use crate::{height, real_tree, show};

/// The public declarations of a file, each on one line: items, fields, methods below their `impl`, and all of an enum or a
/// trait.
fn declarations(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut heading: Option<String> = None;
    // What is being taken: its text so far, and how it ends.
    let mut taking: Option<(String, bool)> = None;
    for line in source.lines() {
        if line == "#[cfg(test)]" || line.starts_with("mod tests") {
            break;
        }
        let text = line.trim();
        if text.starts_with("//") || text.starts_with("#[") && taking.is_some() {
            continue;
        }
        if taking.is_none() {
            if line.starts_with("impl") || line.starts_with("unsafe impl") {
                heading = Some(String::new());
                taking = Some((String::new(), false));
            } else if text.starts_with("pub ") {
                let is_whole = text.starts_with("pub enum") || text.starts_with("pub trait");
                taking = Some((String::new(), is_whole));
            } else if line == "}" {
                heading = None;
                continue;
            } else {
                continue;
            }
        }
        let Some((so_far, is_whole)) = &mut taking else {
            continue;
        };
        let separator = if so_far.is_empty() { "" } else { " " };
        write!(so_far, "{separator}{text}").expect("a string takes all");
        let is_over = if *is_whole {
            line == "}"
        } else {
            text.ends_with(['{', ';', '}']) || is_field(so_far)
        };
        if !is_over {
            continue;
        }
        let declaration = so_far.trim_end_matches(['{', ',', ' ']).to_owned();
        let is_heading = declaration.starts_with("impl");
        taking = None;
        if is_heading {
            // An implementation of a trait is public by itself; another by what it holds.
            if declaration.contains(" for ") {
                found.push(declaration.clone());
            }
            heading = (!text.ends_with('}')).then_some(declaration);
        } else {
            match &heading {
                Some(heading) => found.push(format!("{heading} :: {declaration}")),
                None => found.push(declaration),
            }
        }
    }
    found
}

/// Whether this is the whole field of a struct: no parenthesis or bracket is open at its comma.
fn is_field(text: &str) -> bool {
    let open = text.matches(['(', '<', '[']).count();
    let closed = text.matches([')', '>', ']']).count() - text.matches("->").count();
    text.ends_with(',') && open == closed && !text.contains(" fn ")
}

fn listing(tree: &Tree) -> String {
    let mut listing = String::new();
    // The service is no library.
    for (module, source) in tree.files().filter(|(module, _)| height(module) != 2) {
        let declarations = declarations(source);
        if declarations.is_empty() {
            continue;
        }
        writeln!(listing, "{}", show(module)).expect("a string takes all");
        for declaration in declarations {
            writeln!(listing, "    {declaration}").expect("a string takes all");
        }
    }
    listing
}

#[test]
fn the_public_interface_is_as_it_was_reviewed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/architecture/api.txt");
    let now = listing(&real_tree());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, now).expect("the listing can be written");
        return;
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    for (reviewed, now) in reviewed.lines().zip(now.lines()) {
        assert_eq!(reviewed, now, "`make api` writes the listing anew");
    }
    assert_eq!(reviewed, now, "`make api` writes the listing anew");
}

#[test]
fn a_change_of_the_interface_is_seen() {
    let source = "\
/// Doc.
pub struct A<T> {
    /// Doc.
    pub field: Vec<T>,
    hidden: u8,
}
impl<T> A<T> {
    /// Doc.
    pub fn long(
        &self,
        other: &T,
    ) -> u8 {
        let pub_like = 1;
    }
    pub(crate) fn hidden(&self) {}
}
#[non_exhaustive]
pub enum B {
    /// Doc.
    One(u8),
    Two { x: u8 },
}
impl Clone for B {
    fn clone(&self) -> Self {}
}
pub const C: u8 = 1;
#[cfg(test)]
mod tests {
    pub fn unseen() {}
}
";
    assert_eq!(
        declarations(source),
        [
            "pub struct A<T>",
            "pub field: Vec<T>",
            "impl<T> A<T> :: pub fn long( &self, other: &T, ) -> u8",
            "pub enum B { One(u8), Two { x: u8 }, }",
            "impl Clone for B",
            "pub const C: u8 = 1;",
        ]
    );
}
