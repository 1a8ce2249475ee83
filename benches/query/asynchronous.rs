//! The cost of monitoring an asynchronous query: a select by primary key through diesel-async, on SQLite in its wrapper and on
//! PostgreSQL. A bare connection and one of an instrumented pool take turns in one run, within a request. Such a query waits for
//! another thread or process, and takes twice as long where that is on another core. The turns are short and many, and
//! of several blocks. Each block has connections of its own, which the kernel places anew.
//!
//! `cargo bench --bench query --features diesel-async -- postgres://…` compares both databases; without a URL, SQLite alone.
//! `… -- run bare|ours TURNS postgres://…` runs one of the two connections only, for callgrind.

use std::{
    cell::RefCell,
    hint::black_box,
    time::{Duration, Instant},
};

use actix_vitals::{Vitals, database::deadpool::Pool};
use actix_web::{
    App, HttpResponse,
    dev::Service,
    error::ErrorInternalServerError,
    rt::System,
    test::{TestRequest, init_service},
    web,
};
use diesel::{QueryDsl as _, SqliteConnection};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
    pooled_connection::AsyncDieselConnectionManager,
    sync_connection_wrapper::SyncConnectionWrapper,
};

use super::{
    Failure, Row, items,
    pairs::{Added, Pairs, quartiles},
};

const BLOCKS: usize = 15;
/// The rounds of a block.
const ROUNDS: usize = 300;
/// The rounds before these. A connection reads the text of the first 1,000 queries of a type.
const WARM_UP: usize = 60;
const QUERIES: i32 = 20;
const ROWS: i32 = 1_000;

/// What the program does, by its arguments.
#[derive(Clone, Debug)]
enum Task {
    /// Compares both connections.
    Compare,
    /// Runs this many turns of the instrumented connection, or of the bare one.
    Run { ours: bool, turns: usize },
}

/// Reads the task and the URL of PostgreSQL.
fn arguments() -> Result<(Task, Option<String>), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = arguments
        .iter()
        .find(|argument| argument.starts_with("postgres"));
    let task = match arguments.iter().position(|argument| argument == "run") {
        Some(at) => {
            let argument = |offset| arguments.get(at + offset).map_or("", String::as_str);
            let ours = argument(1) == "ours";
            let turns = argument(2).parse()?;
            Task::Run { ours, turns }
        }
        None => Task::Compare,
    };
    Ok((task, url.cloned()))
}

macro_rules! case {
    ($case:ident, $connection:ty, $name:expr, $rows:expr) => {
        async fn $case(vitals: &Vitals, url: &str, task: &Task) -> Result<(), Failure> {
            async fn turn(connection: &mut $connection, first: i32) -> Result<Duration, Failure> {
                let started = Instant::now();
                for query in 0..QUERIES {
                    let id = (first + query * 37) % ROWS + 1;
                    let row: Row = items::table.find(black_box(id)).first(connection).await?;
                    black_box(row);
                }
                Ok(started.elapsed())
            }

            let mut bare = <$connection>::establish(url).await?;
            bare.batch_execute(&format!(
                "DROP TABLE IF EXISTS items;
                 CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, message TEXT);
                 INSERT INTO items SELECT i, 'name ' || i, 'name' || i || '@example.org', 'a message' FROM {};",
                $rows
            ))
            .await?;
            let manager = || AsyncDieselConnectionManager::<$connection>::new(url);
            if let Task::Run { ours: is_ours, turns } = *task {
                let pool: Pool<$connection> = vitals
                    .instrument_async(manager())
                    .name($name)
                    .deadpool(|pool| pool.max_size(1))?;
                let mut ours = pool.get().await?;
                for _ in 0..turns {
                    if is_ours {
                        turn(&mut ours, 0).await?;
                    } else {
                        turn(&mut bare, 0).await?;
                    }
                }
                return Ok(());
            }
            let mut blocks = Vec::new();
            for block in 0..BLOCKS {
                let mut bare = <$connection>::establish(url).await?;
                let pool: Pool<$connection> = vitals
                    .instrument_async(manager())
                    .name($name)
                    .deadpool(|pool| pool.max_size(1))?;
                let mut ours = pool.get().await?;
                let mut pairs = Pairs::default();
                for round in 0..ROUNDS + WARM_UP {
                    let first = i32::try_from(block * ROUNDS + round).unwrap_or_default() * 101;
                    let mut times = [Duration::ZERO; 2];
                    for turn_of in [round, round + 1].map(|turn| turn % 2) {
                        times[turn_of] = match turn_of {
                            0 => turn(&mut bare, first).await?,
                            _ => turn(&mut ours, first).await?,
                        };
                    }
                    if round >= WARM_UP {
                        pairs.push(times[0], times[1], QUERIES as usize);
                    }
                }
                blocks.push(pairs.added());
            }
            report($name, &blocks);
            Ok(())
        }
    };
}

case!(
    on_sqlite,
    SyncConnectionWrapper<SqliteConnection>,
    "asynchronous, SQLite",
    "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n)"
);
case!(
    on_postgres,
    AsyncPgConnection,
    "asynchronous, PostgreSQL",
    "generate_series(1, 1000) AS n (i)"
);

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn report(name: &str, blocks: &[Added]) {
    let bare = quartiles(blocks.iter().map(|block| block.bare).collect())[1];
    let shares = blocks.iter().map(|block| block.share * 100.0).collect();
    let [lower, share, upper] = quartiles(shares);
    println!(
        "{name:<24} {bare:>8.0} ns {:>8.0} ns  {share:>+5.1} %, quartiles of the blocks {lower:+.1} and {upper:+.1}",
        bare * share / 100.0,
    );
}

/// Compares the connections, and prints what monitoring adds. Returns whether the arguments ask for a run of one of them.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
pub(super) fn compare_all() -> Result<bool, Failure> {
    let (task, url) = arguments()?;
    let is_run = matches!(task, Task::Run { .. });
    if !is_run {
        println!(
            "\n{:<24} {:>11} {:>11}",
            "select by primary key", "bare", "ours adds"
        );
    }
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("async.db").display().to_string();
    let vitals = Vitals::builder().build()?;
    let failure = web::Data::new(RefCell::new(None));
    let handler = {
        let (vitals, failure) = (vitals.clone(), failure.clone());
        move || {
            let (vitals, task, url, file) =
                (vitals.clone(), task.clone(), url.clone(), file.clone());
            let failure = failure.clone();
            async move {
                let result = async {
                    if !matches!(task, Task::Run { .. }) || url.is_none() {
                        on_sqlite(&vitals, &file, &task).await?;
                    }
                    match &url {
                        Some(url) => on_postgres(&vitals, url, &task).await,
                        None => Ok(()),
                    }
                };
                if let Err(error) = result.await {
                    failure.replace(Some(error));
                    return Err(ErrorInternalServerError("it failed"));
                }
                Ok(HttpResponse::Ok().finish())
            }
        }
    };
    System::new().block_on(async move {
        // The queries belong to a request, as they do in a service.
        let app = App::new()
            .route("/", web::get().to(handler))
            .wrap(vitals.http());
        let service = init_service(app).await;
        let response = service.call(TestRequest::get().to_request()).await;
        match failure.take() {
            Some(error) => Err(error),
            None => response
                .map(drop)
                .map_err(|error| Failure::from(error.to_string())),
        }
    })?;
    if !is_run {
        println!("{:<24} {:>23}  {:>+5.1} %", "wanted at most", "200 ns", 3.0);
    }
    Ok(is_run)
}
