//! Bundles the page's modules into one classic script.
//!
//! A browser fetches modules in CORS mode, with an `Origin` even for its own server. A CORS middleware that allows only other
//! origins rejects them. A classic script is fetched without `Origin`.

use std::collections::BTreeSet;

/// A module: the name of its file, and its source.
pub(super) type Module = (&'static str, &'static str);

/// Returns one script that contains `modules` in order, and one that contains the modules `later`, which it may load. Each
/// module must come after those that it imports. The later script finds what it imports of the first one in the variable
/// `vitals`, and adds what it exports.
///
/// Accepts only the syntax of the page's modules: an `import` is one line and renames nothing, and an `export` begins the
/// line of a declaration. All modules of a script share one scope, so no two of them may declare the same name.
pub(super) fn bundle(modules: &[Module], later: &[Module]) -> (String, String) {
    let is_in_first = |from: &str| modules.iter().any(|(name, _)| *name == from);
    let imports = later.iter().flat_map(|(_, source)| source.lines());
    let imports = imports
        .filter_map(imported)
        .filter(|(_, from)| is_in_first(from));
    let names: BTreeSet<_> = imports.flat_map(|(names, _)| names.split(", ")).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let exports = later.iter().flat_map(|(_, source)| source.lines());
    let exports = exports.filter(|line| line.starts_with("export "));
    let exports = exports.filter_map(declared).collect::<Vec<_>>().join(", ");
    (
        format!(
            "\"use strict\";\n{{\n{}window.vitals = {{ {names} }};\n}}\n",
            body(modules)
        ),
        format!(
            "\"use strict\";\n{{\nconst {{ {names} }} = window.vitals;\n{}Object.assign(window.vitals, {{ {exports} }});\n}}\n",
            body(later)
        ),
    )
}

/// The lines of modules without their imports, and without the word `export`.
fn body(modules: &[Module]) -> String {
    let mut body = String::new();
    let lines = modules.iter().flat_map(|(_, source)| source.lines());
    for line in lines.filter(|line| !line.starts_with("import ")) {
        body.extend([line.strip_prefix("export ").unwrap_or(line), "\n"]);
    }
    body
}

/// The names that a line imports, separated by commas, and the module.
fn imported(line: &str) -> Option<(&str, &str)> {
    let (names, from) = line.strip_prefix("import { ")?.split_once(" } from \"./")?;
    Some((names, from.strip_suffix("\";")?))
}

/// The name that a line declares at the level of its module: `const a =`, `let a =`, `class A {`, `async function a(`.
pub(super) fn declared(line: &str) -> Option<&str> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let (keyword, named) = line.split_once(' ')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let name = named.split(|c| !is_name(c)).next();
    name.filter(|name| !name.is_empty() && ["const", "let", "class", "function"].contains(&keyword))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_share_one_scope_of_one_script() {
        let library = "export const A = 1;\nexport async function c(d) {}\nconst own = 2;";
        let page = "import { A, c } from \"./library.js\";\nc(A);";
        let (script, _) = bundle(&[("library.js", library), ("page.js", page)], &[]);
        assert_eq!(
            script,
            "\"use strict\";\n{\nconst A = 1;\nasync function c(d) {}\nconst own = 2;\nc(A);\nwindow.vitals = {  };\n}\n"
        );
    }

    #[test]
    fn a_later_script_has_what_it_imports_and_adds_what_it_exports() {
        let library = (
            "library.js",
            "export const A = 1;\nexport const c = 2;\nconst own = 3;",
        );
        let bars = (
            "bars.js",
            "import { c } from \"./library.js\";\nexport const bar = c;",
        );
        let view = (
            "view.js",
            "import { bar } from \"./bars.js\";\nimport { A, c } from \"./library.js\";\nexport function show() {}",
        );
        let (first, later) = bundle(&[library], &[bars, view]);
        assert!(
            first.ends_with("const own = 3;\nwindow.vitals = { A, c };\n}\n"),
            "{first}"
        );
        assert_eq!(
            later,
            "\"use strict\";\n{\nconst { A, c } = window.vitals;\nconst bar = c;\nfunction show() {}\nObject.assign(window.vitals, { bar, show });\n}\n"
        );
    }

    #[test]
    fn declarations_of_a_module_are_found() {
        for (line, expected) in [
            ("export const $ = (id) => id;", Some("$")),
            ("export async function c(d) {}", Some("c")),
            ("class Point {", Some("Point")),
            ("let a = 1;", Some("a")),
            ("  const inner = 1;", None),
            ("const { a } = b;", None),
            ("const [a, b] = c;", None),
            ("for (const a of b) {", None),
        ] {
            assert_eq!(declared(line), expected, "{line}");
        }
    }
}
