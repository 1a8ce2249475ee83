//! `GET /ops/requests/kept` and `GET /ops/requests/{id}`: single requests of the past, and what their time was spent on.
//!
//! Like `requests`, the worker that is asked makes the answer, so that a service whose workers are stuck can be asked.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Serialize;
use vitals_recorder::{
    context::StatementShapes as _,
    database::Database,
    http::{
        Comparison, KeepReason, KeptFilter, KeptId, KeptRequest, LeftOutPhases, Phase, PhaseKind,
    },
    problem::Problem,
};

use crate::{
    endpoints::{
        errors::Cause,
        inline_answer::inline_answer,
        parameters::{method, number, parameter, valid, whole},
        statements::rfc_3339,
    },
    ops::Ops,
    watched::Watched,
};

/// The parameters of `GET /ops/requests/kept`.
pub(super) const PARAMETERS: &[&str] = &[
    "method",
    "endpoint",
    "statement",
    "trace_id",
    "reason",
    "limit",
];

/// The default of `limit`.
const DEFAULT_LIMIT: usize = 50;
/// The largest `limit`.
const MOST: usize = 1000;

/// The largest size that is expected of an entry of the list in JSON, in bytes.
pub(super) const ENTRY_BYTES: usize = 1024;

/// The largest size that is expected of a timeline in JSON, in bytes: 100 phases, and the shapes of 24 statements.
const TIMELINE_BYTES: usize = 160 * 1024;

/// What the times of a comparison are.
const BASIS: &str =
    "the medians of requests of the endpoint that were chosen at random, one in each minute";

#[derive(Serialize)]
struct Listing {
    /// The most requests that are kept.
    keeps: usize,
    requests: Vec<Entry>,
}

/// One kept request. Times are in seconds.
#[derive(Serialize)]
pub(super) struct Entry {
    id: String,
    /// When it ended.
    at: String,
    method: &'static str,
    endpoint: String,
    status: u16,
    ending: &'static str,
    reasons: Vec<&'static str>,
    trace_id: Option<String>,
    seconds: f64,
    /// The time until the head of the answer, if its body followed later.
    head_seconds: Option<f64>,
    database_seconds: f64,
    queries: u64,
    /// Why it failed, if it did.
    cause: Option<Cause>,
}

impl From<&KeptRequest> for Entry {
    fn from(request: &KeptRequest) -> Self {
        Self {
            id: request.id.to_string(),
            at: rfc_3339(request.at),
            method: request.method,
            endpoint: request.endpoint.to_string(),
            status: request.status,
            ending: request.ending.label(),
            reasons: request.reasons().map(KeepReason::label).collect(),
            trace_id: request
                .trace
                .map(|trace| format!("{:032x}", trace.span.trace_id)),
            seconds: request.duration.as_secs_f64(),
            head_seconds: request.head.map(|head| head.as_secs_f64()),
            database_seconds: request.database_time.as_secs_f64(),
            queries: request.queries,
            cause: request.cause.as_ref().map(Cause::from),
        }
    }
}

/// The timeline of one request.
#[derive(Serialize)]
struct Timeline {
    #[serde(flatten)]
    request: Entry,
    sent_bytes: u64,
    loop_seconds: f64,
    polls: u32,
    longest_poll_seconds: Option<f64>,
    /// The share of its time that the phases explain.
    explained_percent: f64,
    /// Its time by what it was spent on, each moment counted once.
    times: Vec<Time>,
    /// The phases that are known one by one, in the order of their beginnings. They may overlap.
    phases: Vec<PhaseEntry>,
    /// The other phases.
    left_out: Vec<LeftOut>,
    /// The statements of the phases.
    statements: Vec<Statement>,
    /// What the usual times are made of; `null` if there are none.
    usual: Option<Usual>,
}

#[derive(Serialize)]
struct Time {
    kind: &'static str,
    seconds: f64,
    percent: f64,
    /// The usual time of the endpoint.
    usual_seconds: Option<f64>,
}

#[derive(Serialize)]
struct PhaseEntry {
    kind: &'static str,
    offset_seconds: f64,
    seconds: f64,
    /// The id of a query's statement, if it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement_id: Option<NonZeroU32>,
    /// Whether it lasted still when the request ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_unfinished: bool,
}

