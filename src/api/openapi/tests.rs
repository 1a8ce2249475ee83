//! Compares the description with the code: routes, methods, limits, words and statuses. Also checks that references and
//! examples are valid.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use actix_vitals::{
    Vitals,
    database::sql::Operation,
    memory::AnswerMemory,
    ops::{LogControl, OpsSettings, statements},
    registry::Format,
};
use actix_web::{
    App, HttpRequest, HttpResponse,
    dev::ServiceResponse,
    http::{Method, header},
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    api::{Api, BodyLimits, Documentation, item, page},
    settings::{DatabaseSettings, DatabaseUrl, SqliteLocation},
    store::Store,
};

const LIMITS: BodyLimits = BodyLimits {
    bytes: 1024,
    depth: 4,
};
const API_ADDRESS: &str = "127.0.0.1:8000";

fn listeners() -> [DescribedListener; 3] {
    [
        DescribedListener::Shared,
        DescribedListener::Public,
        DescribedListener::Ops {
            api_scheme: "http",
            api_address: API_ADDRESS.parse().unwrap(),
        },
    ]
}

fn described(listener: DescribedListener) -> Value {
    describe(listener, LIMITS, true)
}

#[test]
fn the_document_is_valid_yaml() {
    let documents = YamlLoader::load_from_str(DOCUMENT).unwrap();
    assert_eq!(documents.len(), 1);
}

/// The paths that this listener serves by its description, with their methods.
fn described_routes(listener: DescribedListener) -> BTreeMap<String, BTreeSet<String>> {
    described(listener)["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, item)| item["servers"].is_null())
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

fn methods(item: &Value) -> BTreeSet<String> {
    item.as_object()
        .unwrap()
        .keys()
        .filter(|key| *key != "parameters")
        .map(|method| method.to_uppercase())
        .collect()
}

/// The application of a listener, as the server puts it together.
fn routes(
    listener: DescribedListener,
    vitals: &Vitals,
) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let database = DatabaseSettings {
        url: DatabaseUrl::Sqlite(SqliteLocation::Memory),
        pool_size: 1,
        pool_timeout: Duration::from_secs(5),
        pool_check_after: Duration::from_millis(500),
    };
    let documentation = Documentation::of(listener, LIMITS, true);
    let api = Api {
        store: Store::open(&database, vitals).unwrap(),
        body_limits: LIMITS,
        answer_memory: AnswerMemory::default(),
        documentation: documentation.clone(),
        has_ops: false,
    };
    let ops = vitals.ops();
    move |routes| {
        if listener != DescribedListener::Public {
            ops(routes);
        }
        match listener {
            DescribedListener::Ops { .. } => documentation.configure(routes),
            DescribedListener::Shared | DescribedListener::Public => api.configure(routes),
        }
    }
}

/// The patterns of all resources of the application. Only the `Debug` form of Actix' resource map lists them.
fn patterns(request: &HttpRequest) -> BTreeSet<String> {
    let map = format!("{:?}", request.resource_map());
    map.split("Single(\"")
        .skip(1)
        .filter_map(|rest| rest.split_once("\")"))
        .map(|(pattern, _)| pattern.to_owned())
        .filter(|pattern| !pattern.is_empty())
        .collect()
}

#[actix_web::test]
async fn exactly_the_routes_of_each_listener_are_described() {
    for listener in listeners() {
        let log = LogControl::new("info", |_| Ok(()));
        let ops = OpsSettings::everything().with_log(log).with_profiles();
        let vitals = Vitals::builder().ops(ops).build().unwrap();
        let app = init_service(App::new().configure(routes(listener, &vitals)).route(
            "/test/patterns",
            web::get().to(async |request: HttpRequest| HttpResponse::Ok().json(patterns(&request))),
        ))
        .await;
        let request = TestRequest::with_uri("/test/patterns").to_request();
        let mut served: BTreeSet<String> =
            serde_json::from_slice(&read_body(call_service(&app, request).await).await).unwrap();
        assert!(served.remove("/test/patterns"), "{served:?}");
        if !matches!(listener, DescribedListener::Ops { .. }) {
            let known: BTreeSet<String> = super::patterns(listener).into_iter().collect();
            assert_eq!(known, served, "{listener:?}");
        }
        served.retain(|path| parts_of_pages().all(|part| part != path));
        let described = described_routes(listener);
        assert_eq!(
            described.keys().cloned().collect::<BTreeSet<_>>(),
            served,
            "{listener:?}"
        );
        for (path, mut methods) in described {
            let request = TestRequest::with_uri(&path.replace("{item_id}", "1"))
                .method(Method::OPTIONS)
                .to_request();
            let allowed = allowed_methods(&call_service(&app, request).await);
            if methods.contains("GET") {
                methods.insert("HEAD".to_owned());
            }
            methods.insert("OPTIONS".to_owned());
            assert_eq!(methods, allowed, "{path}");
        }
    }
}

fn allowed_methods<B>(response: &ServiceResponse<B>) -> BTreeSet<String> {
    let allow = response.headers().get(header::ALLOW);
    let allow = allow.map_or("", |allow| allow.to_str().unwrap());
    allow.split(", ").map(str::to_owned).collect()
}

#[test]
fn an_ops_listener_describes_the_api_with_its_address() {
    let paths = &described(DescribedListener::Ops {
        api_scheme: "http",
        api_address: API_ADDRESS.parse().unwrap(),
    })["paths"];
    assert_eq!(
        paths["/data"]["servers"][0]["url"],
        format!("http://{API_ADDRESS}")
    );
    assert_eq!(paths["/metrics"]["servers"], Value::Null);
    assert_eq!(
        described(DescribedListener::Public)["paths"]["/metrics"],
        Value::Null
    );
}

/// A validator of a schema that has a name.
fn validator(name: &str) -> Validator {
    let mut schema = described(DescribedListener::Shared);
    schema["$ref"] = format!("#/components/schemas/{name}").into();
    jsonschema::validator_for(&schema).unwrap()
}

/// Texts near the limits, and near what is an address.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,3}",
        "\\PC{98,102}",
        "(a|\u{0}|\u{1F600}|\n){0,5}",
        "[a.!-]{0,4}@([a1-]{1,3}\\.){0,3}[a1-]{0,3}\n?",
        "a{62,66}@b\\.cc",
        "[a.]{62,66}@b\\.cc",
        "a@b{62,65}\\.c{1,2}",
        "a@b\\.c{62,65}",
        "a@b\\.[a1-]{1,3}\n?",
        "(a{30}\\.){1,2}a{1,5}@(b{60}\\.){3}b{1,8}\\.cc",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => text().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<i32>().prop_map(Value::from),
        1 => Just(json!([])),
    ]
}

