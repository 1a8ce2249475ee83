//! Compares answers with stored ones, which are the same for both databases.

use serde_json::Value;

/// Compares a JSON answer with the stored one of this name, except for times.
pub(crate) fn expect_stored(name: &str, answer: &Value) {
    insta::assert_json_snapshot!(name, answer, {".created_at" => "[time]"});
}
