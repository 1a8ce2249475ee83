//! Answers held against the stored ones, which are the same whatever the database.

use serde_json::Value;

/// Holds a JSON answer against the stored one of this name; times are not compared.
pub(crate) fn expect_stored(name: &str, answer: &Value) {
    insta::assert_json_snapshot!(name, answer, {".created_at" => "[time]"});
}
