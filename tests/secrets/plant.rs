//! Runs statements that contain a secret on a monitored application, and searches all of its output for the secret.

use std::time::{Duration, Instant};

use actix_http::Request;
use actix_vitals::Vitals;
use actix_vitals::database::{Explainable, Manager, Pool};
use actix_vitals::ops::OpsSettings;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpResponse, web};
use diesel::connection::SimpleConnection;
use diesel::r2d2::{self, ConnectionManager, R2D2Connection};

use crate::support::log::Log;

/// The secrets: a word in strings, names and comments, and the digits of a number.
const SECRETS: [&str; 2] = ["hunter2", "313373133"];

/// A statement and its shape.
pub(crate) type Planted = (&'static str, &'static str);

/// Runs each statement on one connection, 12 times in a request, and searches the log and the ops endpoints.
///
/// Each of `statements` must succeed, and each of `failing` must fail. All must be listed by their shapes.
pub(crate) async fn look_for_secrets<C>(url: &str, statements: &[Planted], failing: &[Planted])
where
    C: R2D2Connection + Explainable + SimpleConnection + Send + 'static,
{
    let log = Log::default();
    // The middleware logs a suspected N+1 on this thread.
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::TRACE));
    let vitals = Vitals::builder()
        .ops(OpsSettings::everything())
        .build()
        .unwrap();
    let builder: r2d2::Builder<Manager<C>> = r2d2::Pool::builder().max_size(1);
    let pool: Pool<C> = vitals
        .instrument(builder)
        .build(ConnectionManager::new(url))
        .unwrap();
    let app = App::new()
        .app_data(web::Data::new(pool))
        .route("/run/{number}/{secret}", web::post().to(run::<C>))
        .configure(vitals.ops())
        .wrap(vitals.http());
    let app = init_service(app).await;
    for (number, (sql, _)) in statements.iter().chain(failing).enumerate() {
        let request = TestRequest::post()
            .uri(&format!("/run/{number}/hunter2?token=hunter2"))
            .insert_header(("authorization", "hunter2"))
            .set_payload(*sql);
        let response = call_service(&app, request.to_request()).await;
        let succeeded = response.status().is_success();
        let body = read_body(response).await;
        let answer = String::from_utf8_lossy(&body);
        assert_eq!(succeeded, number < statements.len(), "{sql}: {answer}");
    }

    // The line waits until a thread of its own has found the line of code.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !log.text().contains("ran one statement many times") {
        assert!(Instant::now() < deadline, "{}", log.text());
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
    let mut shown = vec![("the log", log.text())];
    for path in [
        "/ops/statements?limit=1000",
        "/ops/requests",
        "/ops/errors",
        "/ops/pool",
        "/ops/requests/kept?limit=1000",
        "/metrics",
        "/dashboard/history",
        "/health",
    ] {
        // The live page samples every half second.
        actix_web::rt::time::sleep(Duration::from_millis(600)).await;
        let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(response.status(), 200, "{path}");
        let body = read_body(response).await;
        shown.push((path, String::from_utf8_lossy(&body).into_owned()));
    }
    let timelines = timelines(&app, &shown).await;
    assert!(timelines.len() > failing.len());
    let timelines = timelines.iter().map(|text| ("a timeline", text));
    let shown_text = shown.iter().map(|(source, text)| (*source, text));
    for (source, text) in shown_text.chain(timelines) {
        // Times may have any digits.
        let digits = usize::from(!source.contains("/kept") && source != "a timeline");
        for secret in &SECRETS[..=digits] {
            let found = text
                .find(secret)
                .map(|at| &text[at.saturating_sub(200)..at]);
            assert_eq!(found, None, "{source} shows {secret}");
        }
    }
    let listing: serde_json::Value = serde_json::from_str(&shown[1].1).unwrap();
    let listed: Vec<&str> = (listing["statements"].as_array().unwrap().iter())
        .map(|statement| statement["statement"].as_str().unwrap())
        .collect();
    for (sql, shape) in statements.iter().chain(failing) {
        assert!(listed.contains(shape), "{sql}: {shape}: {listed:#?}");
    }
}

/// The timelines of the kept requests that are listed.
async fn timelines<S, B>(app: &S, shown: &[(&str, String)]) -> Vec<String>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let kept = (shown.iter()).find(|(path, _)| path.starts_with("/ops/requests/kept"));
    let kept: serde_json::Value = serde_json::from_str(&kept.unwrap().1).unwrap();
    let mut timelines = Vec::new();
    for request in kept["requests"].as_array().unwrap() {
        let id = request["id"].as_str().unwrap();
        let uri = format!("/ops/requests/{id}");
        let answer = call_service(app, TestRequest::get().uri(&uri).to_request()).await;
        assert_eq!(answer.status(), 200);
        let body = read_body(answer).await;
        timelines.push(String::from_utf8_lossy(&body).into_owned());
    }
    timelines
}

/// Executes the body as SQL, 12 times. Returns the database's error, which the library does not show.
async fn run<C>(pool: web::Data<Pool<C>>, sql: String) -> HttpResponse
where
    C: R2D2Connection + Explainable + SimpleConnection + Send + 'static,
{
    for _ in 0..12 {
        let sql = sql.clone();
        let ran = pool
            .run(move |connection| connection.batch_execute(&sql))
            .await;
        if let Err(error) = ran {
            return HttpResponse::InternalServerError().body(error.to_string());
        }
    }
    HttpResponse::Ok().finish()
}
