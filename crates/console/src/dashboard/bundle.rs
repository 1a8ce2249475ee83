//! Bundles the page's modules into one classic script.
//!
//! A browser fetches modules in CORS mode, with an `Origin` even for its own server. A CORS middleware that allows only other
//! origins rejects them. A classic script is fetched without `Origin`.

/// A module: the name of its file, and its source.
pub(super) type Module = (&'static str, &'static str);

/// Returns one script that runs `modules` in order. Each module must come after those that it imports.
///
/// Accepts only the syntax of the page's modules: an `import` of names is one line, and an `export` begins the line of a
/// declaration. Each module becomes a function that returns its exports.
pub(super) fn bundle(modules: &[Module]) -> String {
    let mut script = "\"use strict\";\n{\n".to_owned();
    for (file, source) in modules {
        let mut exports = Vec::new();
        script.extend(["const ", &variable(file), " = (() => {\n"]);
        for line in source.lines() {
            if let Some((names, from)) = import(line) {
                let names = names.replace(" as ", ": ");
                script.extend(["const {", &names, "} = ", &variable(from), ";\n"]);
                continue;
            }
            let declaration = line.strip_prefix("export ");
            exports.extend(declaration.and_then(declared));
            script.extend([declaration.unwrap_or(line), "\n"]);
        }
        script.extend(["return { ", &exports.join(", "), " };\n})();\n"]);
    }
    script.push_str("}\n");
    script
}

/// The names and the file of an import: `import { a, b as c } from "./file.js";`.
fn import(line: &str) -> Option<(&str, &str)> {
    let (names, from) = line.strip_prefix("import {")?.split_once("} from \"./")?;
    Some((names, from.strip_suffix("\";")?))
}

/// The name that a declaration introduces: `class A {`, `function a(`, `async function a(`, `const a =`.
fn declared(declaration: &str) -> Option<&str> {
    let declaration = declaration.strip_prefix("async ").unwrap_or(declaration);
    let (_, named) = declaration.split_once(' ')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    named.split(|c| !is_name(c)).next()
}

/// The variable that holds a file's exports.
fn variable(file: &str) -> String {
    format!("module_{}", file.trim_end_matches(".js"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_become_functions_in_one_script() {
        let library = "export const A = 1;\nexport const $ = (id) => id;\nexport class B {}\nexport async function c(d) {}\nconst own = 2;";
        let page = "import { A, B as E, $ } from \"./library.js\";\nnew E(A);";
        assert_eq!(
            bundle(&[("library.js", library), ("page.js", page)]),
            "\"use strict\";\n{\nconst module_library = (() => {\nconst A = 1;\nconst $ = (id) => id;\nclass B {}\n\
             async function c(d) {}\nconst own = 2;\nreturn { A, $, B, c };\n})();\nconst module_page = (() => {\n\
             const { A, B: E, $ } = module_library;\nnew E(A);\nreturn {  };\n})();\n}\n"
        );
    }
}
