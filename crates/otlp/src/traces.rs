//! From kept requests to the traces of OTLP: a span for the request, and one for each query, wait and transaction.
//!
//! Attributes are those that OpenTelemetry's conventions (1.42) require of a server's and of a SQL client's span, as far as
//! no value is in them and the recorders know them. The database's code of an error (`db.response.status_code`) they do not
//! know. Which requests there are is decided where they are kept.
//!
//! - HTTP: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>
//! - databases: <https://opentelemetry.io/docs/specs/semconv/database/database-spans/>
//!
//! Left out is what a client sent (`url.path`, `url.query`, `http.request.method_original`, `server.address`,
//! `user_agent.original`, `client.address`), and what only the URL of a database knows (`db.namespace`, `server.address`).

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, SpanKind},
        status::StatusCode,
    },
};
use prost::Message as _;
use vitals_recorder::context::StatementShapes as _;
use vitals_recorder::database::{Database, ErrorKind, sql::verb::operation};
use vitals_recorder::http::{
    FailureCause, FailureKind, KeepReason, KeptEnding, KeptId, KeptRequest, KeptRequests,
    OTHER_METHOD, Phase, PhaseKind, UNMATCHED,
};
use vitals_recorder::naming::Naming;

use crate::message::{nanoseconds, scope, text_attribute};
use crate::push::{TraceSource, Traces};

/// The most spans in one message, but for those of the last request. It bounds the memory of a push.
const MOST_SPANS: usize = 2000;

/// A request that has ended this long ago is kept, if it is going to be.
const SETTLED: Duration = Duration::from_secs(1);

/// The conventions' name for a database system that is not known.
const UNKNOWN_SYSTEM: &str = "other_sql";

/// The bit of a span's flags that says that the trace is recorded.
const SAMPLED: u32 = 0x1;

/// The bits of a span's flags that say whether the parent is in another process.
const KNOWS_PARENT: u32 = 0x100;
const HAS_REMOTE_PARENT: u32 = 0x200;

impl TraceSource {
    /// The requests that are `kept` from now on. `database` knows the texts of their queries.
    pub fn new(kept: KeptRequests, database: Option<Database>) -> Self {
        Self(Box::new(RequestTraces {
            kept,
            database,
            ids: RandomState::new(),
            last: None,
            next: None,
        }))
    }
}

/// The kept requests that were not passed on yet.
struct RequestTraces {
    kept: KeptRequests,
    database: Option<Database>,
    /// Makes the ids of spans: the same each time that a request is encoded, and others in another process.
    ids: RandomState,
    /// The last request that was passed on.
    last: Option<KeptId>,
    /// The last request of the message that comes next.
    next: Option<KeptId>,
}

impl fmt::Debug for RequestTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestTraces")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Traces for RequestTraces {
    fn next(&mut self, resource: &[KeyValue], all: bool) -> Option<Vec<u8>> {
        let now = SystemTime::now();
        // A request that ended at the same time as this one may be kept after it.
        let is_settled = |request: &Arc<KeptRequest>| {
            all || now
                .duration_since(request.at)
                .map_or(true, |age| age >= SETTLED)
        };
        let mut spans = Vec::new();
        let requests = self.kept.since(self.last).into_iter();
        for request in requests.take_while(is_settled) {
            if spans.len() >= MOST_SPANS {
                break;
            }
            self.push_request(&mut spans, &request);
            self.next = Some(request.id);
        }
        (!spans.is_empty()).then(|| encode(spans, resource))
    }

    fn pass(&mut self) {
        self.last = self.next.take().or(self.last);
    }
}

