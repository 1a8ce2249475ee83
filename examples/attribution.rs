//! Queries on other threads and tasks, attributed to the request that caused them, and a named background job.
//! Prints the address that it listens on.

use actix_vitals::{
    Vitals, block, carry, carry_future,
    database::{Pool, RunError},
    ops::OpsSettings,
};
use actix_web::{App, HttpServer, error, rt, web};
use diesel::{RunQueryDsl, SqliteConnection, r2d2::ConnectionManager, sql_query};

type Db = Pool<SqliteConnection>;
type Counted = Result<usize, RunError<diesel::result::Error>>;

async fn count_visit(pool: &Db) -> Counted {
    pool.run(|connection| sql_query("INSERT INTO visits DEFAULT VALUES").execute(connection))
        .await
}

/// `block` in place of `web::block`.
async fn on_a_blocking_thread(pool: web::Data<Db>) -> actix_web::Result<String> {
    let deleted = block(move || {
        let mut connection = pool.get().ok()?;
        sql_query("DELETE FROM visits")
            .execute(&mut connection)
            .ok()
    })
    .await?;
    let deleted = deleted.ok_or_else(|| error::ErrorServiceUnavailable("no database"))?;
    Ok(deleted.to_string())
}

/// Wraps the spawned future in `carry_future`. A future that the handler awaits itself needs no wrapper.
async fn in_tasks(pool: web::Data<Db>) -> actix_web::Result<&'static str> {
    let other = pool.clone();
    let task = rt::spawn(carry_future(async move { count_visit(&other).await }));
    let (spawned, awaited) = futures_util::future::join(task, count_visit(&pool)).await;
    match (spawned, awaited) {
        (Ok(Ok(_)), Ok(_)) => Ok("two visits"),
        _ => Err(error::ErrorServiceUnavailable("no database")),
    }
}

/// `carry` around the closure of a thread.
async fn on_a_thread(pool: web::Data<Db>) -> actix_web::Result<&'static str> {
    let work = move || {
        let mut connection = pool.get().ok()?;
        let query = sql_query("INSERT INTO visits DEFAULT VALUES");
        query.execute(&mut connection).ok()
    };
    let (sender, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(carry(move || sender.send(work())));
    match answer.await {
        Ok(Some(_)) => Ok("a visit"),
        _ => Err(error::ErrorServiceUnavailable("no database")),
    }
}

/// A job of its own, which continues after the request has ended.
async fn in_a_job(pool: web::Data<Db>, vitals: web::Data<Vitals>) -> &'static str {
    let export = async move { count_visit(&pool).await };
    rt::spawn(vitals.job("export", export));
    "it has begun"
}

#[actix_web::main]
#[allow(clippy::print_stdout, reason = "a reader of the output finds the port")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vitals = Vitals::builder().ops(OpsSettings::everything()).build()?;
    let pool = vitals
        .instrument(diesel::r2d2::Pool::builder().max_size(1))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))?;
    // There is no request at the start: this is a job on this thread.
    vitals.job_blocking("migrations", || {
        let mut connection = pool.get()?;
        sql_query("CREATE TABLE visits (id INTEGER PRIMARY KEY)").execute(&mut connection)?;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .app_data(web::Data::new(vitals.clone()))
            .route("/block", web::post().to(on_a_blocking_thread))
            .route("/tasks", web::post().to(in_tasks))
            .route("/thread", web::post().to(on_a_thread))
            .route("/job", web::post().to(in_a_job))
            .configure(vitals.ops())
            .wrap(vitals.http())
    });
    let address = std::env::args().nth(1);
    let server = server.bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
