//! The operators' paths, and the pages about the API.

use serde_json::json;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItemBuilder,
};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{
    ArrayBuilder, Content, ContentBuilder, KnownFormat, ObjectBuilder, PathItem, RefOr, Schema,
    SchemaFormat, Type,
};

use super::refusals::{Refusal, refuse};
use super::schemas;
use actix_vitals::ops::statements;
use actix_vitals::registry::Format;

pub(super) const TAG: &str = "operations";

/// The path of the description itself, which is there on every listener.
pub(super) fn description() -> (&'static str, PathItem) {
    let description = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("An OpenAPI document, version 3.1."));
    let description = content(description.into());
    let read = operation("read_description", "This description").response(
        "200",
        answer("The description.", "application/json", description),
    );
    ("/openapi.json", PathItem::new(HttpMethod::Get, read))
}

/// Each path with its methods.
pub(super) fn paths() -> Vec<(&'static str, PathItem)> {
    let get = |read: OperationBuilder| PathItem::new(HttpMethod::Get, read);
    let docs = operation("read_docs", "The page that shows this description")
        .response("200", page("The page."));
    let dashboard = operation(
        "read_dashboard",
        "The live page: the last hour, at a glance",
    )
    .response("200", page("The page."))
    .response(
        "304",
        ResponseBuilder::new().description("The client has it already."),
    );
    let reset = operation("reset_statements", "Forget all statements, and begin anew").response(
        "204",
        ResponseBuilder::new().description("They are forgotten."),
    );
    vec![
        description(),
        ("/dashboard", get(dashboard)),
        ("/docs", get(docs)),
        (
            "/health",
            get(health("read_health", "Whether the database can be reached")),
        ),
        ("/livez", get(livez())),
        ("/metrics", get(scrape())),
        ("/ops/statements", get(list_statements())),
        (
            "/ops/statements/reset",
            PathItemBuilder::new()
                .operation(HttpMethod::Post, reset)
                .build(),
        ),
        (
            "/readyz",
            get(health(
                "read_readiness",
                "Whether requests should be sent here",
            )),
        ),
    ]
}

fn operation(id: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(TAG)
        .operation_id(Some(id))
        .summary(Some(summary))
}

fn answer(description: &str, media_type: &str, content: Content) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content(media_type, content)
        .build()
}

fn content(schema: RefOr<Schema>) -> Content {
    Content::new(Some(schema))
}

fn page(description: &str) -> Response {
    answer(description, "text/html", content(schemas::string().into()))
}

fn livez() -> OperationBuilder {
    operation("read_liveness", "Whether the process answers")
        .response("200", report("It does.", &json!({"status": "ok"})))
}

fn health(id: &str, summary: &str) -> OperationBuilder {
    let ok = json!({"status": "ok", "database": "reachable"});
    let error = json!({
        "status": "error",
        "database": "unreachable",
        "detail": "the database did not answer",
    });
    operation(id, summary)
        .response("200", report("The database can be reached.", &ok))
        .response(
            "503",
            report("It cannot, or the server is shutting down.", &error),
        )
}

fn report(description: &str, example: &serde_json::Value) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(schemas::named(schemas::HEALTH)))
        .example(Some(example.clone()));
    answer(description, "application/json", content.build())
}

fn scrape() -> OperationBuilder {
    let text = || content(schemas::string().into());
    let binary = schemas::string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
    let exposition = ResponseBuilder::new()
        .description("The exposition, in the format that `Accept` asks for.")
        .content(media_type(Format::Text), text())
        .content(media_type(Format::OpenMetrics), text())
        .content(media_type(Format::Protobuf), content(binary.into()));
    let names = ParameterBuilder::new()
        .name("name[]")
        .parameter_in(ParameterIn::Query)
        .description(Some("Keep only the families of these names."))
        .schema(Some(ArrayBuilder::new().items(schemas::string())))
        .example(Some(json!(["http_requests_total"])));
    let operation = operation("scrape", "All metrics, for Prometheus and OpenMetrics")
        .parameter(names)
        .response("200", exposition);
    refuse(operation, Refusal::OF_DATABASE)
}

/// The media type of a format, without its parameters.
fn media_type(format: Format) -> &'static str {
    let content_type = format.content_type();
    content_type
        .split_once(';')
        .map_or(content_type, |(name, _)| name)
}

fn list_statements() -> OperationBuilder {
    let order = ParameterBuilder::new()
        .name("sort")
        .parameter_in(ParameterIn::Query)
        .description(Some("What the most costly have most of."))
        .schema(Some(
            schemas::word(statements::ORDERS.map(|(name, _)| name))
                .default(Some(json!(statements::ORDERS[0].0))),
        ));
    let limit = ParameterBuilder::new()
        .name("limit")
        .parameter_in(ParameterIn::Query)
        .description(Some("Most statements to give."))
        .schema(Some(
            schemas::integer()
                .minimum(Some(1))
                .maximum(Some(statements::MOST))
                .default(Some(json!(statements::DEFAULT_LIMIT))),
        ));
    let listed = content(schemas::named(schemas::STATEMENTS));
    let operation = operation("list_statements", "The statements that cost most, by shape")
        .parameter(order)
        .parameter(limit)
        .response("200", answer("The statements.", "application/json", listed));
    refuse(operation, [Refusal::Invalid])
}