impl From<&Phase> for PhaseEntry {
    fn from(phase: &Phase) -> Self {
        Self {
            kind: phase.kind.label(),
            offset_seconds: phase.offset().as_secs_f64(),
            seconds: phase.duration().as_secs_f64(),
            statement_id: phase.statement,
            is_unfinished: phase.is_unfinished,
        }
    }
}

#[derive(Serialize)]
struct LeftOut {
    kind: &'static str,
    count: u64,
    seconds: f64,
}

impl From<&LeftOutPhases> for LeftOut {
    fn from(left_out: &LeftOutPhases) -> Self {
        Self {
            kind: left_out.kind.label(),
            count: left_out.count,
            seconds: left_out.duration.as_secs_f64(),
        }
    }
}

#[derive(Serialize)]
struct Statement {
    id: NonZeroU32,
    /// Its shape; `null` if it is not kept any more.
    statement: Option<String>,
}

#[derive(Serialize)]
struct Usual {
    basis: &'static str,
    /// The number of requests.
    requests: usize,
    /// When the earliest of them ended.
    since: String,
    seconds: f64,
}

impl From<&Comparison> for Usual {
    fn from(comparison: &Comparison) -> Self {
        Self {
            basis: BASIS,
            requests: comparison.requests,
            since: rfc_3339(comparison.since),
            seconds: comparison.duration.as_secs_f64(),
        }
    }
}

/// `GET /ops/requests/kept?endpoint=…&statement=…&trace_id=…&reason=…`: kept requests, the newest first.
pub(crate) async fn list_kept(
    request: HttpRequest,
    ops: web::Data<Ops>,
) -> Result<HttpResponse, Problem> {
    let (filter, limit) = parameters(request.query_string())?;
    let watched = ops.watched();
    let kept = watched.http.kept();
    let mut found = kept.list(&filter);
    found.truncate(limit);
    let listing = Listing {
        keeps: kept.limit(),
        requests: found
            .iter()
            .map(|request| Entry::from(&**request))
            .collect(),
    };
    inline_answer(&request, watched, found.len() * ENTRY_BYTES, &listing)
}

/// `GET /ops/requests/{id}`: the timeline of a kept request, by its id or by the id of its trace.
pub(crate) async fn get_timeline(
    request: HttpRequest,
    ops: web::Data<Ops>,
) -> Result<HttpResponse, Problem> {
    let watched = ops.watched();
    let kept = watched.http.kept();
    // The scope that the endpoint is mounted in may have parameters, too.
    let id = request.match_info().get("id").unwrap_or_default();
    let found = find(watched, id)?;
    let comparison = kept.comparison(&found);
    let timeline = timeline(&found, comparison.as_ref(), watched);
    inline_answer(&request, watched, TIMELINE_BYTES, &timeline)
}

