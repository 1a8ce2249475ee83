//! A program whose log is that of the `log` crate, without a subscriber of `tracing`, as `env_logger` is used. A process of
//! its own, because both are those of the process.

#![cfg(all(feature = "http", feature = "database"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_vitals::{Vitals, database::Pool};
use actix_web::{
    App, HttpResponse,
    rt::time::sleep,
    test::{TestRequest, call_service, init_service, read_body},
    web::{self, Data},
};
use diesel::{QueryResult, RunQueryDsl as _, SqliteConnection, r2d2::ConnectionManager, sql_query};
use log::{LevelFilter, Log, Metadata, Record};

/// A log line is written by another thread, which first finds the line of code.
const BOUND: Duration = Duration::from_secs(60);

/// Keeps the lines that `env_logger` would print by default.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, line: &Metadata<'_>) -> bool {
        line.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(line);
        }
    }

    fn flush(&self) {}
}

fn lines() -> Vec<String> {
    (LINES.0.lock().unwrap_or_else(PoisonError::into_inner)).clone()
}

async fn query_in_a_loop(pool: Data<Pool<SqliteConnection>>) -> HttpResponse {
    let ran = pool.run(|connection| {
        (0..20).try_for_each(|number| {
            let sql = format!("SELECT {number} AS repeated");
            sql_query(sql).execute(connection).map(drop)
        })?;
        QueryResult::Ok(())
    });
    ran.await.unwrap();
    HttpResponse::Ok().finish()
}

/// Begins to push to a receiver that does not answer.
#[cfg(feature = "otlp-plain")]
async fn push() {
    use std::{net::TcpListener, thread};

    use actix_vitals::otlp::OtlpSettings;

    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", receiver.local_addr().unwrap());
    let settings = OtlpSettings::new(&url).unwrap();
    let vitals = Vitals::builder().otlp(settings).build().unwrap();
    thread::spawn(move || vitals.finish_push(BOUND));
    web::block(move || receiver.accept())
        .await
        .unwrap()
        .unwrap();
}

#[actix_web::test]
async fn each_line_reaches_it_and_no_request_or_job_writes_one_of_its_own() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Info);
    let vitals = Vitals::builder().build().unwrap();
    let pool = vitals
        .instrument(diesel::r2d2::Pool::builder().max_size(1))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .unwrap();
    let app = App::new()
        .app_data(Data::new(pool))
        .route("/", web::get().to(query_in_a_loop))
        .wrap(vitals.http());
    let app = init_service(app).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for _ in 0..2 {
        let request = TestRequest::default().insert_header(("traceparent", trace));
        read_body(call_service(&app, request.to_request()).await).await;
    }
    vitals
        .job("clean-up", async { Ok::<_, ()>(()) })
        .await
        .unwrap();

    let deadline = Instant::now() + BOUND;
    while !lines().iter().any(|line| line.contains("N+1")) {
        assert!(Instant::now() < deadline, "{:#?}", lines());
        sleep(Duration::from_millis(20)).await;
    }
    let written = lines();
    assert!(
        written.len() == 1 && written[0].starts_with("WARN "),
        "{written:#?}"
    );
    #[cfg(feature = "otlp-plain")]
    push().await;
    // One that is set, even for one line, ends the lines of all crates that write by `tracing`, such as `actix-server`.
    assert!(!tracing::dispatcher::has_been_set());
}
