//! Finds the metrics and labels that a PromQL expression selects, and the expressions in a document.
//!
//! It does not check the syntax: promtool does.

/// A metric that an expression selects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) metric: String,
    /// The labels that its matchers name.
    pub(crate) labels: Vec<String>,
}

const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];
const GROUPINGS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
const AGGREGATIONS: [&str; 8] = [
    "sum", "min", "max", "avg", "count", "group", "topk", "bottomk",
];

/// An expression without its native alternatives. Alternatives are separated by a line `or`; a native one is a function of
/// histograms over something else than classic buckets.
pub(crate) fn classic(expression: &str) -> String {
    let mut parts = vec![Vec::new()];
    for line in expression.lines() {
        if line.trim() == "or" {
            parts.push(vec![line]);
        } else if let Some(part) = parts.last_mut() {
            part.push(line);
        }
    }
    parts.retain(|part| {
        let is_of_histograms = part.iter().any(|line| line.contains("histogram_"));
        let is_classic = part.iter().any(|line| line.contains("_bucket"));
        !is_of_histograms || is_classic
    });
    let mut lines: Vec<&str> = parts.concat();
    if lines.first().is_some_and(|line| line.trim() == "or") {
        lines.remove(0);
    }
    lines.join("\n")
}

/// The metrics that an expression selects, in order and with repetitions.
pub(crate) fn selections(expression: &str) -> Vec<Selection> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            rest = after_string(rest);
        } else if first == '[' {
            rest = after(rest, ']');
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if is_name(first) {
            let (name, tail) = split_name(rest);
            rest = tail.trim_start();
            if GROUPINGS.contains(&name) {
                if rest.starts_with('(') {
                    rest = after(rest, ')');
                }
            } else if !OPERATORS.contains(&name)
                && !AGGREGATIONS.contains(&name)
                && !rest.starts_with('(')
            {
                let (labels, tail) = matchers(rest);
                rest = tail;
                found.push(Selection {
                    metric: name.to_owned(),
                    labels,
                });
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

/// The label names in the braces that `text` may start with, and the rest of the text.
fn matchers(text: &str) -> (Vec<String>, &str) {
    let mut labels = Vec::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return (labels, text);
    };
    while let Some(first) = rest.chars().next() {
        match first {
            '}' => return (labels, &rest[1..]),
            '"' | '\'' => rest = after_string(rest),
            first if is_name(first) => {
                let (name, tail) = split_name(rest);
                labels.push(name.to_owned());
                rest = tail;
            }
            first => rest = &rest[first.len_utf8()..],
        }
    }
    panic!("a brace that is not closed: {text}");
}

fn is_name(first: char) -> bool {
    first.is_ascii_alphabetic() || first == '_' || first == ':'
}

fn split_name(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !is_name(c) && !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn after(text: &str, end: char) -> &str {
    let (_, rest) = text
        .split_once(end)
        .unwrap_or_else(|| panic!("no {end} in {text}"));
    rest
}

/// The text after the string literal that `text` starts with.
fn after_string(text: &str) -> &str {
    let quote = text.chars().next().expect("a string begins here");
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            character if character == quote => return &text[at + 1..],
            _ => {}
        }
    }
    panic!("a string that does not end: {text}");
}

/// The contents of all fenced blocks marked `promql`.
pub(crate) fn blocks(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in markdown.lines() {
        match (&mut open, line.trim()) {
            (None, "```promql") => open = Some(Vec::new()),
            (Some(lines), "```") => {
                found.push(lines.join("\n"));
                open = None;
            }
            (Some(lines), _) => lines.push(line),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a promql block that does not end");
    found
}