/// The kept request with this id, or the only one of the trace with this id.
fn find(watched: &Watched, id: &str) -> Result<Arc<KeptRequest>, Problem> {
    let kept = watched.http.kept();
    if let Ok(id) = id.parse::<KeptId>() {
        let of_failure = || watched.http.failures().kept(id);
        return kept.get(id).or_else(of_failure).ok_or_else(not_found);
    }
    let trace_id = trace_id(id).ok_or_else(not_found)?;
    let mut of_trace = kept.list(&KeptFilter {
        trace_id: Some(trace_id),
        ..KeptFilter::default()
    });
    if of_trace.len() > 1 {
        let detail = "Several kept requests belong to this trace. GET /ops/requests/kept?trace_id=… lists them.";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    of_trace.pop().ok_or_else(not_found)
}

fn not_found() -> Problem {
    let detail = "No request with this id is kept. Kept requests are replaced by later ones.";
    Problem::new(StatusCode::NOT_FOUND, detail)
}

fn timeline(request: &KeptRequest, usual: Option<&Comparison>, watched: &Watched) -> Timeline {
    let explanation = request.explain();
    let total = request.duration.as_secs_f64();
    let times = PhaseKind::ALL.into_iter().enumerate().map(|(at, kind)| {
        let seconds = explanation.time(kind).as_secs_f64();
        Time {
            kind: kind.label(),
            seconds,
            percent: if total > 0.0 {
                seconds / total * 100.0
            } else {
                0.0
            },
            usual_seconds: usual.map(|usual| usual.times[at].as_secs_f64()),
        }
    });
    let has_some =
        |time: &Time| time.seconds > 0.0 || time.usual_seconds.is_some_and(|time| time > 0.0);
    let numbers: BTreeSet<_> = (request.phases.iter())
        .filter_map(|phase| phase.statement)
        .collect();
    let statements = watched.database.as_ref().map(Database::statements);
    Timeline {
        request: Entry::from(request),
        sent_bytes: request.sent_bytes,
        loop_seconds: request.loop_time.as_secs_f64(),
        polls: request.polls,
        longest_poll_seconds: request
            .longest_poll()
            .map(|poll| poll.duration().as_secs_f64()),
        explained_percent: explanation.percent(),
        times: times.filter(has_some).collect(),
        phases: request.phases.iter().map(PhaseEntry::from).collect(),
        left_out: request.left_out.iter().map(LeftOut::from).collect(),
        statements: numbers
            .into_iter()
            .map(|id| Statement {
                id,
                statement: statements.and_then(|statements| statements.text(id)),
            })
            .collect(),
        usual: usual.map(Usual::from),
    }
}

/// Parses the filter and the limit of a query string. Ignores other parameters: the endpoint rejects them before.
fn parameters(query: &str) -> Result<(KeptFilter, usize), Problem> {
    let mut errors = Vec::new();
    let text = |value: &str| Ok(value.to_owned());
    let filter = KeptFilter {
        method: parameter(query, "method", &mut errors, |value| method(value, &[])),
        endpoint: parameter(query, "endpoint", &mut errors, text),
        statement: parameter(query, "statement", &mut errors, |value| {
            let id = number(value);
            id.ok_or_else(|| "must be the id of a statement, an integer from 1".to_owned())
        }),
        trace_id: parameter(query, "trace_id", &mut errors, |value| {
            trace_id(value).ok_or_else(|| "must be 32 hexadecimal digits in lower case".to_owned())
        }),
        reason: parameter(query, "reason", &mut errors, |value| {
            let mut reasons = KeepReason::ALL.into_iter();
            let found = reasons.find(|reason| reason.label() == value);
            found.ok_or_else(|| {
                let names = KeepReason::ALL.map(KeepReason::label).join(", ");
                format!("must be one of {names}")
            })
        }),
    };
    let limit = parameter(query, "limit", &mut errors, |value| {
        whole(value, &(1..=MOST))
    });
    valid((filter, limit.unwrap_or(DEFAULT_LIMIT)), errors)
}

/// The id of a trace, as 32 hexadecimal digits in lower case.
fn trace_id(text: &str) -> Option<u128> {
    let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == 32 && text.bytes().all(is_hex))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App, HttpResponse,
        body::to_bytes,
        dev::Service as _,
        rt::time::{sleep, timeout},
        test::{TestRequest, call_and_read_body, call_service, init_service, read_body_json},
    };
    use futures_util::stream;
    use serde_json::Value;
    use std::time::Duration;
    use vitals_recorder::http::{Monitor, block};

    use super::*;
    use crate::{OpsSettings, fixture};

    #[actix_web::test]
    async fn a_failed_request_is_found_by_its_id_and_by_its_trace_without_its_path() {
        let ops = fixture::ops(OpsSettings::new().with_requests());
        let watched = ops.watched();
        let monitor = Monitor::new(watched.http.clone(), watched.runtime.clone());
        let app = App::new()
            .route(
                "/fail/{secret}",
                web::get().to(|| async {
                    sleep(Duration::from_millis(30)).await;
                    HttpResponse::InternalServerError().body("hunter2")
                }),
            )
            .configure(|config| ops.configure(config, &|route| route))
            .wrap(monitor);
        let app = init_service(app).await;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let fail = || {
            let request = TestRequest::with_uri("/fail/hunter2?token=hunter2")
                .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
                .insert_header(("authorization", "hunter2"));
            request.to_request()
        };
        let ask = async |path: String| -> (u16, Value) {
            let answer = call_service(&app, TestRequest::with_uri(&path).to_request()).await;
            let status = answer.status().as_u16();
            (status, read_body_json(answer).await)
        };
        call_and_read_body(&app, fail()).await;
        let (_, listing) =
            ask("/ops/requests/kept?reason=failed&endpoint=/fail/%7Bsecret%7D".to_owned()).await;
        let [entry] = listing["requests"].as_array().unwrap().as_slice() else {
            panic!("{listing}");
        };
        assert_eq!(entry["endpoint"], "/fail/{secret}");
        assert_eq!(entry["status"], 500);
        assert_eq!(entry["trace_id"], trace);
        let id = entry["id"].as_str().unwrap();
        let (status, timeline) = ask(format!("/ops/requests/{id}")).await;
        assert_eq!(status, 200, "{timeline}");
        assert_eq!(
            ask(format!("/ops/requests/{trace}")).await,
            (200, timeline.clone())
        );
        assert!(
            timeline["explained_percent"].as_f64().unwrap() > 99.9,
            "{timeline}"
        );
        let times = timeline["times"].as_array().unwrap();
        let waited = times
            .iter()
            .find(|time| time["kind"] == "awaiting")
            .unwrap();
        assert!(waited["seconds"].as_f64().unwrap() >= 0.029, "{timeline}");
        assert!(!timeline.to_string().contains("hunter2"), "{timeline}");
        call_and_read_body(&app, fail()).await;
        assert_eq!(ask(format!("/ops/requests/{trace}")).await.0, 409);
        for unknown in [
            "0000000000000001",
            "1",
            "hunter2",
            "ffffffffffffffffffffffffffffffff",
        ] {
            let (status, problem) = ask(format!("/ops/requests/{unknown}")).await;
            assert_eq!(status, 404, "{unknown}: {problem}");
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
        assert_eq!(ask("/ops/requests/kept?limit=0".to_owned()).await.0, 422);
    }

    #[actix_web::test]
    async fn a_client_that_left_has_a_timeline_with_the_work_that_was_not_done() {
        let ops = fixture::ops(OpsSettings::new().with_requests());
        let watched = ops.watched();
        let monitor = Monitor::new(watched.http.clone(), watched.runtime.clone());
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let app = App::new()
            .route(
                "/block",
                web::get().to(move || {
                    let wait = Arc::clone(&wait);
                    async move {
                        let blocked =
                            block(move || wait.lock().is_ok_and(|wait| wait.recv().is_ok()));
                        HttpResponse::Ok().body(format!("{}", blocked.await.is_ok()))
                    }
                }),
            )
            .configure(|config| ops.configure(config, &|route| route))
            .wrap(monitor);
        let app = init_service(app).await;
        let served = app.call(TestRequest::with_uri("/block").to_request());
        let left = timeout(Duration::from_millis(50), served).await;
        assert!(left.is_err(), "it waits for the thread");
        let ask = async |path: &str| -> Value {
            let answer = call_service(&app, TestRequest::with_uri(path).to_request()).await;
            read_body_json(answer).await
        };
        let listing = ask("/ops/requests/kept?reason=failed").await;
        let entry = &listing["requests"][0];
        assert_eq!(
            (&entry["status"], &entry["ending"]),
            (&499.into(), &"no_head".into())
        );
        assert_eq!(entry["cause"]["kind"], "no_head");
        let timeline = ask(&format!("/ops/requests/{}", entry["id"].as_str().unwrap())).await;
        let phases = timeline["phases"].as_array().unwrap();
        let blocked = phases.iter().find(|phase| phase["is_unfinished"] == true);
        let kind = blocked.unwrap()["kind"].as_str().unwrap();
        // On a busy machine the thread may not have begun.
        assert!(
            ["blocking_thread", "blocking_queue"].contains(&kind),
            "{timeline}"
        );
        done.send(()).unwrap();
    }

    /// Sends the sentence word by word, with a wait after each, and fails at the end if that is wanted.
    fn words(fails: bool) -> HttpResponse {
        let words = stream::unfold(0, move |number| async move {
            sleep(Duration::from_millis(20)).await;
            match number {
                0..3 => Some((Ok(web::Bytes::from_static(b"data: x\n\n")), number + 1)),
                3 if fails => Some((Err(std::io::Error::other("hunter2")), 4)),
                _ => None,
            }
        });
        let mut answer = HttpResponse::Ok();
        answer.content_type("text/event-stream").streaming(words)
    }

    #[actix_web::test]
    async fn a_stream_that_failed_or_is_sampled_has_a_timeline() {
        let ops = fixture::ops(OpsSettings::new().with_requests());
        let watched = ops.watched();
        let monitor = Monitor::new(watched.http.clone(), watched.runtime.clone());
        let app = App::new()
            .route("/events", web::get().to(async || words(false)))
            .route("/broken", web::get().to(async || words(true)))
            .configure(|config| ops.configure(config, &|route| route))
            .wrap(monitor);
        let app = init_service(app).await;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let events = TestRequest::with_uri("/events")
            .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")));
        call_and_read_body(&app, events.to_request()).await;
        let broken = call_service(&app, TestRequest::with_uri("/broken").to_request()).await;
        let failed = to_bytes(broken.into_body()).await;
        assert!(failed.is_err());
        let ask = async |path: &str| -> Value {
            let answer = call_service(&app, TestRequest::with_uri(path).to_request()).await;
            assert_eq!(answer.status(), 200, "{path}");
            read_body_json(answer).await
        };

        let timeline = ask(&format!("/ops/requests/{trace}")).await;
        let reasons = timeline["reasons"].as_array().unwrap();
        assert!(reasons.contains(&"sampled".into()), "{timeline}");
        assert!(!reasons.contains(&"slow".into()), "{timeline}");
        assert_eq!(
            (&timeline["ending"], &timeline["sent_bytes"]),
            (&"complete".into(), &27.into())
        );
        let head = timeline["head_seconds"].as_f64().unwrap();
        assert!(head < timeline["seconds"].as_f64().unwrap(), "{timeline}");
        assert!(
            timeline["explained_percent"].as_f64().unwrap() > 99.0,
            "{timeline}"
        );
        let times = timeline["times"].as_array().unwrap();
        let body = times.iter().find(|time| time["kind"] == "body_awaiting");
        let body = body.unwrap()["seconds"].as_f64().unwrap();
        assert!(body >= 0.079, "four waits: {timeline}");

        let errors = ask("/ops/errors").await;
        let error = &errors["errors"][0];
        assert_eq!(error["endpoint"], "/broken", "{errors}");
        let broken = error["last_kept"].as_str().unwrap();
        let timeline = ask(&format!("/ops/requests/{broken}")).await;
        assert_eq!(
            (&timeline["ending"], &timeline["status"]),
            (&"body_failed".into(), &200.into())
        );
        assert!(!timeline.to_string().contains("hunter2"), "{timeline}");
    }

    #[test]
    fn valid_parameters_are_parsed_and_others_are_rejected() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (query, expected, why) in [
            ("", Some(50), "the defaults"),
            ("limit=1000&other=x", Some(1000), "another parameter"),
            ("endpoint=/a/%7Bid%7D&method=GET", Some(50), "an endpoint"),
            ("reason=slow_for_endpoint", Some(50), "a reason"),
            ("statement=7", Some(50), "a statement"),
            (&format!("trace_id={trace}"), Some(50), "a trace"),
            (
                &format!("trace_id={}", trace.to_uppercase()),
                None,
                "upper case",
            ),
            ("trace_id=1", None, "too short"),
            ("statement=0", None, "no statement"),
            ("statement=+7", None, "a sign"),
            ("statement=07", None, "a leading zero"),
            ("method=job", None, "jobs are not kept"),
            ("reason=Slow", None, "names are in lower case"),
            ("reason=slow&reason=failed", None, "given twice"),
            ("limit=0", None, "zero"),
            ("limit=1001", None, "too many"),
        ] {
            let found = parameters(query).ok().map(|(_, limit)| limit);
            assert_eq!(found, expected, "{why}: {query}");
        }
        let (filter, _) = parameters("endpoint=/a/%7Bid%7D&statement=7").unwrap();
        assert_eq!(filter.endpoint.as_deref(), Some("/a/{id}"));
        assert_eq!(filter.statement, NonZeroU32::new(7));
    }
}
