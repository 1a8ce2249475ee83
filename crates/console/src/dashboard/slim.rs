//! Makes the files of the page smaller by rules that need no parser: they remove comments, indentation and spaces. The sources
//! must not have a literal of several lines.

/// What needs no space around it in a script. Not `+` and `-`: `a - -1` needs its space. Not `!`: `<!--` begins a comment.
const PUNCTUATION: [char; 15] = [
    '=', ',', ';', ':', '{', '}', '(', ')', '[', ']', '<', '>', '*', '&', '|',
];

/// Removes indentation, empty lines, and lines that are only a comment.
pub(super) fn slim(source: &str) -> String {
    let mut slim = String::with_capacity(source.len());
    let mut in_comment = false;
    for line in source.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if in_comment {
            in_comment = !line.ends_with("*/");
        } else if !line.is_empty() && !line.starts_with("//") {
            slim.push_str(line);
            slim.push('\n');
        }
    }
    slim
}

/// Slims a style, and removes spaces that separate nothing. No text in the style may contain them.
pub(super) fn slim_style(source: &str) -> String {
    let spaces = [
        (" {", "{"),
        ("{ ", "{"),
        (" }", "}"),
        ("; ", ";"),
        (": ", ":"),
        (", ", ","),
    ];
    (spaces.iter()).fold(slim(source), |style, (spaced, plain)| {
        style.replace(spaced, plain)
    })
}

/// Slims a script, and removes spaces beside punctuation. Leaves lines as they are where a text, a regular expression or a
/// comment may be that is not between double quotes.
pub(super) fn slim_script(source: &str) -> String {
    let slim = slim(source);
    let mut script = String::with_capacity(slim.len());
    for line in slim.lines() {
        if line.contains(['\'', '`', '/', '\\']) {
            script.push_str(line);
        } else {
            // Every second part is a text.
            for (at, part) in line.split('"').enumerate() {
                script.push_str(if at > 0 { "\"" } else { "" });
                if at % 2 == 0 {
                    push_code(&mut script, part);
                } else {
                    script.push_str(part);
                }
            }
        }
        script.push('\n');
    }
    script
}

/// Appends code without the spaces that are before or after punctuation.
fn push_code(script: &mut String, code: &str) {
    let mut is_after_punctuation = false;
    for (at, part) in code.split(' ').enumerate() {
        let is_beside = is_after_punctuation || part.starts_with(PUNCTUATION);
        if at > 0 && !is_beside {
            script.push(' ');
        }
        script.push_str(part);
        is_after_punctuation = part.ends_with(PUNCTUATION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_indentation_and_comments_are_removed() {
        let source = "/* a comment */\n:root {\n  --a: 1; /* kept */\n}\n\n/**\n * Doc.\n */\n// note\na = b // c\n  * d;\n";
        assert_eq!(
            slim(source),
            ":root {\n--a: 1; /* kept */\n}\na = b // c\n* d;\n"
        );
    }

    #[test]
    fn a_style_loses_the_spaces_around_blocks_and_values() {
        let style = ".a, .b :hover { margin: 0 1px; }\n@media (width: 1px) { a { color: red; } }\n";
        assert_eq!(
            slim_style(style),
            ".a,.b :hover{margin:0 1px;}\n@media (width:1px){a{color:red;}}\n"
        );
    }

    #[test]
    fn a_script_loses_spaces_beside_punctuation_and_no_others() {
        for (code, expected) in [
            ("const { a } = (b, c) => d;", "const{a}=(b,c)=>d;"),
            ("for (const [a] of b) c();", "for(const[a]of b)c();"),
            ("return a + -b - -c;", "return a + -b - -c;"),
            ("a = b < !c ? .5 : d;", "a=b<!c ? .5:d;"),
            ("f(\"a , b\", c, \" = \");", "f(\"a , b\",c,\" = \");"),
            ("f(`a , b`);", "f(`a , b`);"),
            ("a = / , /.test(b);", "a = / , /.test(b);"),
            ("f(\"a\\\" , \");", "f(\"a\\\" , \");"),
            ("f(a); // b , c", "f(a); // b , c"),
        ] {
            assert_eq!(slim_script(code), format!("{expected}\n"), "{code}");
        }
    }
}
