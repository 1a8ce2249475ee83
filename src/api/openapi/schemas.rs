//! The JSON that goes in and out, as JSON Schema.

use serde_json::{Value, json};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{
    AllOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
};

use crate::api::{email, item};
use actix_vitals::database::sql::Operation;

pub(super) const FIELD_ERROR: &str = "FieldError";
pub(super) const GREETING: &str = "Greeting";
pub(super) const HEALTH: &str = "Health";
pub(super) const INVALID: &str = "InvalidRequest";
pub(super) const ITEM: &str = "Item";
pub(super) const ITEM_FIELDS: &str = "ItemFields";
pub(super) const PROBLEM: &str = "Problem";
pub(super) const STATEMENT: &str = "Statement";
pub(super) const STATEMENTS: &str = "Statements";

/// Every schema that has a name.
pub(super) fn all() -> [(&'static str, RefOr<Schema>); 9] {
    [
        (FIELD_ERROR, field_error().into()),
        (GREETING, greeting().into()),
        (HEALTH, health().into()),
        (INVALID, invalid().into()),
        (ITEM, item().into()),
        (ITEM_FIELDS, item_fields().into()),
        (PROBLEM, problem().into()),
        (STATEMENT, statement().into()),
        (STATEMENTS, listed_statements().into()),
    ]
}

/// Points to a schema that has a name.
pub(super) fn named(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

/// An array of these.
pub(super) fn list_of(name: &str) -> ArrayBuilder {
    ArrayBuilder::new().items(named(name))
}

/// Any number of 64 bits.
pub(super) fn integer() -> ObjectBuilder {
    typed(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
}

/// An example of an item's fields.
pub(super) fn example_fields() -> Value {
    json!({"name": "Ada", "email": "ada@example.org", "message": "hello"})
}

/// An example of an item.
pub(super) fn example_item() -> Value {
    json!({
        "id": 1,
        "name": "Ada",
        "email": "ada@example.org",
        "message": "hello",
        "created_at": "2026-03-01T09:30:00.123456Z",
    })
}

pub(super) fn string() -> ObjectBuilder {
    typed(Type::String)
}

/// One of these words.
pub(super) fn word(words: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    string().enum_values(Some(words))
}

fn typed(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(kind))
}

/// One of the type, or null.
fn nullable(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null]))
}

fn count() -> ObjectBuilder {
    integer().minimum(Some(0))
}

fn seconds() -> ObjectBuilder {
    typed(Type::Number).minimum(Some(0))
}

fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

/// An object with all of these members.
fn record<const N: usize>(members: [(&'static str, ObjectBuilder); N]) -> ObjectBuilder {
    members
        .into_iter()
        .fold(typed(Type::Object), |object, (name, schema)| {
            object.property(name, schema).required(name)
        })
}

fn name() -> ObjectBuilder {
    string()
        .min_length(Some(1))
        .max_length(Some(item::NAME_LENGTH))
        .pattern(Some(item::STORABLE))
}

fn email() -> ObjectBuilder {
    string()
        .format(Some(SchemaFormat::Custom("email".to_owned())))
        .max_length(Some(item::EMAIL_LENGTH))
        .pattern(Some(email::pattern()))
        .description(Some(
            "An address that mail on the internet can be sent to: a dot-string, `@`, and a domain of two labels or more.",
        ))
}

fn message() -> ObjectBuilder {
    nullable(Type::String).pattern(Some(item::STORABLE))
}

fn item_fields() -> ObjectBuilder {
    record([("name", name()), ("email", email())])
        .property(
            "message",
            message().description(Some("Free text. Left out, it is null.")),
        )
        .description(Some(
            "The part of an item that clients choose. No text may contain U+0000; members of other names are ignored.",
        ))
        .examples([example_fields()])
}

fn item() -> ObjectBuilder {
    let created_at = "In UTC, to the microsecond. Replacing an item leaves it as it is.";
    record([
        (
            "id",
            integer().description(Some("Given once, never used again.")),
        ),
        ("name", name()),
        ("email", email()),
        (
            "message",
            message().description(Some("Free text, or none.")),
        ),
        ("created_at", time().description(Some(created_at))),
    ])
    .examples([example_item()])
}

fn greeting() -> ObjectBuilder {
    let links = typed(Type::Object)
        .description(Some("Paths on this listener, by name."))
        .additional_properties(Some(string()));
    record([
        ("name", string()),
        ("version", string()),
        ("description", string()),
        ("links", links),
    ])
}

fn problem() -> ObjectBuilder {
    let status = "The status that it is sent with.";
    record([
        (
            "type",
            string().format(Some(SchemaFormat::Custom("uri-reference".to_owned()))),
        ),
        ("title", string()),
        (
            "status",
            integer()
                .minimum(Some(400))
                .maximum(Some(599))
                .description(Some(status)),
        ),
        (
            "detail",
            string().description(Some("A sentence for the person who reads it.")),
        ),
    ])
    .description(Some("An error (RFC 9457)."))
}

fn invalid() -> AllOfBuilder {
    let errors = list_of(FIELD_ERROR).description(Some("The fields at fault."));
    AllOfBuilder::new().item(named(PROBLEM)).item(
        typed(Type::Object)
            .property("errors", errors)
            .required("errors"),
    )
}

fn field_error() -> ObjectBuilder {
    let field = "The member, parameter or part of the path.";
    let message = "The rule it broke, to be read after the name.";
    record([
        ("field", string().description(Some(field))),
        ("message", string().description(Some(message))),
    ])
}

fn health() -> ObjectBuilder {
    record([("status", word(["ok", "error"]))])
        .property("database", word(["reachable", "unreachable"]))
        .property(
            "detail",
            string().description(Some("Why it is not ok; without any secret.")),
        )
}

fn listed_statements() -> ObjectBuilder {
    typed(Type::Object)
        .property("statements", list_of(STATEMENT))
        .required("statements")
}

fn statement() -> ObjectBuilder {
    let text = "The text without literals, binds, comments and the length of its lists; (other) for all statements that are not kept.";
    let rows = "Always null: the driver does not tell how many there were.";
    record([
        ("statement", string().description(Some(text))),
        (
            "operation",
            word(Operation::ALL.iter().map(|operation| operation.label())),
        ),
        ("calls", count()),
        ("errors", count()),
        (
            "unattributed_calls",
            count().description(Some("Calls outside of any request and job.")),
        ),
        ("total_seconds", seconds()),
        ("mean_seconds", seconds()),
        ("p95_seconds", seconds()),
        ("rows", nullable(Type::Integer).description(Some(rows))),
        ("first_seen", time()),
        ("last_seen", time()),
    ])
    .property(
        "endpoints",
        ArrayBuilder::new()
            .items(string())
            .description(Some("Who ran it.")),
    )
    .required("endpoints")
}
