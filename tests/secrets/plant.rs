//! Runs statements that contain a secret on a monitored application, and searches all of its output for the secret.

use std::time::Duration;

use actix_vitals::Vitals;
use actix_vitals::database::{Manager, Pool};
use actix_vitals::ops::OpsSettings;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpResponse, web};
use diesel::connection::SimpleConnection;
use diesel::r2d2::{self, ConnectionManager, R2D2Connection};

use crate::support::log::Log;

/// The secrets: a word in strings, names and comments, and the digits of a number.
const SECRETS: [&str; 2] = ["hunter2", "31337"];

/// A statement and its shape.
pub(crate) type Planted = (&'static str, &'static str);

/// Runs each statement on one connection, 12 times in a request, and searches the log and the ops endpoints.
///
/// Each of `statements` must succeed, and each of `failing` must fail. All must be listed by their shapes.
pub(crate) async fn look_for_secrets<C>(url: &str, statements: &[Planted], failing: &[Planted])
where
    C: R2D2Connection + SimpleConnection + Send + 'static,
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
        .route("/run/{number}", web::post().to(run::<C>))
        .configure(vitals.ops())
        .wrap(vitals.http());
    let app = init_service(app).await;
    for (number, (sql, _)) in statements.iter().chain(failing).enumerate() {
        let request = TestRequest::post()
            .uri(&format!("/run/{number}"))
            .set_payload(*sql);
        let response = call_service(&app, request.to_request()).await;
        let succeeded = response.status().is_success();
        let body = read_body(response).await;
        let answer = String::from_utf8_lossy(&body);
        assert_eq!(succeeded, number < statements.len(), "{sql}: {answer}");
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
    for (source, text) in &shown {
        for secret in SECRETS {
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
        assert!(shown[0].1.contains("ran one statement many times"));
    }
}

/// Executes the body as SQL, 12 times. Returns the database's error, which the library does not show.
async fn run<C>(pool: web::Data<Pool<C>>, sql: String) -> HttpResponse
where
    C: R2D2Connection + SimpleConnection + Send + 'static,
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
