//! The cost of monitoring a query: a select by primary key through Diesel on SQLite. The connections are a bare one, one whose
//! `Instrumentation` only makes Diesel format the statement, and an instrumented one within a request. They take turns of a few
//! milliseconds in one run, so that a change of the machine's speed affects all of them. Where the memory of a connection
//! lies makes a difference of some percent, so each of several blocks has connections of its own.
//!
//! The result is the ratio: of each block the median over all rounds of one turn divided by the other, and the median of the
//! blocks with their spread. Formatting is not a lower limit: most queries are identified by their type, and are not formatted.
//!
//! Then the same select in 100, 250 and 1,000 different texts, by a query whose one type has many texts, so that each is
//! formatted. At 1,000 texts an instrumented query takes at most twice as long. Every call is in the statements afterwards.

#[cfg(feature = "diesel-async")]
#[path = "query/asynchronous.rs"]
mod asynchronous;
#[path = "shared/pairs.rs"]
mod pairs;

use std::{
    fmt::{self, Write as _},
    hint::black_box,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_vitals::{
    Vitals,
    database::{Connection as Instrumented, Order, Statements},
};
use actix_web::{
    App, HttpResponse,
    dev::Service,
    error::ErrorInternalServerError,
    rt::System,
    test::{TestRequest, init_service},
    web,
};
use diesel::{
    connection::{Instrumentation, InstrumentationEvent, SimpleConnection},
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    r2d2::{ConnectionManager, Pool},
    sql_types::{Integer, Nullable, Text},
    sqlite::Sqlite,
};

const BLOCKS: usize = 15;
/// The rounds of a block.
const ROUNDS: usize = 50;
const SHAPE_ROUNDS: usize = 100;
/// Statements of a turn, so few that a busy machine seldom comes between.
const SHAPES_OF_A_TURN: usize = 50;
const SHAPES: [usize; 3] = [100, 250, 1_000];
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
use pairs::{Pairs, quartiles};
use schema::items;

type Row = (i32, String, String, Option<String>);
/// The connections of one database that take turns: bare, showing its statements, and instrumented.
struct Case {
    name: &'static str,
    bare: SqliteConnection,
    showing: SqliteConnection,
    instrumented: Instrumented<SqliteConnection>,
}
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Has every statement shown, without its binds, and does nothing with it.
#[derive(Default)]
struct Show(String);

impl fmt::Write for Show {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if piece.starts_with(" -- binds:") {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

impl Instrumentation for Show {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            // An error is the writer's way of saying that it has all it wants.
            let _ = write!(self, "{query}");
            black_box(&self.0);
            self.0.clear();
        }
    }
}

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

/// A select by primary key that carries its own text. Diesel keeps it prepared.
#[derive(Clone, Copy)]
struct Dynamic<'a> {
    text: &'a str,
    id: i32,
}

impl QueryFragment<Sqlite> for Dynamic<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(self.text);
        out.push_bind_param::<Integer, _>(&self.id)
    }
}

impl QueryId for Dynamic<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Dynamic<'_> {
    type SqlType = (Integer, Text, Text, Nullable<Text>);
}

impl<C> RunQueryDsl<C> for Dynamic<'_> {}

/// The time of running each of the texts once.
fn turn_of_shapes(connection: &mut SqliteConnection, texts: &[String]) -> QueryResult<Duration> {
    let started = Instant::now();
    for (id, text) in (1..).zip(texts) {
        let rows: Vec<Row> = Dynamic { text, id }.load(connection)?;
        black_box(rows);
    }
    Ok(started.elapsed())
}

/// Prints the time of a bare query and the time that recording adds, with this many statements in turn.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn compare_shapes(case: &mut Case, statements: &Statements, shapes: usize) -> QueryResult<()> {
    let texts: Vec<String> = (0..shapes)
        .map(|shape| format!("SELECT id AS c{shape}, name, email, message FROM items WHERE id = "))
        .collect();
    statements.reset();
    let mut pairs = Pairs::default();
    for round in 0..SHAPE_ROUNDS + 10 {
        for texts in texts.chunks(SHAPES_OF_A_TURN) {
            let mut times = [Duration::ZERO; 2];
            for turn_of in [round, round + 1].map(|turn| turn % 2) {
                let connection = match turn_of {
                    0 => &mut case.bare,
                    _ => &mut *case.instrumented,
                };
                times[turn_of] = turn_of_shapes(connection, texts)?;
            }
            if round >= 10 {
                pairs.push(times[0], times[1], texts.len());
            }
        }
    }
    let added = pairs.added();
    let run = (SHAPE_ROUNDS + 10) * shapes;
    let reports = statements.report(Order::Calls, shapes);
    let calls: u64 = reports.iter().map(|report| report.calls).sum();
    println!(
        "{:<22} {:>8.0} ns {:>11} {:>8.0} ns {:>8.2} x  {calls} of {run} calls",
        format!("{shapes} statements"),
        added.bare,
        "",
        added.nanoseconds(),
        added.share + 1.0,
    );
    Ok(())
}

