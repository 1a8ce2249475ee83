//! The description of a listener as OpenAPI 3.1: the document `openapi.yaml`, completed for this process.
//!
//! The document contains everything that is fixed. This module sets the version and the limits of request bodies, adds the
//! example of each problem and the summaries of the ops endpoints, and adapts the paths to what the listener serves. `docs`
//! serves the result.

use std::net::SocketAddr;

use actix_vitals::{
    ops::{self, OpsChoice, OpsEndpoint},
    problem::{CONTENT_TYPE, FieldError, Problem},
};
use serde_json::{Map, Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use super::{body, body::BodyLimits, problem};
use crate::access;

const DOCUMENT: &str = include_str!("openapi.yaml");

/// The tag of the paths that are for operators.
const OPERATIONS: &str = "operations";

/// The path of the description itself, which every listener serves.
const DESCRIPTION_PATH: &str = "/openapi.json";

/// What the gate answers to requests for ops endpoints, by status.
const GATE_RESPONSES: [(&str, &str); 4] = [
    ("401", "NotOperator"),
    ("403", "ForeignOrigin"),
    ("429", "TooOften"),
    ("503", "Unavailable"),
];

/// The files of the page about the API. Like all parts of pages, they are not described.
const DOCS_PARTS: &str = "/docs/{part}";

/// A listener, by what it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescribedListener {
    /// The API and the ops endpoints.
    Shared,
    /// The API only: the ops endpoints have a listener of their own.
    Public,
    /// The ops endpoints only. The API is described with its address.
    Ops {
        /// `http` or `https`.
        api_scheme: &'static str,
        /// The address of the public listener.
        api_address: SocketAddr,
    },
}

/// The patterns of all routes that are recorded on the public listener.
pub(crate) fn patterns(listener: DescribedListener) -> Vec<String> {
    let paths = paths(&parse(DOCUMENT), listener);
    let mut patterns: Vec<String> = paths.into_iter().map(|(path, _)| path).collect();
    if listener != DescribedListener::Public {
        patterns.extend(parts_of_pages().map(str::to_owned));
    }
    patterns
}

/// The routes that only a page requests.
fn parts_of_pages() -> impl Iterator<Item = &'static str> {
    let parts = ops::ENDPOINTS.iter().filter(|it| it.is_page_part());
    parts.map(OpsEndpoint::path).chain([DOCS_PARTS])
}

/// Describes what this listener serves, with these limits on bodies, and with the profiles if they are allowed.
pub(super) fn describe(
    listener: DescribedListener,
    limits: BodyLimits,
    has_profiles: bool,
) -> Value {
    let text = DOCUMENT
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{body_bytes}", &limits.bytes.to_string())
        .replace("{json_depth}", &limits.depth.to_string());
    let mut document = parse(&text);
    let responses = &mut document["components"]["responses"];
    for (name, problem) in problems(limits) {
        responses[name]["content"][CONTENT_TYPE]["example"] = json!(problem);
    }
    let mut paths = paths(&document, listener);
    paths.retain(|path, _| has_profiles || !is_of_profiles(path));
    document["paths"] = paths.into();
    document
}

/// The paths of the document as this listener serves them.
fn paths(document: &Value, listener: DescribedListener) -> Map<String, Value> {
    let described = document["paths"].as_object().into_iter().flatten();
    described
        .filter(|(path, item)| {
            let is_served_here = !is_for_operators(item) || *path == DESCRIPTION_PATH;
            listener != DescribedListener::Public || is_served_here
        })
        .map(|(path, item)| (path.clone(), adapt(path, item.clone(), listener)))
        .collect()
}

fn is_of_profiles(path: &str) -> bool {
    let endpoint = ops::ENDPOINTS.iter().find(|it| it.path() == path);
    endpoint.is_some_and(|endpoint| endpoint.choice() == OpsChoice::Profiles)
}

fn is_for_operators(item: &Value) -> bool {
    ["get", "post", "put"]
        .iter()
        .any(|method| item[*method]["tags"][0] == OPERATIONS)
}

/// Adds the summaries of an ops endpoint and its answer to wrong parameters, the address of a path that another listener
/// serves, and the answers of the gate to a path behind it.
fn adapt(path: &str, mut item: Value, listener: DescribedListener) -> Value {
    if let Some(endpoint) = ops::ENDPOINTS.iter().find(|it| it.path() == path) {
        for operation in operations(&mut item) {
            operation["summary"] = endpoint.summary().into();
            if endpoint.parameters().is_some() {
                let rejected = json!({"$ref": "#/components/responses/Invalid"});
                operation["responses"]["422"] = rejected;
            }
        }
    }
    match listener {
        DescribedListener::Ops {
            api_scheme,
            api_address,
        } if !is_for_operators(&item) => {
            let url = format!("{api_scheme}://{api_address}");
            item["servers"] = json!([{"url": url, "description": "The public listener."}]);
        }
        // The gate guards all of the ops listener.
        DescribedListener::Ops { .. } => add_gate_responses(&mut item),
        _ if ops::serves(path) => add_gate_responses(&mut item),
        _ => (),
    }
    item
}

/// Adds the gate's answers to all operations of a path. An operation that describes an answer of this status keeps it.
fn add_gate_responses(item: &mut Value) {
    let responses = operations(item).filter_map(|it| it["responses"].as_object_mut());
    for responses in responses {
        for (status, name) in GATE_RESPONSES {
            let reference = format!("#/components/responses/{name}");
            responses
                .entry(status)
                .or_insert_with(|| json!({"$ref": reference}));
        }
    }
}

fn operations(item: &mut Value) -> impl Iterator<Item = &mut Value> {
    let members = item.as_object_mut().into_iter().flatten();
    members.filter_map(|(_, member)| member.is_object().then_some(member))
}

/// An example of each problem response, from the code that answers with it.
fn problems(limits: BodyLimits) -> [(&'static str, Problem); 11] {
    let reason = "EOF while parsing an object at line 1 column 1";
    let rule = FieldError::new("limit", "must be an integer from 1 to 1000");
    [
        ("Malformed", body::malformed(&reason)),
        ("NoItem", problem::no_item()),
        ("TooSlow", body::too_slow()),
        ("TooLarge", body::too_large(limits.bytes)),
        ("Unsupported", body::not_json()),
        ("Invalid", problem::invalid(vec![rule])),
        ("Failed", problem::failed()),
        ("Unavailable", problem::busy()),
        ("NotOperator", access::not_operator()),
        ("ForeignOrigin", access::foreign_origin()),
        ("TooOften", access::too_often(1)),
    ]
}

/// The document as JSON. A test parses it, so that it cannot fail here.
fn parse(text: &str) -> Value {
    let documents = YamlLoader::load_from_str(text).unwrap_or_default();
    documents.first().map_or(Value::Null, to_json)
}

fn to_json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Hash(members) => {
            let key = |key: &Yaml| match key {
                Yaml::Integer(status) => Some(status.to_string()),
                _ => key.as_str().map(str::to_owned),
            };
            let members = members.iter();
            members
                .filter_map(|(name, value)| Some((key(name)?, to_json(value))))
                .collect()
        }
        Yaml::Array(elements) => elements.iter().map(to_json).collect(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(value) => (*value).into(),
        Yaml::Real(_) | Yaml::Alias(_) | Yaml::Null | Yaml::BadValue => Value::Null,
    }
}

#[cfg(test)]
mod tests;
