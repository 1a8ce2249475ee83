//! The validation of an item.

use actix_vitals::problem::{FieldError, Problem};
use serde_json::{Map, Value};

use super::{email, problem::invalid};
use crate::store::ItemFields;

/// Most characters of a name.
pub(super) const NAME_LENGTH: usize = 100;

/// Most characters of an address.
pub(super) const EMAIL_LENGTH: usize = 255;

/// Reads an item's fields from a JSON object. The error names every invalid field.
///
/// - `name`: a string of 1 to 100 characters;
/// - `email`: a string of at most 255 characters that is an email address;
/// - `message`: a string, null or missing, which is null.
///
/// Characters are Unicode scalar values. No string may contain U+0000, which PostgreSQL cannot store. Other members are
/// ignored.
pub(super) fn fields(mut members: Map<String, Value>) -> Result<ItemFields, Problem> {
    let name = check(required(members.remove("name")), |name| {
        length_rule(name, NAME_LENGTH)
    });
    let email = check(required(members.remove("email")), email_rule);
    let message = members.remove("message").filter(|value| !value.is_null());
    let message = message
        .map(|message| check(string(message, "must be a string or null"), |_| None))
        .transpose();
    match (name, email, message) {
        (Ok(name), Ok(email), Ok(message)) => Ok(ItemFields {
            name,
            email,
            message,
        }),
        (name, email, message) => {
            let broken = [
                ("name", name.err()),
                ("email", email.err()),
                ("message", message.err()),
            ];
            Err(invalid(
                broken
                    .into_iter()
                    .filter_map(|(field, rule)| Some(FieldError::new(field, rule?)))
                    .collect(),
            ))
        }
    }
}

/// A string that must be present.
fn required(value: Option<Value>) -> Result<String, String> {
    string(value.ok_or("is required")?, "must be a string")
}

fn string(value: Value, rule: &str) -> Result<String, String> {
    let found = match value {
        Value::String(text) => return Ok(text),
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Err(format!("{rule}, not {found}"))
}

/// Checks the rule for all texts, then that of the field. `broken_rule` returns the rule that the text breaks.
fn check(
    text: Result<String, String>,
    broken_rule: impl FnOnce(&str) -> Option<String>,
) -> Result<String, String> {
    let text = text?;
    if text.contains('\0') {
        return Err("must not contain the null character (U+0000)".to_owned());
    }
    broken_rule(&text).map_or(Ok(text), Err)
}

fn length_rule(text: &str, most: usize) -> Option<String> {
    // A character has at most four bytes, so the characters of a longer text need not be counted.
    let fits = !text.is_empty() && text.len() <= most * 4 && text.chars().count() <= most;
    (!fits).then(|| format!("must have from 1 to {most} characters"))
}

fn email_rule(text: &str) -> Option<String> {
    length_rule(text, EMAIL_LENGTH).or_else(|| {
        (!email::is_valid(text))
            .then(|| "must be an email address, such as name@example.com".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<ItemFields, Vec<(String, String)>> {
        let Value::Object(members) = value else {
            panic!("{value} is no object");
        };
        fields(members).map_err(|problem| {
            assert_eq!(problem.status(), 422);
            problem
                .errors()
                .iter()
                .map(|error| (error.field.to_string(), error.message.to_string()))
                .collect()
        })
    }

    #[test]
    fn a_valid_item_is_accepted_unchanged() {
        let fields = read(json!({
            "name": "Ada",
            "email": "ada@example.com",
            "message": "hello",
            "id": 7,
            "unknown": [1, 2],
        }));
        assert_eq!(
            fields,
            Ok(ItemFields {
                name: "Ada".to_owned(),
                email: "ada@example.com".to_owned(),
                message: Some("hello".to_owned()),
            })
        );
    }

    #[test]
    fn a_message_may_be_null_empty_or_missing() {
        for (value, message) in [
            (json!({"name": "A", "email": "a@b.c"}), None),
            (
                json!({"name": "A", "email": "a@b.c", "message": null}),
                None,
            ),
            (
                json!({"name": "A", "email": "a@b.c", "message": ""}),
                Some(String::new()),
            ),
        ] {
            assert_eq!(read(value).unwrap().message, message);
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        for (name, valid) in [
            ("n".repeat(100), true),
            ("ł".repeat(100), true),
            ("🦀".repeat(100), true),
            ("n".repeat(101), false),
            ("🦀".repeat(101), false),
            (" ".to_owned(), true),
            (String::new(), false),
        ] {
            let read = read(json!({"name": name, "email": "a@b.c"}));
            assert_eq!(read.is_ok(), valid, "{name}");
        }
    }

    #[test]
    fn an_invalid_field_is_named_with_the_rule_it_breaks() {
        let long = format!("a@{}com", "abc.".repeat(64));
        for (value, field, rule) in [
            (json!({"email": "a@b.c"}), "name", "is required"),
            (
                json!({"name": null, "email": "a@b.c"}),
                "name",
                "must be a string, not null",
            ),
            (
                json!({"name": 1, "email": "a@b.c"}),
                "name",
                "must be a string, not a number",
            ),
            (
                json!({"name": "", "email": "a@b.c"}),
                "name",
                "must have from 1 to 100 characters",
            ),
            (
                json!({"name": "A\0", "email": "a@b.c"}),
                "name",
                "must not contain the null character (U+0000)",
            ),
            (json!({"name": "A"}), "email", "is required"),
            (
                json!({"name": "A", "email": ["a@b.c"]}),
                "email",
                "must be a string, not an array",
            ),
            (
                json!({"name": "A", "email": ""}),
                "email",
                "must have from 1 to 255 characters",
            ),
            (
                json!({"name": "A", "email": long}),
                "email",
                "must have from 1 to 255 characters",
            ),
            (
                json!({"name": "A", "email": "ada"}),
                "email",
                "must be an email address, such as name@example.com",
            ),
            (
                json!({"name": "A", "email": "a@b.c", "message": true}),
                "message",
                "must be a string or null, not a boolean",
            ),
            (
                json!({"name": "A", "email": "a@b.c", "message": {}}),
                "message",
                "must be a string or null, not an object",
            ),
            (
                json!({"name": "A", "email": "a@b.c", "message": "\0"}),
                "message",
                "must not contain the null character (U+0000)",
            ),
        ] {
            assert_eq!(read(value), Err(vec![(field.to_owned(), rule.to_owned())]));
        }
    }

    #[test]
    fn all_invalid_fields_are_named_at_once() {
        let errors = read(json!({"name": "", "message": 1})).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["name", "email", "message"]);
    }
}