fn encode(spans: Vec<Span>, resource: &[KeyValue]) -> Vec<u8> {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: resource.to_vec(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

impl RequestTraces {
    /// Appends the span of a request, and those of its phases.
    fn push_request(&self, spans: &mut Vec<Span>, request: &KeptRequest) {
        let ended = request.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = ended.saturating_sub(request.duration);
        let trace_id = request.trace.map_or_else(
            || u128::from(self.id(request, 1)) << 64 | u128::from(self.id(request, 2)),
            |trace| trace.span.trace_id,
        );
        let trace_id = trace_id.to_be_bytes().to_vec();
        let own_id = self.id(request, 0).to_be_bytes().to_vec();
        let is_sampled = request.trace.is_none_or(|trace| trace.sampled);
        let flags = KNOWS_PARENT | if is_sampled { SAMPLED } else { 0 };
        spans.push(Span {
            trace_id: trace_id.clone(),
            span_id: own_id.clone(),
            parent_span_id: request
                .trace
                .map_or_else(Vec::new, |trace| trace.span.span_id.to_be_bytes().to_vec()),
            flags: flags
                | if request.trace.is_some() {
                    HAS_REMOTE_PARENT
                } else {
                    0
                },
            kind: SpanKind::Server as i32,
            start_time_unix_nano: nanoseconds(started),
            end_time_unix_nano: nanoseconds(ended),
            ..server_span(request, started, ended)
        });
        for (number, phase) in (3..).zip(request.phases.iter()) {
            let Some(span) = self.phase_span(phase) else {
                continue;
            };
            let began = started + phase.offset();
            spans.push(Span {
                trace_id: trace_id.clone(),
                span_id: self.id(request, number).to_be_bytes().to_vec(),
                parent_span_id: own_id.clone(),
                flags,
                start_time_unix_nano: nanoseconds(began),
                end_time_unix_nano: nanoseconds(began + phase.duration()),
                ..span
            });
        }
    }

    /// An id that is not zero.
    fn id(&self, request: &KeptRequest, number: u64) -> u64 {
        self.ids.hash_one((request.id, number)).max(1)
    }

    /// The name, kind and attributes of a phase's span. `None` for a phase that is no operation, such as a poll.
    fn phase_span(&self, phase: &Phase) -> Option<Span> {
        let (name, kind) = match phase.kind {
            PhaseKind::Query => ("query", SpanKind::Client),
            PhaseKind::TransactionControl => ("transaction control", SpanKind::Client),
            PhaseKind::PoolWait => ("wait for a connection", SpanKind::Internal),
            PhaseKind::BlockingQueue => ("wait for a blocking thread", SpanKind::Internal),
            PhaseKind::BlockingThread => ("blocking thread", SpanKind::Internal),
            PhaseKind::Transaction => ("transaction", SpanKind::Internal),
            PhaseKind::EventLoop
            | PhaseKind::Awaiting
            | PhaseKind::BodyAwaiting
            | PhaseKind::Sending => return None,
        };
        let mut span = Span {
            name: name.to_owned(),
            kind: kind as i32,
            ..Span::default()
        };
        if kind == SpanKind::Client {
            self.describe_query(&mut span, phase.statement);
        }
        if let Some(error) = phase.error {
            span.attributes
                .push(text_attribute("error.type", error.label()));
            span.status = Some(failed());
        }
        if phase.is_unfinished {
            span.attributes
                .push(attribute("vitals.unfinished", Value::BoolValue(true)));
        }
        Some(span)
    }

    /// Adds what is known of a query and its statement, whose shape has no values.
    fn describe_query(&self, span: &mut Span, statement: Option<NonZeroU32>) {
        let database = self.database.as_ref();
        let known = database.map(Database::statements).zip(statement);
        let pool = known.and_then(|(statements, number)| statements.pool(number));
        let system = database.and_then(|database| database.system(pool.as_deref()));
        let system = system.unwrap_or(UNKNOWN_SYSTEM);
        span.attributes
            .push(text_attribute("db.system.name", system));
        if let Some(pool) = pool {
            let pool = text_attribute("db.client.connection.pool.name", &pool);
            span.attributes.push(pool);
        }
        let Some(text) = known.and_then(|(statements, number)| statements.text(number)) else {
            return;
        };
        let name = Naming::OpenTelemetry.operation(operation(&text).label());
        if !name.starts_with('_') {
            name.clone_into(&mut span.name);
            span.attributes
                .push(text_attribute("db.operation.name", name));
        }
        span.attributes.push(text_attribute("db.query.text", &text));
    }
}

/// The name, attributes, events and status of a request's span.
fn server_span(request: &KeptRequest, started: Duration, ended: Duration) -> Span {
    let method = match request.method {
        OTHER_METHOD => "_OTHER",
        method => method,
    };
    // The conventions' name for the span of a method that they do not know.
    let verb = if method == "_OTHER" { "HTTP" } else { method };
    let route = (*request.endpoint != *UNMATCHED).then_some(&*request.endpoint);
    let mut span = Span {
        name: route.map_or_else(|| verb.to_owned(), |route| format!("{verb} {route}")),
        attributes: vec![
            text_attribute("http.request.method", method),
            text_attribute("url.scheme", request.scheme),
        ],
        ..Span::default()
    };
    let attributes = &mut span.attributes;
    attributes.extend(route.map(|route| text_attribute("http.route", route)));
    if request.ending != KeptEnding::NoHead {
        let status = Value::IntValue(request.status.into());
        attributes.push(attribute("http.response.status_code", status));
        let bytes = Value::IntValue(i64::try_from(request.sent_bytes).unwrap_or(i64::MAX));
        attributes.push(attribute("http.response.body.size", bytes));
    }
    let queries = Value::IntValue(i64::try_from(request.queries).unwrap_or(i64::MAX));
    attributes.push(attribute("vitals.queries", queries));
    let loop_time = Value::DoubleValue(request.loop_time.as_secs_f64());
    attributes.push(attribute("vitals.event_loop_seconds", loop_time));
    let reasons: Vec<_> = request.reasons().collect();
    let labels = reasons.iter().map(|reason| reason.label());
    attributes.push(texts("vitals.kept_for", labels));
    if let Some(error) = error_type(request) {
        let error = text_attribute("error.type", &error);
        attributes.push(error.clone());
        span.events.push(match &request.cause {
            Some(cause) => cause_event(cause, error, ended),
            None => event("error", ended, vec![error]),
        });
        span.status = Some(failed());
    }
    if reasons.contains(&KeepReason::NPlusOne) {
        span.events.push(event("n_plus_one", ended, Vec::new()));
    }
    if let (true, Some(poll)) = (reasons.contains(&KeepReason::Stall), request.longest_poll()) {
        let seconds = Value::DoubleValue(poll.duration().as_secs_f64());
        let seconds = attribute("vitals.stall_seconds", seconds);
        span.events
            .push(event("stall", started + poll.offset(), vec![seconds]));
    }
    span
}

fn failed() -> Status {
    Status {
        code: StatusCode::Error as i32,
        ..Status::default()
    }
}

/// What failed, as the metrics name it.
fn error_type(request: &KeptRequest) -> Option<String> {
    match request.ending {
        _ if request.status >= 500 => Some(request.status.to_string()),
        KeptEnding::Complete => None,
        KeptEnding::NoHead | KeptEnding::ClientLeft => Some("client_disconnected".to_owned()),
        KeptEnding::BodyFailed => Some("response_failed".to_owned()),
    }
}

/// What is known of the cause: names from the code. The first type is the exception's.
fn cause_event(cause: &FailureCause, error: KeyValue, at: Duration) -> Event {
    let first = match cause.kind {
        FailureKind::Panic => Some("panic"),
        _ => cause.types.first().map(|name| &**name),
    };
    let Some(first) = first else {
        return event("error", at, vec![error]);
    };
    let mut attributes = vec![text_attribute("exception.type", first)];
    if cause.types.len() > 1 {
        let names = cause.types.iter().map(|name| &**name);
        attributes.push(texts("vitals.error_types", names));
    }
    let location = cause.location.as_deref();
    attributes.extend(location.map(|at| text_attribute("vitals.panic_location", at)));
    let kind = cause.database_error.map(ErrorKind::label);
    attributes.extend(kind.map(|kind| text_attribute("vitals.database_error", kind)));
    event("exception", at, attributes)
}

fn texts<'a>(key: &str, values: impl Iterator<Item = &'a str>) -> KeyValue {
    let values = values.map(|value| AnyValue {
        value: Some(Value::StringValue(value.to_owned())),
    });
    let values = values.collect();
    attribute(key, Value::ArrayValue(ArrayValue { values }))
}

fn event(name: &str, at: Duration, attributes: Vec<KeyValue>) -> Event {
    Event {
        name: name.to_owned(),
        time_unix_nano: nanoseconds(at),
        attributes,
        ..Event::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
