//! A panic anywhere is caught, counted, and logged in one line. A process of its own, because the panic hook is that of the
//! process.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may panic and print"
)]

mod support;

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use actix_vitals::{
    Vitals,
    database::RunError,
    registry::{Collector, FamilyDescription, FamilyRows, Format},
};
use actix_web::{
    App, HttpResponse,
    body::to_bytes,
    test::{TestRequest, init_service, try_call_service},
    web,
};
use diesel::{
    Connection as _, RunQueryDsl as _, SqliteConnection,
    r2d2::{ConnectionManager, Pool},
    sql_query,
};
use support::log::Log;

/// Shows the log where the test itself fails: its panic is a line there, too.
struct ShownOnFailure(Log);

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{:#?}", self.0.lines());
        }
    }
}

struct Panicking;

impl Collector for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(&self, _: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        panic!("in a collector")
    }
}

async fn panicking() -> HttpResponse {
    let failed: Result<HttpResponse, _> = std::env::var("VITALS_OF_NOBODY")
        .map(|_| HttpResponse::Ok().finish())
        .map_err(|_| "s3cret".to_owned());
    failed.expect("in a handler")
}

/// What the counter says; a scrape of it is a panic of the collector, too.
fn counted(vitals: &Vitals) -> String {
    let text = String::from_utf8(vitals.registry().encode(Format::Text)).expect("UTF-8");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("vitals_panics_total "));
    line.expect("a counter").to_owned()
}

#[actix_web::test]
async fn a_panic_anywhere_is_caught_counted_and_one_line() {
    let log = Log::of_process(tracing::Level::ERROR);
    let _shown = ShownOnFailure(log.clone());
    let vitals = Vitals::builder().build().expect("defaults build");
    assert_eq!(counted(&vitals), "0");
    vitals.watch_panics();

    // In a handler: 500, and the worker lives.
    let app = App::new()
        .route("/", web::get().to(panicking))
        .wrap(vitals.http());
    let app = init_service(app).await;
    let answer = try_call_service(&app, TestRequest::default().to_request()).await;
    let answer = answer.expect_err("a problem").error_response();
    assert_eq!(answer.status(), 500);
    let body = to_bytes(answer.into_body()).await.expect("a body");
    assert!(!String::from_utf8_lossy(&body).contains("s3cret"));

    // While a connection is opened: the pool tries again.
    let attempts = Arc::new(AtomicUsize::new(0));
    let opener = {
        let attempts = Arc::clone(&attempts);
        move || {
            assert!(
                attempts.fetch_add(1, Ordering::SeqCst) > 0,
                "while a connection is opened"
            );
            SqliteConnection::establish(":memory:")
        }
    };
    let pool = Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_secs(20));
    let pool = vitals
        .instrument(pool)
        .opener(opener)
        .build(ConnectionManager::new(String::new()))
        .expect("the second attempt succeeds");
    assert!(attempts.load(Ordering::SeqCst) >= 2);

    // In work on the database: the pool opens another connection.
    let panicked = pool
        .run(|_| -> diesel::QueryResult<()> { panic!("in a query") })
        .await;
    assert!(matches!(panicked, Err(RunError::Panicked)));
    let one = pool.run(|connection| sql_query("SELECT 1").execute(connection));
    one.await.expect("a connection");

    // On a thread of nobody's.
    let thread = thread::Builder::new().name("lonely".to_owned());
    let thread = thread.spawn(|| panic!("on a thread")).expect("a thread");
    assert!(thread.join().is_err());

    // In a collector: its rows are missing, all others are there.
    vitals.registry().register(Panicking).expect("a new name");
    let earlier: usize = counted(&vitals).parse().expect("a number");
    assert!(counted(&vitals).parse::<usize>().expect("a number") > earlier);

    // Again and again, as a client can have it: each is counted, and few are logged.
    let lines = log.lines();
    let before: usize = counted(&vitals).parse().expect("a number");
    for _ in 0..200 {
        let answer = try_call_service(&app, TestRequest::default().to_request()).await;
        assert!(answer.is_err(), "it did not panic");
    }
    let after: usize = counted(&vitals).parse().expect("a number");
    assert!(after >= before + 200, "{before} and then {after}");
    let repeated = log.lines().len() - lines.len();
    assert!((1..60).contains(&repeated), "{repeated} lines");

    // What fails from here on is for the test's own output.
    drop(std::panic::take_hook());
    let of = |words: &str| {
        let found: Vec<_> = lines.iter().filter(|line| line.contains(words)).collect();
        assert!(!found.is_empty(), "{words} is not in {lines:#?}");
        assert!(
            found[0].contains("tests/panics.rs:") && found[0].contains("panic: "),
            "{found:?}"
        );
        found.len()
    };
    // The middleware says which endpoint it was, in a line of its own.
    assert_eq!(of("in a handler"), 2);
    assert_eq!(of("while a connection is opened"), 1);
    assert_eq!(of("in a query"), 1);
    assert_eq!(of("on a thread"), 1);
    assert!(of("in a collector") >= 2);
    assert!(lines.iter().any(|line| line.contains("thread=\"lonely\"")));
    assert!(
        lines.iter().all(|line| !line.contains("s3cret")),
        "{lines:?}"
    );
    assert!(
        lines.iter().all(|line| line.contains("ERROR")),
        "{lines:#?}"
    );
}
