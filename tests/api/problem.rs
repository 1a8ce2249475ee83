//! Checks problem documents (RFC 9457), the body of every rejection.

use serde_json::Value;

use crate::support::server::Answer;

/// Checks that the answer is a problem document with this status, and returns it.
pub(crate) fn expect_problem(answer: &Answer, status: u16, why: &str) -> Value {
    assert_eq!(answer.status, status, "{why}: {}", answer.text);
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{why}"
    );
    let document = answer.json();
    assert_eq!(document["status"], status, "{why}");
    for member in ["type", "title", "detail"] {
        let text = document[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{why}: {member} is missing in {document}");
    }
    let detail = document["detail"].as_str().unwrap_or_default();
    assert!(
        detail.ends_with('.'),
        "{why}: the detail is no sentence: {detail}"
    );
    document
}

/// Checks that the answer is a 422, and returns the names of its fields, sorted.
pub(crate) fn expect_invalid(answer: &Answer, why: &str) -> Vec<String> {
    let document = expect_problem(answer, 422, why);
    let errors = document["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{why}: no errors in {document}"));
    let mut fields: Vec<String> = errors
        .iter()
        .map(|error| {
            let message = error["message"].as_str().unwrap_or_default();
            assert!(
                !message.is_empty(),
                "{why}: an error without a message in {document}"
            );
            error["field"].as_str().expect("a field").to_owned()
        })
        .collect();
    fields.sort();
    fields
}
