//! Tests the tests' own reader of the text format, and their translator of queries.

use crate::support::dotted::dotted_query;
use crate::support::exposition::Exposition;

#[test]
fn a_sample_is_read_with_its_labels_unescaped() {
    let text = "# HELP a_total What\\n is.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"b\\\\s\\nl\"} 3\na_total 4.5e3\nb{} +Inf 170\n";
    let read = Exposition::parse(text).unwrap();
    assert_eq!(
        read.value("a_total", &[("y", "q\"b\\s\nl"), ("x", "1")]),
        3.0
    );
    assert_eq!(read.value("a_total", &[]), 4500.0);
    assert_eq!(read.value("b", &[]), f64::INFINITY);
    assert_eq!(read.family("a_total").unwrap().kind, "counter");
    assert_eq!(read.sum("a_total", &[]), 4503.0);
    assert_eq!(read.sum("a_total", &[("x", "1")]), 3.0);
    assert_eq!(
        read.get("a_total", &[("x", "1")]),
        None,
        "part of the labels is another series"
    );
}

#[test]
fn a_rise_counts_from_zero_where_nothing_was() {
    let before = Exposition::parse("a 1\n").unwrap();
    let after = Exposition::parse("a 3\nb 5\n").unwrap();
    assert_eq!(after.rise(&before, "a", &[]), 2.0);
    assert_eq!(after.rise(&before, "b", &[]), 5.0);
}

#[test]
fn what_breaks_the_format_is_refused() {
    for (text, why) in [
        ("a 1", "no line feed at the end"),
        ("a\n", "no value"),
        ("a x\n", "no number"),
        ("1a 1\n", "a digit first"),
        ("a-b 1\n", "a hyphen"),
        ("a{x=1} 1\n", "no quotes"),
        ("a{x=\"1\" 1\n", "no closing brace"),
        ("a{x=\"1} 1\n", "no closing quote"),
        ("a{x=\"\\t\"} 1\n", "an unknown escape"),
        ("a{x=\"1\",x=\"2\"} 1\n", "a label twice"),
        ("a 1\na 2\n", "a series twice"),
        ("# TYPE a gauge\n# TYPE a gauge\n", "a type twice"),
    ] {
        assert!(Exposition::parse(text).is_err(), "{why} was accepted");
    }
}

#[test]
fn a_query_by_names_with_underscores_is_asked_by_those_with_dots() {
    for (query, expected) in [
        (
            r#"rate(http_server_request_duration_seconds_bucket{http_route="/data", le="0.1"}[1m])"#,
            r#"rate({"http.server.request.duration_seconds_bucket","http.route"="/data", le="0.1"}[1m])"#,
        ),
        (
            r#"sum by (le, http_route) (http_requests_total{http_request_method!="http_route"})"#,
            r#"sum by (le, "http.route") (http_requests_total{"http.request.method"!="http_route"})"#,
        ),
        (
            "sum(http_server_active_requests) / up",
            r#"sum({"http.server.active_requests"}) / up"#,
        ),
    ] {
        assert_eq!(dotted_query(query), expected);
    }
}
