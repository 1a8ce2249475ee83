//! The paths of the API: the greeting and the items.

use serde_json::json;
use utoipa::openapi::link::{Link, LinkBuilder};
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItemBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, PathItem, RefOr, Required, Schema};

use super::refusals::{Refusal, refuse};
use super::schemas;
use crate::api::body::BodyLimits;
use crate::api::page;

pub(super) const TAG: &str = "items";

/// Each path with its methods.
pub(super) fn paths(limits: BodyLimits) -> [(&'static str, PathItem); 3] {
    let items = PathItemBuilder::new()
        .operation(HttpMethod::Get, list_items())
        .operation(HttpMethod::Post, create_item(limits));
    let item = PathItemBuilder::new()
        .parameters(Some([item_id()]))
        .operation(HttpMethod::Get, read_item())
        .operation(HttpMethod::Put, replace_item(limits))
        .operation(HttpMethod::Delete, delete_item());
    [
        ("/", PathItem::new(HttpMethod::Get, read_greeting())),
        ("/data", items.build()),
        ("/data/{item_id}", item.build()),
    ]
}

fn operation(id: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(TAG)
        .operation_id(Some(id))
        .summary(Some(summary))
}

fn read_greeting() -> OperationBuilder {
    let greeting = answer("The greeting.", schemas::named(schemas::GREETING), None);
    operation("read_greeting", "What this is, and where to go from here").response("200", greeting)
}

fn list_items() -> OperationBuilder {
    let items = answer(
        "The items. A page ends early where it would have more than 1 MiB.",
        schemas::list_of(schemas::ITEM)
            .max_items(usize::try_from(*page::LIMIT.end()).ok())
            .into(),
        Some(json!([schemas::example_item()])),
    );
    let next = HeaderBuilder::new()
        .schema(Some(schemas::string()))
        .description(Some(
            "Where there is more, the path of the next page, as `rel=\"next\"`.",
        ));
    let items = items.header("Link", next.build());
    let operation = operation("list_items", "List items, newest first")
        .parameter(query(
            "skip",
            "Items to leave out at the start.",
            schemas::integer()
                .minimum(Some(*page::SKIP.start()))
                .maximum(Some(*page::SKIP.end()))
                .default(Some(json!(page::DEFAULT_SKIP)))
                .into(),
        ))
        .parameter(query(
            "limit",
            "Most items to give.",
            schemas::integer()
                .minimum(Some(*page::LIMIT.start()))
                .maximum(Some(*page::LIMIT.end()))
                .default(Some(json!(page::DEFAULT_LIMIT)))
                .into(),
        ))
        .parameter(query(
            "after",
            "The place in the list to begin behind, as a `next` link has it.",
            schemas::string().pattern(Some(page::AFTER)).into(),
        ))
        .response("200", items);
    refuse(refuse(operation, [Refusal::Invalid]), Refusal::OF_DATABASE)
}

fn create_item(limits: BodyLimits) -> OperationBuilder {
    let location = HeaderBuilder::new()
        .schema(Some(schemas::string()))
        .description(Some("The path of the new item."));
    let created = item_answer("The item as it was created.", "$response.body#/id")
        .header("Location", location.build());
    let operation = operation("create_item", "Create an item")
        .request_body(Some(fields(limits)))
        .response("201", created);
    let operation = refuse(operation, Refusal::OF_BODIES);
    refuse(refuse(operation, [Refusal::Invalid]), Refusal::OF_DATABASE)
}

fn read_item() -> OperationBuilder {
    let item = item_answer("The item.", "$request.path.item_id");
    of_one(operation("read_item", "Read an item").response("200", item))
}

fn replace_item(limits: BodyLimits) -> OperationBuilder {
    let item = item_answer("The item as it is now.", "$request.path.item_id");
    let operation = operation("replace_item", "Replace what clients choose of an item")
        .request_body(Some(fields(limits)))
        .response("200", item);
    of_one(refuse(operation, Refusal::OF_BODIES))
}

fn delete_item() -> OperationBuilder {
    let item = item_answer("The item as it was.", "$request.path.item_id");
    of_one(operation("delete_item", "Delete an item").response("200", item))
}

/// What every request for one item may be refused with.
fn of_one(operation: OperationBuilder) -> OperationBuilder {
    refuse(
        refuse(operation, [Refusal::NoItem, Refusal::Invalid]),
        Refusal::OF_DATABASE,
    )
}

/// An answer with one item, and what can be done with it, by its id.
fn item_answer(description: &str, id: &str) -> ResponseBuilder {
    let item = schemas::named(schemas::ITEM);
    ["read_item", "replace_item", "delete_item"].iter().fold(
        answer(description, item, Some(schemas::example_item())),
        |answer, operation| answer.link(*operation, item_link(operation, id)),
    )
}

fn item_link(operation: &str, id: &str) -> Link {
    LinkBuilder::new()
        .operation_id(operation)
        .parameter("item_id", id)
        .build()
}

fn answer(
    description: &str,
    schema: RefOr<Schema>,
    example: Option<serde_json::Value>,
) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(schema)).example(example);
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content.build())
}

fn fields(limits: BodyLimits) -> RequestBody {
    let content = ContentBuilder::new()
        .schema(Some(schemas::named(schemas::ITEM_FIELDS)))
        .example(Some(schemas::example_fields()));
    RequestBodyBuilder::new()
        .description(Some(format!(
            "At most {} bytes, nested at most {} levels deep.",
            limits.bytes, limits.depth
        )))
        .required(Some(Required::True))
        .content("application/json", content.build())
        .build()
}

fn item_id() -> Parameter {
    ParameterBuilder::new()
        .name("item_id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The number of an item."))
        .schema(Some(schemas::integer()))
        .example(Some(json!(1)))
        .build()
}

fn query(name: &str, description: &str, schema: RefOr<Schema>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
