//! A small service: a trivial route, fifty more, and one that runs a query; bare, or with all the monitoring. On request it
//! has more latency series, and reports the longest time that its event loop was blocked.

use std::{
    io::Write as _,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use actix_vitals::{Vitals, database, registry::Histogram};
use actix_web::{
    App, HttpResponse, HttpServer, Result,
    error::ErrorInternalServerError,
    middleware::Condition,
    rt::{self, System},
    web,
};
use diesel::{
    connection::SimpleConnection,
    prelude::*,
    r2d2::{ConnectionManager, Pool},
};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::Failure;

/// Routes beside the trivial one.
pub(crate) const ENDPOINTS: usize = 50;

mod schema {
    //! The table that is asked.
    diesel::table! {
        items (id) {
            id -> Integer,
            name -> Text,
            email -> Text,
        }
    }
}
use schema::items;

#[derive(Queryable, Serialize)]
struct Item {
    id: i32,
    name: String,
    email: String,
}

/// The database, asked by whichever pool.
#[derive(Clone)]
enum Items {
    Bare(Pool<ConnectionManager<SqliteConnection>>),
    Monitored(database::Pool<SqliteConnection>),
}

impl Items {
    fn open(vitals: &Vitals, monitored: bool, file: &str) -> Result<Self, Failure> {
        let manager = ConnectionManager::new(file);
        let settings = Pool::builder().test_on_check_out(false);
        Ok(if monitored {
            let settings = Pool::builder().test_on_check_out(false);
            Self::Monitored(vitals.instrument(settings).build(manager)?)
        } else {
            Self::Bare(settings.build(manager)?)
        })
    }

    /// The newest hundred.
    async fn list(&self) -> Result<Vec<Item>> {
        let select = |connection: &mut SqliteConnection| {
            items::table
                .order(items::id.desc())
                .limit(100)
                .load::<Item>(connection)
        };
        match self {
            Self::Bare(pool) => {
                let pool = pool.clone();
                let work = move || -> Result<_, Failure> { Ok(select(&mut *pool.get()?)?) };
                web::block(work).await?.map_err(ErrorInternalServerError)
            }
            Self::Monitored(pool) => pool.run(select).await.map_err(ErrorInternalServerError),
        }
    }
}

fn fill(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO items SELECT i, 'name ' || i, 'name' || i || '@example.org' FROM n;",
    )
}

/// Serves until killed.
pub(crate) fn serve(monitored: bool, series: usize) -> Result<(), Failure> {
    let vitals = Vitals::builder().max_series(usize::MAX).jemalloc();
    let vitals = vitals.build()?;
    observe(&vitals, series)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("wire.db").display().to_string();
    // Kept open: when the last connection closes, it removes the write-ahead log, and of those that then begin a new one
    // together, some find it locked.
    let mut filled = SqliteConnection::establish(&file)?;
    fill(&mut filled)?;
    let items = Items::open(&vitals, monitored, &file)?;
    let longest = web::Data::new(AtomicU64::new(0));

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    System::new().block_on(async {
        HttpServer::new(move || {
            if series > 0 {
                rt::spawn(watch(Arc::clone(&longest)));
            }
            App::new()
                .app_data(web::Data::new(items.clone()))
                .app_data(longest.clone())
                .configure(routes)
                .configure(vitals.ops())
                .wrap(Condition::new(monitored, vitals.http()))
        })
        .workers(1)
        .listen(listener)?
        .run()
        .await?;
        Ok(())
    })
}

fn routes(config: &mut web::ServiceConfig) {
    let ok = async || HttpResponse::Ok().body("hello");
    config.route("/", web::get().to(ok));
    for endpoint in 0..ENDPOINTS {
        config.route(
            &format!("/endpoints/{endpoint}/{{item}}"),
            web::get().to(ok),
        );
    }
    let list = async |items: web::Data<Items>| items.list().await.map(web::Json);
    // Told once, and forgotten: each asks about the time since the last.
    let longest = async |longest: web::Data<AtomicU64>| longest.swap(0, Relaxed).to_string();
    config
        .route("/data", web::get().to(list))
        .route("/longest", web::get().to(longest));
}

/// Fills so many more latency series.
fn observe(vitals: &Vitals, series: usize) -> Result<(), Failure> {
    let name = "http_request_duration_seconds";
    let family = vitals.registry().family::<Histogram, 3>(name);
    let family = family.ok_or("the family of the latencies")?;
    for endpoint in 0..series {
        let series = family.series(["GET", &format!("/made/up/{endpoint:06}/{{item}}"), "200"]);
        for observation in 1..=20 {
            series.observe(f64::from(observation) * 0.001);
        }
    }
    Ok(())
}

/// Runs whenever the event loop comes round, and keeps the longest that it computed in between, in nanoseconds of this
/// thread's processor time: so that what other threads and processes take of the machine is not in it.
async fn watch(longest: Arc<AtomicU64>) {
    let mut before = clock_gettime(ClockId::ThreadCPUTime);
    loop {
        rt::task::yield_now().await;
        let now = clock_gettime(ClockId::ThreadCPUTime);
        let nanoseconds =
            (now.tv_sec - before.tv_sec) * 1_000_000_000 + now.tv_nsec - before.tv_nsec;
        longest.fetch_max(nanoseconds.unsigned_abs(), Relaxed);
        before = now;
    }
}
