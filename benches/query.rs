//! What monitoring adds to a query: a select by primary key through Diesel on SQLite, on a bare connection and on an
//! instrumented one, with the statements and the tally of a request on. The two take turns, a few milliseconds each, in
//! one run, so that the machine's moods fall on both alike.
//!
//! The ratio is what counts: the median over all rounds of one turn by the other.

use std::{
    hint::black_box,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_vitals::vitals::{Vitals, database::Connection as Instrumented};
use actix_web::{
    App, HttpResponse,
    dev::Service,
    error::ErrorInternalServerError,
    rt::System,
    test::{TestRequest, init_service},
    web,
};
use diesel::{
    connection::SimpleConnection,
    prelude::*,
    r2d2::{ConnectionManager, Pool},
};

const ROUNDS: usize = 600;
const QUERIES: i32 = 400;
const ROWS: i32 = 10_000;

mod schema {
    //! The table.
    diesel::table! {
        items (id) {
            id -> Integer,
            name -> Text,
            email -> Text,
            message -> Nullable<Text>,
        }
    }
}
use schema::items;

type Row = (i32, String, String, Option<String>);
/// A name, a bare connection and an instrumented one.
type Cases = Mutex<
    [(
        &'static str,
        SqliteConnection,
        Instrumented<SqliteConnection>,
    ); 2],
>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn fill(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(&format!(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, message TEXT);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO items SELECT i, 'name ' || i, 'name' || i || '@example.org', 'a message' FROM n;"
    ))
}

/// The time of a turn's queries.
fn turn(connection: &mut SqliteConnection, first: i32) -> QueryResult<Duration> {
    let started = Instant::now();
    for query in 0..QUERIES {
        let id = (first + query * 37) % ROWS + 1;
        let row: Row = items::table.find(black_box(id)).first(connection)?;
        black_box(row);
    }
    Ok(started.elapsed())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints what a query takes bare and instrumented, in turns within one request.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn compare(
    name: &str,
    bare: &mut SqliteConnection,
    instrumented: &mut SqliteConnection,
) -> QueryResult<()> {
    let (mut alone, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 10 {
        // Who comes first changes, so that coming second costs neither more.
        let first = i32::try_from(round).unwrap_or_default() * 101;
        let (without, with) = if round % 2 == 0 {
            let without = turn(bare, first)?;
            (without, turn(instrumented, first)?)
        } else {
            let with = turn(instrumented, first)?;
            (turn(bare, first)?, with)
        };
        if round >= 10 {
            alone.push(without.as_nanos() as f64 / f64::from(QUERIES));
            ratios.push(with.as_secs_f64() / without.as_secs_f64());
        }
    }
    let (alone, ratio) = (median(alone), median(ratios));
    println!(
        "{name:<28} {alone:>8.0} ns {:>8.0} ns {:>+8.1} %",
        alone * (ratio - 1.0),
        (ratio - 1.0) * 100.0
    );
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("query.db").display().to_string();
    let vitals = Vitals::builder().build()?;
    let pool = |url: &str| {
        vitals
            .instrument(Pool::builder().max_size(1).test_on_check_out(false))
            .build(ConnectionManager::new(url))
    };

    let mut bare_file = SqliteConnection::establish(&file)?;
    fill(&mut bare_file)?;
    let (files, memories) = (pool(&file)?, pool(":memory:")?);
    let (file, mut memory) = (files.get()?, memories.get()?);
    fill(&mut memory)?;
    let mut bare_memory = SqliteConnection::establish(":memory:")?;
    fill(&mut bare_memory)?;
    let cases = Mutex::new([
        ("in a file, with a WAL", bare_file, file),
        ("in memory", bare_memory, memory),
    ]);

    println!(
        "{:<28} {:>11} {:>11} {:>10}",
        "select by primary key", "bare", "ours adds", ""
    );
    System::new().block_on(async move {
        // The queries belong to a request, as they do in a service.
        let app = App::new()
            .app_data(web::Data::new(cases))
            .route("/", web::get().to(compare_all))
            .wrap(vitals.http());
        let service = init_service(app).await;
        let response = service.call(TestRequest::get().to_request()).await;
        response.map_err(|error| Failure::from(error.to_string()))
    })?;
    Ok(())
}

async fn compare_all(cases: web::Data<Cases>) -> Result<HttpResponse, actix_web::Error> {
    let mut cases = cases.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, bare, instrumented) in &mut *cases {
        compare(name, bare, instrumented).map_err(ErrorInternalServerError)?;
    }
    Ok(HttpResponse::Ok().finish())
}