/// Compares the connections of one block. Returns the bare time of a query in nanoseconds, and the shares of that which
/// showing the statement and recording add.
fn compare_block(case: &mut Case) -> QueryResult<[f64; 3]> {
    let (mut shown, mut ours) = (Pairs::default(), Pairs::default());
    for round in 0..ROUNDS + 10 {
        let mut times = [Duration::ZERO; 3];
        let first = i32::try_from(round).unwrap_or_default() * 101;
        // Who comes first changes, so that coming later costs nobody more.
        for turn_of in [round, round + 1, round + 2].map(|turn| turn % 3) {
            let connection = match turn_of {
                0 => &mut case.bare,
                1 => &mut case.showing,
                _ => &mut *case.instrumented,
            };
            times[turn_of] = turn(connection, first)?;
        }
        if round >= 10 {
            shown.push(times[0], times[1], QUERIES as usize);
            ours.push(times[0], times[2], QUERIES as usize);
        }
    }
    let (shown, ours) = (shown.added(), ours.added());
    Ok([ours.bare, shown.share, ours.share])
}

/// Prints what a query takes bare, and what is added to that, in turns within one request.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn compare(cases: &mut [Case]) -> QueryResult<()> {
    let name = cases.first().map_or("", |case| case.name);
    let blocks = cases.iter_mut().map(compare_block);
    let blocks = blocks.collect::<QueryResult<Vec<_>>>()?;
    let of = |part: usize| quartiles(blocks.iter().map(|block| block[part]).collect());
    let [[_, bare, _], [_, shown, _], [lower, ours, upper]] = [0, 1, 2].map(of);
    println!(
        "{name:<22} {bare:>8.0} ns {:>8.0} ns {:>8.0} ns {:>+9.0} ns  {:>+5.1} %, quartiles {:+.1} and {:+.1}",
        bare * shown,
        bare * ours,
        bare * (ours - shown),
        100.0 * ours,
        100.0 * lower,
        100.0 * upper,
    );
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() -> Result<(), Failure> {
    #[cfg(feature = "diesel-async")]
    if asynchronous::compare_all()? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("query.db").display().to_string();
    let vitals = Vitals::builder().build()?;
    let pool = |url: &str| {
        let size = u32::try_from(BLOCKS).unwrap_or(u32::MAX);
        vitals
            .instrument(Pool::builder().max_size(size).test_on_check_out(false))
            .build(ConnectionManager::new(url))
    };
    let establish = |url: &str, instrumentation: Option<Show>| {
        let mut connection = SqliteConnection::establish(url)?;
        connection.set_instrumentation(instrumentation);
        Ok::<_, ConnectionError>(connection)
    };

    fill(&mut establish(&file, None)?)?;
    let pools = [pool(&file)?, pool(":memory:")?];
    let (mut on_file, mut in_memory) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        on_file.push(Case {
            name: "in a file, with a WAL",
            bare: establish(&file, None)?,
            showing: establish(&file, Some(Show::default()))?,
            instrumented: pools[0].get()?,
        });
        let mut case = Case {
            name: "in memory",
            bare: establish(":memory:", None)?,
            showing: establish(":memory:", Some(Show::default()))?,
            instrumented: pools[1].get()?,
        };
        fill(&mut case.bare)?;
        fill(&mut case.showing)?;
        fill(&mut case.instrumented)?;
        in_memory.push(case);
    }
    let cases = Mutex::new([on_file, in_memory]);

    println!(
        "{:<22} {:>11} {:>11} {:>11} {:>12}",
        "select by primary key", "bare", "to show it", "ours adds", "beyond that"
    );
    System::new().block_on(async move {
        // The queries belong to a request, as they do in a service.
        let app = App::new()
            .app_data(web::Data::new(cases))
            .app_data(web::Data::new(vitals.statements().clone()))
            .route("/", web::get().to(compare_all))
            .wrap(vitals.http());
        let service = init_service(app).await;
        let response = service.call(TestRequest::get().to_request()).await;
        response.map_err(|error| Failure::from(error.to_string()))
    })?;
    println!(
        "{:<22} {:>48}  {:>7}",
        "wanted at most", "+150 ns", "+3.0 %"
    );
    Ok(())
}

async fn compare_all(
    cases: web::Data<Mutex<[Vec<Case>; 2]>>,
    statements: web::Data<Statements>,
) -> Result<HttpResponse, actix_web::Error> {
    let mut cases = cases.lock().unwrap_or_else(PoisonError::into_inner);
    for cases in &mut *cases {
        compare(cases).map_err(ErrorInternalServerError)?;
    }
    let [_, in_memory] = &mut *cases;
    if let Some(case) = in_memory.first_mut() {
        for shapes in SHAPES {
            compare_shapes(case, &statements, shapes).map_err(ErrorInternalServerError)?;
        }
    }
    Ok(HttpResponse::Ok().finish())
}
