//! Makes the files of the page smaller by rules that need no parser: they remove comments, indentation and spaces. The sources
//! must not have a literal of several lines.

/// What needs no space around it in a script. Not `+` and `-`: `a - -1` needs its space. Not `!`: `<!--` begins a comment.
/// Before a digit, `?.` is a condition and a fraction.
const PUNCTUATION: [char; 16] = [
    '=', ',', ';', ':', '{', '}', '(', ')', '[', ']', '<', '>', '*', '&', '|', '?',
];

/// Removes indentation, empty lines, and lines that are only a comment.
pub(crate) fn slim(source: &str) -> String {
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
pub(crate) fn slim_style(source: &str) -> String {
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

/// Slims a script, and removes spaces beside punctuation. Leaves lines as they are where a regular expression, a comment, an
/// escape or a text between single quotes may be.
pub(crate) fn slim_script(source: &str) -> String {
    let slim = slim(source);
    let mut script = String::with_capacity(slim.len());
    for line in slim.lines() {
        let start = script.len();
        if push_line(&mut script, line).is_none() {
            script.truncate(start);
            script.push_str(line);
        }
        script.push('\n');
    }
    script
}

/// What a character of a script is part of.
enum Part {
    Code,
    Text,
    Template,
}

/// Appends a line without the spaces of its code. Returns `None` if not everything in the line is understood.
fn push_line(script: &mut String, line: &str) -> Option<()> {
    let mut part = Part::Code;
    let mut code = String::new();
    // The open braces within each `${`, the innermost last.
    let mut open: Vec<usize> = Vec::new();
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        match (&part, next) {
            (_, '\\') | (Part::Code, '\'' | '/') => return None,
            (Part::Code, '"' | '`') => {
                push_code(script, &std::mem::take(&mut code));
                script.push(next);
                part = if next == '"' {
                    Part::Text
                } else {
                    Part::Template
                };
            }
            (Part::Code, '}') if open.last() == Some(&0) => {
                push_code(script, &std::mem::take(&mut code));
                script.push(next);
                open.pop();
                part = Part::Template;
            }
            (Part::Code, _) => {
                if let Some(braces) = open.last_mut() {
                    *braces += usize::from(next == '{');
                    *braces -= usize::from(next == '}');
                }
                code.push(next);
            }
            (Part::Text, '"') | (Part::Template, '`') => {
                script.push(next);
                part = Part::Code;
            }
            (Part::Template, '$') if rest.as_str().starts_with('{') => {
                rest.next();
                script.push_str("${");
                open.push(0);
                part = Part::Code;
            }
            (Part::Text | Part::Template, _) => script.push(next),
        }
    }
    push_code(script, &code);
    matches!(part, Part::Code).then_some(())
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
            ("a = b < !c ? .5 : d;", "a=b<!c?.5:d;"),
            ("return \"a\" in b ?? c;", "return \"a\" in b??c;"),
            (
                "f(`${ { a: b } } , ${c ? `( ${d} )` : \"e , \"}`, g);",
                "f(`${{a:b}} , ${c?`( ${d} )`:\"e , \"}`,g);",
            ),
            ("f(`a / b`, c);", "f(`a / b`,c);"),
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
