//! Bundles the page's modules into one classic script.
//!
//! A browser fetches modules in CORS mode, with an `Origin` even for its own server. A CORS middleware that allows only other
//! origins rejects them. A classic script is fetched without `Origin`.

/// A module: the name of its file, and its source.
pub(super) type Module = (&'static str, &'static str);

/// Returns one script that contains `modules` in order. Each module must come after those that it imports.
///
/// Accepts only the syntax of the page's modules: an `import` is one line and renames nothing, and an `export` begins the
/// line of a declaration. All modules share one scope, so no two of them may declare the same name.
pub(super) fn bundle(modules: &[Module]) -> String {
    let mut script = "\"use strict\";\n{\n".to_owned();
    let lines = modules.iter().flat_map(|(_, source)| source.lines());
    for line in lines.filter(|line| !line.starts_with("import ")) {
        script.extend([line.strip_prefix("export ").unwrap_or(line), "\n"]);
    }
    script.push_str("}\n");
    script
}

/// The name that a line declares at the level of its module: `const a =`, `let a =`, `class A {`, `async function a(`.
#[cfg(test)]
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
        assert_eq!(
            bundle(&[("library.js", library), ("page.js", page)]),
            "\"use strict\";\n{\nconst A = 1;\nasync function c(d) {}\nconst own = 2;\nc(A);\n}\n"
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
