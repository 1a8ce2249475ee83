//! The checks of the parsers that read input from clients. Each is a fuzz target, and `tests/fuzz.rs` runs it on seeded
//! mutations of its corpus.
#![allow(dead_code, reason = "each fuzz target runs one of the checks")]

use actix_vitals::{
    database::sql,
    http::TraceParent,
    registry::{Descriptor, Format, Registry, negotiate_encoding, negotiate_format},
};

/// Negotiation always has an answer, and a header that is repeated means what one with commas means.
pub(crate) fn accept(input: &[u8]) {
    negotiate_encoding(&[input]);
    let whole = negotiate_format(&[input]);
    // Commas within quotes do not separate.
    if !input.contains(&b'"') {
        let parts: Vec<&[u8]> = input.split(|byte| *byte == b',').collect();
        assert_eq!(negotiate_format(&parts), whole);
    }
}

/// Whatever is read as a trace parent says so itself.
pub(crate) fn traceparent(input: &[u8]) {
    if let Some(parent) = TraceParent::parse(input) {
        let ids = format!(
            "-{:032x}-{:016x}-",
            parent.span.trace_id, parent.span.span_id
        );
        assert_eq!(&input[2..53], ids.as_bytes());
    }
}

/// The verb of a statement does not change with what stands before it.
pub(crate) fn verb(input: &[u8]) {
    let sql = String::from_utf8_lossy(input);
    let plain = sql::verb(&sql);
    for before in ["  \t\r\n", "-- a comment\n", "/* a /* nested */ comment */"] {
        assert_eq!(
            sql::verb(&format!("{before}{sql}")),
            plain,
            "{before:?} {sql:?}"
        );
    }
}

/// The shape of a statement is bounded, and is its own shape, in every dialect; the verb alone is the same.
pub(crate) fn shape(input: &[u8]) {
    use sql::Dialect::{MySql, PostgreSql, Sqlite, Unknown};

    let text = String::from_utf8_lossy(input);
    for dialect in [PostgreSql, MySql, Sqlite, Unknown] {
        let reading = sql::read(&text, dialect);
        assert!(reading.shape.len() <= 4096, "{dialect:?} {text:?}");
        let again = sql::read(&reading.shape, dialect);
        assert_eq!(again.shape, reading.shape, "{dialect:?} {text:?}");
    }
    assert_eq!(sql::read(&text, Unknown).verb, sql::verb(&text), "{text:?}");
}

/// A label's value is read back as it was, from both texts.
pub(crate) fn label(input: &[u8]) {
    let value = String::from_utf8_lossy(input);
    let mut builder = Registry::builder(|| std::time::Duration::ZERO);
    let family = builder.counter(Descriptor::new("fuzz_total", "A fuzzed label.", ["value"]));
    let Ok(registry) = builder.build() else {
        panic!("a valid family");
    };
    family.series([&value]).inc();
    for format in [Format::Text, Format::OpenMetrics] {
        let text = String::from_utf8_lossy(&registry.encode(format)).into_owned();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("fuzz_total{"))
            .collect();
        assert_eq!(lines.len(), 1, "one line: {text}");
        assert_eq!(
            unescaped_value(lines[0]).as_deref(),
            Some(&*value),
            "{format:?}"
        );
    }
}

/// The value of the label `value` in a sample's line, its escapes undone.
fn unescaped_value(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("value=\"")?;
    let mut value = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => value.push(match characters.next()? {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            character => value.push(character),
        }
    }
}