fn body() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![3 => Just("Ada".into()), 1 => value()];
    let email = prop_oneof![1 => Just("ada@example.org".into()), 2 => value()];
    let members = (name, email, value(), 0..16_u8);
    members.prop_map(|(name, email, message, left_out)| {
        [("name", name), ("email", email), ("message", message)]
            .into_iter()
            .enumerate()
            // Mostly all of them are there.
            .filter(|(index, _)| left_out >> index != 1)
            .map(|(_, (member, value))| (member.to_owned(), value))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_description_and_the_code_accept_the_same_bodies(body in body()) {
        thread_local!(static ITEM_FIELDS: Validator = validator("ItemFields"));
        let by_code = item::fields(body.clone()).is_ok();
        let by_description = ITEM_FIELDS.with(|fields| fields.is_valid(&Value::Object(body)));
        prop_assert_eq!(by_description, by_code);
    }
}

#[test]
fn a_parameter_has_the_limits_of_the_code() {
    let description = described(DescribedListener::Shared);
    let schema = |path: &str, name: &str| {
        description["paths"][path]["get"]["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .find(|parameter| parameter["name"] == name)
            .map(|parameter| parameter["schema"].clone())
            .unwrap()
    };
    for (path, name, valid, invalid) in [
        (
            "/data",
            "skip",
            vec!["0", "9223372036854775807"],
            vec!["-1", "1.5"],
        ),
        ("/data", "limit", vec!["1", "1000"], vec!["0", "1001", "x"]),
        (
            "/data",
            "after",
            vec!["0,0", "9999999999999999,999999999999999999"],
            vec![
                "",
                "1",
                "1,",
                ",1",
                "-1,1",
                "1,x",
                "10000000000000000,1",
                "1,1000000000000000000",
            ],
        ),
        (
            "/ops/statements",
            "limit",
            vec!["1", "1000"],
            vec!["0", "1001", "x"],
        ),
        (
            "/ops/statements",
            "sort",
            vec!["total", "mean", "calls", "errors", "p95"],
            vec!["Total", "p99"],
        ),
        (
            "/ops/statements",
            "method",
            vec!["GET", "QUERY", "other", "job"],
            vec!["get", "BREW", ""],
        ),
    ] {
        let validator = jsonschema::validator_for(&schema(path, name)).unwrap();
        let by_code = |value: &str| {
            let query = format!("{name}={value}");
            match path {
                "/data" => page::parse(&query).is_ok(),
                _ => statements::parameters(&query).is_ok(),
            }
        };
        let is_text = schema(path, name)["type"] == "string";
        let by_description = |value: &str| {
            let number = serde_json::from_str(value).ok().filter(|_| !is_text);
            validator.is_valid(&number.unwrap_or_else(|| Value::from(value)))
        };
        for value in valid {
            assert!(by_code(value) && by_description(value), "{name}={value}");
        }
        for value in invalid {
            assert!(!by_code(value) && !by_description(value), "{name}={value}");
        }
    }
    assert_eq!(
        page::parse("").unwrap().limit,
        schema("/data", "limit")["default"]
    );
    assert_eq!(
        page::parse("").unwrap().skip,
        schema("/data", "skip")["default"]
    );
    assert_eq!(
        json!(statements::parameters("").unwrap().2),
        schema("/ops/statements", "limit")["default"]
    );
}

#[test]
fn an_ops_endpoint_is_described_with_the_parameters_that_it_accepts() {
    let description = described(DescribedListener::Shared);
    for endpoint in ops::ENDPOINTS {
        let item = &description["paths"][endpoint.path()];
        let Some(accepted) = endpoint.parameters().filter(|_| item.is_object()) else {
            continue;
        };
        for method in methods(item) {
            let operation = &item[method.to_lowercase()];
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_query = parameters.filter(|parameter| parameter["in"] == "query");
            let described: BTreeSet<_> = of_query
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let accepted = accepted.iter().copied().collect();
            assert_eq!(described, accepted, "{}", endpoint.path());
            let rejection = &operation["responses"]["422"]["$ref"];
            assert_eq!(rejection, "#/components/responses/Invalid");
        }
    }
}

#[test]
fn the_words_of_the_description_are_those_of_the_code() {
    let description = described(DescribedListener::Shared);
    let operations = Operation::ALL.map(Operation::label);
    let statement = &description["components"]["schemas"]["Statement"]["properties"];
    assert_eq!(statement["operation"]["enum"], json!(operations));

    let exposition = &description["paths"]["/metrics"]["get"]["responses"]["200"]["content"];
    let described: BTreeSet<&str> = exposition
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let formats = [Format::Text, Format::OpenMetrics, Format::Protobuf];
    let served = formats.map(|format| format.content_type().split(';').next().unwrap());
    assert_eq!(described, BTreeSet::from(served));
}

#[test]
fn a_problem_is_described_under_the_status_that_it_is_sent_with() {
    let description = described(DescribedListener::Shared);
    let problems = problems(LIMITS);
    let responses = description["components"]["responses"].as_object().unwrap();
    assert_eq!(responses.len(), problems.len());
    let mut found = Vec::new();
    objects(&description["paths"], "", &mut found);
    for (name, problem) in problems {
        let reference = format!("#/components/responses/{name}");
        let mut statuses = found.iter().filter_map(|(path, object)| {
            let status = path.rsplit('/').next()?;
            (object.get("$ref")? == &Value::from(reference.as_str())).then_some(status)
        });
        let status = problem.status().to_string();
        let first = statuses
            .next()
            .unwrap_or_else(|| panic!("{name} is not used"));
        assert!(
            status.starts_with(first) && statuses.all(|it| it == first),
            "{name}"
        );
    }
}

/// Every object below, with the path to it.
fn objects<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Map<String, Value>)>) {
    match value {
        Value::Object(members) => {
            found.push((path.to_owned(), members));
            for (name, member) in members {
                objects(member, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                objects(element, path, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_example_is_valid_and_every_reference_has_a_target() {
    let description = described(DescribedListener::Shared);
    let mut found = Vec::new();
    objects(&description, "", &mut found);
    let mut examples = 0;
    for (path, object) in found {
        if let Some(Value::String(reference)) = object.get("$ref") {
            let target = description.pointer(&reference[1..]);
            assert!(target.is_some(), "{path} refers to {reference}");
        }
        if let (Some(example), Some(schema)) = (object.get("example"), object.get("schema")) {
            let mut schema = schema.clone();
            schema["components"] = description["components"].clone();
            let validator = jsonschema::validator_for(&schema).unwrap();
            validator
                .validate(example)
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            examples += 1;
        }
    }
    assert!(examples >= 20, "only {examples} examples");
}

#[test]
fn every_operation_has_a_unique_id_a_summary_and_its_problems() {
    let description = described(DescribedListener::Shared);
    let mut names = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in methods(item) {
            let operation = &item[method.to_lowercase()];
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{name} twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
            if path.starts_with("/data") {
                for status in ["422", "500", "503"] {
                    assert!(
                        operation["responses"][status].is_object(),
                        "{name}: {status}"
                    );
                }
            }
        }
    }
    let ops = ops::ENDPOINTS
        .iter()
        .filter(|endpoint| !endpoint.is_page_part());
    let (items, pages) = (6, 2);
    assert_eq!(names.len(), items + pages + ops.count());
}
