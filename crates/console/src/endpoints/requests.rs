//! `GET /ops/requests`: the requests in flight, and what each of them does.
//!
//! The worker that is asked makes the answer from atomics, and needs no other worker and no blocking thread. So an ops
//! listener of its own answers while every worker of the service is stuck. On a shared listener a stuck worker cannot
//! answer, and the others can.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use vitals_recorder::{
    context::StatementShapes as _, database::Database, http::NO_STACK, in_flight::InFlightRequest,
    problem::Problem,
};

use crate::{endpoints::inline_answer::inline_answer, ops::Ops, watched::Watched};

/// The most requests of an answer.
const MOST: usize = 200;

/// The largest size that is expected of an entry in JSON, in bytes.
const ENTRY_BYTES: usize = 5 * 1024;

#[derive(Serialize)]
struct Listing {
    /// The number of all requests in flight, except those of ops endpoints.
    total: u64,
    /// The number of requests that keep an event loop busy for longer than the threshold.
    stalls: usize,
    stall_threshold_seconds: f64,
    requests: Vec<Entry>,
}

/// One request in flight. Times are in seconds.
#[derive(Serialize)]
struct Entry {
    age_seconds: f64,
    method: &'static str,
    /// `null` while it is not known.
    endpoint: Option<String>,
    trace_id: Option<String>,
    worker: Option<usize>,
    doing: &'static str,
    doing_seconds: f64,
    /// How long the request has kept its worker's event loop busy without a pause, if it does so now.
    on_event_loop_seconds: Option<f64>,
    is_stall: bool,
    /// Why a stall has no stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_stack: Option<&'static str>,
    /// The statement that runs, by its shape.
    statement: Option<String>,
    sent_bytes: u64,
}

/// `GET /ops/requests`: at most 200 requests in flight, the oldest first.
pub(crate) async fn get_requests(
    request: HttpRequest,
    ops: web::Data<Ops>,
) -> Result<HttpResponse, Problem> {
    let watched = ops.watched();
    // Not on a blocking thread: other large answers could occupy those.
    let listing = list(watched);
    let bytes = listing.requests.len() * ENTRY_BYTES;
    inline_answer(&request, watched, bytes, &listing)
}

fn list(watched: &Watched) -> Listing {
    let (recorder, endpoints) = (&watched.http, &watched.endpoints);
    let statements = watched.database.as_ref().map(Database::statements);
    let threshold = recorder.stall_threshold();
    let is_service = |request: &InFlightRequest| {
        !(request.endpoint.as_ref()).is_some_and(|endpoint| endpoints.contains(endpoint))
    };
    let report = recorder.in_flight().report(MOST, is_service);
    let entry = |request: InFlightRequest| {
        let is_stall = request.on_event_loop.is_some_and(|busy| busy >= threshold);
        Entry {
            age_seconds: request.age.as_secs_f64(),
            method: request.method,
            endpoint: request.endpoint.as_deref().map(str::to_owned),
            trace_id: request.trace_id.map(|id| format!("{id:032x}")),
            worker: request.worker,
            doing: request.activity.label(),
            doing_seconds: request.activity_age.as_secs_f64(),
            on_event_loop_seconds: request.on_event_loop.map(|busy| busy.as_secs_f64()),
            is_stall,
            no_stack: is_stall.then_some(NO_STACK),
            statement: (request.statement).and_then(|number| statements?.text(number)),
            sent_bytes: request.sent_bytes,
        }
    };
    let requests: Vec<_> = report.requests.into_iter().map(entry).collect();
    Listing {
        total: report.total,
        stalls: requests.iter().filter(|request| request.is_stall).count(),
        stall_threshold_seconds: threshold.as_secs_f64(),
        requests,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::{
        App, HttpResponse,
        rt::{System, spawn, task::yield_now, time::sleep},
        test::{TestRequest, call_and_read_body_json, call_service, init_service},
        web,
    };
    use serde_json::Value;
    use vitals_recorder::http::Monitor;

    use crate::{OpsSettings, fixture};

    #[test]
    fn requests_in_flight_are_listed_without_their_paths() {
        System::new().block_on(async {
            let ops = fixture::ops(OpsSettings::new().with_requests());
            let watched = ops.watched();
            let monitor = Monitor::new(watched.http.clone(), watched.runtime.clone());
            let app = App::new()
                .route(
                    "/slow/{secret}",
                    web::get().to(|| async {
                        sleep(Duration::from_secs(60)).await;
                        HttpResponse::Ok().finish()
                    }),
                )
                .configure(|config| ops.configure(config, &|route| route))
                .wrap(monitor);
            let app = std::rc::Rc::new(init_service(app).await);
            let slow = std::rc::Rc::clone(&app);
            let slow = spawn(async move {
                let request = TestRequest::with_uri("/slow/hunter2?token=hunter2");
                let request = request.insert_header(("authorization", "hunter2"));
                call_service(&*slow, request.to_request()).await
            });
            let ask = || TestRequest::with_uri("/ops/requests").to_request();
            let mut attempts = 0;
            let listing: Value = loop {
                let listing: Value = call_and_read_body_json(&*app, ask()).await;
                if listing["total"] == 1 {
                    break listing;
                }
                attempts += 1;
                assert!(attempts < 100, "{listing}");
                yield_now().await;
            };
            slow.abort();
            let [request] = listing["requests"].as_array().unwrap().as_slice() else {
                panic!("{listing}");
            };
            assert_eq!(request["endpoint"], "/slow/{secret}");
            assert_eq!(request["method"], "GET");
            assert_eq!(request["doing"], "awaiting");
            assert_eq!(request["is_stall"], false);
            assert!(!listing.to_string().contains("hunter2"), "{listing}");
        });
    }
}
