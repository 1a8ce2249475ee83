//! `GET /ops/errors`: the failed requests, by endpoint and cause.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use vitals_recorder::{
    database::ErrorKind,
    http::{FailureCause, FailureGroup},
    problem::Problem,
};

use crate::{
    endpoints::{inline_answer::inline_answer, statements::rfc_3339},
    ops::Ops,
};

/// The largest size that is expected of an entry in JSON, in bytes.
const ENTRY_BYTES: usize = 2 * 1024;

#[derive(Serialize)]
struct Listing {
    errors: Vec<Entry>,
}

/// Requests that failed in the same way.
#[derive(Serialize)]
struct Entry {
    method: &'static str,
    endpoint: String,
    status: u16,
    #[serde(flatten)]
    cause: Cause,
    count: u64,
    first_seen: String,
    last_seen: String,
    /// The id of the last of them whose timeline was kept.
    last_kept: Option<String>,
}

/// Why a request failed. It contains names from the code, and no text of an error.
#[derive(Serialize)]
pub(super) struct Cause {
    kind: &'static str,
    /// The error's types or variants, and those of its sources, as far as they are known.
    types: Vec<String>,
    /// The title of the problem that it answered with.
    title: Option<&'static str>,
    /// Where the code panicked.
    location: Option<String>,
    /// The last error of the database.
    database_error: Option<&'static str>,
}

impl From<&FailureCause> for Cause {
    fn from(cause: &FailureCause) -> Self {
        Self {
            kind: cause.kind.label(),
            types: cause.types.iter().map(ToString::to_string).collect(),
            title: cause.title,
            location: cause.location.clone(),
            database_error: cause.database_error.map(ErrorKind::label),
        }
    }
}

impl From<FailureGroup> for Entry {
    fn from(group: FailureGroup) -> Self {
        Self {
            method: group.method,
            endpoint: group.endpoint.to_string(),
            status: group.status,
            cause: Cause::from(&group.cause),
            count: group.count,
            first_seen: rfc_3339(group.first_seen),
            last_seen: rfc_3339(group.last_seen),
            last_kept: group.last_kept.map(|request| request.id.to_string()),
        }
    }
}

/// `GET /ops/errors`: at most 200 groups of failed requests, the latest first.
pub(crate) async fn get_errors(
    request: HttpRequest,
    ops: web::Data<Ops>,
) -> Result<HttpResponse, Problem> {
    let watched = ops.watched();
    let groups = watched.http.failures().list();
    let bytes = groups.len() * ENTRY_BYTES;
    let listing = Listing {
        errors: groups.into_iter().map(Entry::from).collect(),
    };
    inline_answer(&request, watched, bytes, &listing)
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fmt};

    use actix_web::{
        App, HttpResponse,
        body::to_bytes,
        dev::Service as _,
        http::StatusCode,
        test::{TestRequest, call_service, init_service, read_body},
        web,
    };
    use serde_json::Value;
    use vitals_recorder::{http::Monitor, problem::Problem};

    use crate::{OpsSettings, fixture};

    #[derive(Debug)]
    #[allow(dead_code, reason = "the field is what must not be shown")]
    struct LostOrder(String);

    impl fmt::Display for LostOrder {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "order {} is lost", self.0)
        }
    }

    impl Error for LostOrder {}

    fn lost() -> LostOrder {
        LostOrder("hunter2".to_owned())
    }

    async fn fail(kind: web::Path<String>) -> actix_web::Result<HttpResponse> {
        match kind.as_str() {
            "error" => {
                let error: Box<dyn Error> = Box::new(lost());
                Err(error.into())
            }
            "problem" => {
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "hunter2");
                Err(problem.caused_by(&lost()).into())
            }
            "panic" => panic!("hunter2"),
            _ => Ok(HttpResponse::InternalServerError().body("hunter2")),
        }
    }

    #[actix_web::test]
    async fn failures_are_listed_by_their_cause_with_the_timeline_of_the_last() {
        let ops = fixture::ops(OpsSettings::new().with_requests());
        let watched = ops.watched();
        let monitor = Monitor::new(watched.http.clone(), watched.runtime.clone());
        let app = App::new()
            .route("/fail/{kind}", web::get().to(fail))
            .configure(|config| ops.configure(config, &|route| route))
            .wrap(monitor);
        let app = init_service(app).await;
        for kind in ["error", "problem", "panic", "answer", "error"] {
            let uri = format!("/fail/{kind}?token=hunter2");
            let request = TestRequest::with_uri(&uri).insert_header(("cookie", "hunter2"));
            // As Actix does it: an error becomes an answer outside of the middlewares.
            let answer = match app.call(request.to_request()).await {
                Ok(answer) => to_bytes(answer.into_body()).await.is_ok(),
                Err(error) => to_bytes(error.error_response().into_body()).await.is_ok(),
            };
            assert!(answer, "{kind}");
        }
        let ask = async |uri: &str| -> Value {
            let answer = call_service(&app, TestRequest::with_uri(uri).to_request()).await;
            assert_eq!(answer.status(), 200, "{uri}");
            let body = read_body(answer).await;
            let text = String::from_utf8_lossy(&body);
            assert!(!text.contains("hunter2"), "{text}");
            serde_json::from_str(&text).unwrap()
        };
        let listing = ask("/ops/errors").await;
        let errors = listing["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 4, "{listing}");
        for (kind, status, count, types, title) in [
            ("error", 500, 2, vec!["LostOrder"], None),
            (
                "error",
                503,
                1,
                vec!["Problem", std::any::type_name::<LostOrder>(), "LostOrder"],
                Some("Service Unavailable"),
            ),
            ("panic", 500, 1, vec![], None),
            ("answer", 500, 1, vec![], None),
        ] {
            let mut groups = errors.iter();
            let group = groups
                .find(|group| group["kind"] == kind && group["status"] == status)
                .unwrap_or_else(|| panic!("{kind} in {listing}"));
            assert_eq!(group["count"], count, "{group}");
            assert_eq!(group["endpoint"], "/fail/{kind}");
            assert_eq!(group["types"], serde_json::json!(types));
            assert_eq!(group["title"], serde_json::json!(title));
            let id = group["last_kept"].as_str().unwrap();
            let timeline = ask(&format!("/ops/requests/{id}")).await;
            assert_eq!(timeline["cause"]["kind"], kind, "{timeline}");
            assert_eq!(timeline["status"], status);
        }
    }
}
