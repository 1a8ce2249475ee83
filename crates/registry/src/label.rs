//! Labels and names: which are valid, and how values are escaped.
//!
//! Text 0.0.4 and OpenMetrics escape label values alike; they differ in help texts only.

use super::escaping::Escaping;

/// The value of every label of an overflow series.
pub(crate) const OVERFLOW: &str = "overflow";

/// Whether `name` matches `[a-zA-Z_:][a-zA-Z0-9_:]*`, the grammar that every scraper knows.
pub(crate) fn is_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// Whether `name` matches `[a-zA-Z_][a-zA-Z0-9_]*`, the grammar that every scraper knows, and is not reserved (`__…`).
pub(crate) fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':') && !name.starts_with("__")
}

/// Whether a label may have this name: any text that is neither empty nor reserved (`__…`). No scheme may make `__name__` of
/// it.
pub(crate) fn may_be_label_name(name: &str) -> bool {
    let is_name_of_family = |scheme: &Escaping| scheme.label_name(name) == "__name__";
    !name.is_empty()
        && !name.starts_with("__")
        && (is_label_name(name) || !Escaping::CHANGING.iter().any(is_name_of_family))
}

/// Appends `name="value"` with the value escaped, after a comma if `out` is not empty.
pub(crate) fn push_pair(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    push_label_name(out, name);
    out.push_str("=\"");
    push_escaped(out, value, true);
    out.push('"');
}

/// Appends the name of a label: within double quotes if not every scraper knows such names.
pub(crate) fn push_label_name(out: &mut String, name: &str) {
    push_name(out, name, is_metric_name(name) && !name.contains(':'));
}

/// Appends the name of a family: within double quotes if not every scraper knows such names.
pub(crate) fn push_metric_name(out: &mut String, name: &str) {
    push_name(out, name, is_metric_name(name));
}

fn push_name(out: &mut String, name: &str, is_bare: bool) {
    if is_bare {
        out.push_str(name);
    } else {
        out.push('"');
        push_escaped(out, name, true);
        out.push('"');
    }
}

/// Appends `text` with backslashes and line feeds escaped, and double quotes if `quotes` is set.
pub(crate) fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(|c| c == '\\' || c == '\n' || quotes && c == '"') {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for (name, metric, label) in [
            ("a", true, true),
            ("a:b", true, false),
            ("_a9", true, true),
            ("__a", true, false),
            ("9a", false, false),
            ("", false, false),
            ("ä", false, false),
            ("a-b", false, false),
        ] {
            assert_eq!(is_metric_name(name), metric, "{name}");
            assert_eq!(is_label_name(name), label, "{name}");
        }
    }

    #[test]
    fn help_keeps_its_quotes_in_text_only() {
        let mut text = String::new();
        push_escaped(&mut text, "a \"b\" \\ c\nd", false);
        assert_eq!(text, "a \"b\" \\\\ c\\nd");
        text.clear();
        push_escaped(&mut text, "a \"b\" \\ c\nd", true);
        assert_eq!(text, "a \\\"b\\\" \\\\ c\\nd");
    }

    fn unescape(text: &str) -> String {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            out.push(if c == '\\' {
                match chars.next().unwrap() {
                    'n' => '\n',
                    other => other,
                }
            } else {
                c
            });
        }
        out
    }

    proptest! {
        #[test]
        fn an_escaped_value_parses_back_and_never_ends_early(value in "(?s).*") {
            let mut text = String::new();
            push_escaped(&mut text, &value, true);
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(unescape(&text), value);
        }

        #[test]
        fn different_values_escape_differently(a in r#"[\\n"\n]{0,6}"#, b in r#"[\\n"\n]{0,6}"#) {
            let (mut left, mut right) = (String::new(), String::new());
            push_escaped(&mut left, &a, true);
            push_escaped(&mut right, &b, true);
            prop_assert_eq!(a == b, left == right);
        }
    }
}
