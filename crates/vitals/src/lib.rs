//! Performance monitoring built into an Actix-web and Diesel service. It counts every request and every query once, records
//! the pools, the process and the runtime, and exposes all of it to Prometheus in the format that it requests.
//!
//! Start with [`Vitals`]. This crate contains the builder and the handle; it re-exports what adopters use of the registry, the
//! recorder and the console, which `docs/ARCHITECTURE.md` describes.
//!
//! # A monitored service
//!
//! ```no_run
//! use actix_vitals::{Vitals, database::Pool};
//! use actix_web::{App, HttpResponse, HttpServer, web};
//! use diesel::{RunQueryDsl, SqliteConnection, r2d2::ConnectionManager, sql_query};
//!
//! async fn delete_carts(pool: web::Data<Pool<SqliteConnection>>) -> HttpResponse {
//!     match pool.run(|connection| sql_query("DELETE FROM carts").execute(connection)).await {
//!         Ok(carts) => HttpResponse::Ok().body(carts.to_string()),
//!         Err(_) => HttpResponse::ServiceUnavailable().finish(),
//!     }
//! }
//!
//! # #[actix_web::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vitals = Vitals::builder().build()?;
//! let pool = vitals
//!     .instrument(diesel::r2d2::Pool::builder().max_size(10))
//!     .build(ConnectionManager::<SqliteConnection>::new("orders.db"))?;
//! HttpServer::new(move || {
//!     App::new()
//!         .app_data(web::Data::new(pool.clone()))
//!         .route("/carts", web::delete().to(delete_carts))
//!         .configure(vitals.ops())
//!         // Last: outermost, so that it sees what every other middleware answers.
//!         .wrap(vitals.http())
//! })
//! // Drops the handler of a client that leaves, and counts the request as 499.
//! .h1_allow_half_closed(false)
//! .bind("127.0.0.1:8000")?
//! .run()
//! .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Queries on other threads and tasks
//!
//! A query counts for the request whose handler runs it. [`block`], [`carry`] and [`carry_future`] attribute work on another
//! thread or task to the request. [`Vitals::job`] gives a background job a name. Queries outside of any request and job are
//! counted in `db_queries_unattributed_total`.
//!
//! ```
//! use actix_vitals::{Vitals, block, carry, carry_future};
//! use actix_web::{HttpResponse, rt, web};
//!
//! async fn handler(vitals: web::Data<Vitals>) -> actix_web::Result<HttpResponse> {
//!     // In place of `web::block`.
//!     let answer = block(|| 6 * 7).await?;
//!     rt::spawn(carry_future(async { /* for this request */ }));
//!     std::thread::spawn(carry(|| { /* for this request */ }));
//!     rt::spawn(vitals.job("nightly-export", async { /* for the job */ }));
//!     Ok(HttpResponse::Ok().body(answer.to_string()))
//! }
//! ```
//!
//! # Metrics of your own
//!
//! [`Builder::build_with`] declares families with all that the built-in ones have; its page has an example with labels.
//!
//! ```
//! use actix_vitals::{Vitals, registry::Descriptor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (vitals, orders) = Vitals::builder()
//!     .build_with(|registry| registry.counter(Descriptor::new("shop_orders_total", "Orders.", ["kind"])))?;
//! orders.series(["book"]).inc();
//! assert_eq!(vitals.value("shop_orders_total", &[("kind", "book")]), Some(1.0));
//! # Ok(())
//! # }
//! ```
//!
//! Metrics of the `prometheus` crate are exposed beside them, in every format:
//!
//! ```
//! use actix_vitals::{Vitals, registry::Format};
//! use prometheus::IntCounter;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vitals = Vitals::builder().label("region", "eu").build()?;
//! let orders = IntCounter::new("shop_orders_total", "Orders that were taken.")?;
//! vitals.registry().prometheus().register(Box::new(orders.clone()))?;
//! orders.inc();
//! let text = String::from_utf8(vitals.registry().encode(Format::Text))?;
//! assert!(text.contains("shop_orders_total{region=\"eu\"} 1"));
//! # Ok(())
//! # }
//! ```
//!
//! # Ops endpoints and health
//!
//! The scrape and the health checks always exist. All others are choices of [`OpsSettings`](ops::OpsSettings), for a listener
//! that only operators can reach:
//!
//! ```
//! use actix_vitals::{Vitals, ops::{OpsSettings, ProbeError}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ops = OpsSettings::new().with_statements().scrapes_waiting(16);
//! let vitals = Vitals::builder().ops(ops).build()?;
//! // Replaces the ping of each pool. The text of a probe is public.
//! vitals.check_health(async || Err(ProbeError("the warehouse does not answer".to_owned())));
//! # Ok(())
//! # }
//! ```
//!
//! # Other names
//!
//! ```
//! use actix_vitals::{Vitals, Naming};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vitals = Vitals::builder()
//!     // Called once for each pattern, never for a request.
//!     .rename_endpoints(|pattern| pattern.trim_start_matches("/api/v1").to_owned())
//!     // All names of OpenTelemetry's conventions.
//!     .naming(Naming::OpenTelemetry)
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # A connection without a pool
//!
//! ```
//! use actix_vitals::Vitals;
//! use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vitals = Vitals::builder().build()?;
//! let mut connection = SqliteConnection::establish(":memory:")?;
//! vitals.instrument_connection(&mut connection);
//! sql_query("SELECT 1").execute(&mut connection)?;
//! let statements = vitals.statements().report(Default::default(), 10);
//! assert_eq!(statements[0].statement, "SELECT ?");
//! # Ok(())
//! # }
//! ```
//!
//! # Tests of your own
//!
//! Nothing is global: each test has its own monitoring. [`testing`] asserts on what a handler did, and has an example
//! with a budget of queries.
//!
//! ```
//! use actix_vitals::{Vitals, testing::TestMetrics};
//! use actix_web::{App, test::{TestRequest, call_and_read_body, init_service}};
//!
//! # #[actix_web::main]
//! # async fn main() -> std::io::Result<()> {
//! let vitals = Vitals::builder().build()?;
//! let app = App::new().configure(vitals.ops()).wrap(vitals.http());
//! let app = init_service(app).await;
//! call_and_read_body(&app, TestRequest::with_uri("/livez").to_request()).await;
//! assert_eq!(TestMetrics::new(&vitals).requests("/livez", 200), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Values of labels
//!
//! A series is never removed, so no client may create one. Endpoints are patterns of routes, or `unmatched`; methods are
//! registered ones, or `other`; a status is a number. A family has a budget of series
//! ([`Builder::max_series`](Builder::max_series)). Beyond it, new label sets are counted in one series whose values are all
//! `overflow`, and `vitals_series_overflow_total` counts them. Take the values of your own labels from a list in your code,
//! never from a path, a name or a header.
//!
//! # Cost
//!
//! Recording in a series that exists takes no lock, builds no string and allocates nothing. Reading is left to the scrape.
//!
//! | what | cost |
//! |---|---|
//! | a request, with all families on | 0.13 to 0.21 µs |
//! | a query | 0.1 to 0.3 µs |
//! | an observation of a histogram, a count | 10 ns, 3 ns |
//! | a scrape of 1,000 latency series, on a blocking thread | 0.15 ms as text, 0.21 ms as protobuf |
//! | the memory of a latency series | 4 KiB at most |
//!
//! This was measured on two cores of a shared AMD EPYC, with link-time optimisation. `docs/PERFORMANCE.md` has the conditions
//! and compares the figures with those of alternatives; `make bench` in the repository measures them. [`Builder::body_sizes`](Builder::body_sizes) and
//! [`Builder::database_tally`](Builder::database_tally) turn off families that a service may not need.
//!
//! # Features
//!
//! `http` (the middleware), `database` (pools of Diesel connections; your own `diesel` chooses the backend) and `ops` (the
//! ops endpoints, with the live page) are on by default. `diesel-async` adds connections of diesel-async, in pools of deadpool,
//! bb8 and mobc. `jemalloc` adds the statistics of that allocator, `otlp` the push to an OTLP receiver, and `profiling` profiles
//! of the processor time and of the heap. `otlp-plain` is the push without TLS.

mod builder;
mod handle;
#[cfg(feature = "http")]
pub mod testing;

/// ```
/// use actix_vitals::context;
///
/// // Outside of a request and a job there is no context. In a handler it has the tally so far.
/// assert!(context::current().is_none());
/// ```
pub use vitals_recorder::context;

/// ```
/// use actix_vitals::{LATENCY_BUCKETS, Vitals};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The default bounds, up to a second.
/// let bounds: Vec<f64> = LATENCY_BUCKETS.into_iter().filter(|bound| *bound <= 1.0).collect();
/// let vitals = Vitals::builder().latency_buckets(bounds).build()?;
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::naming::LATENCY_BUCKETS;

/// ```
/// use actix_vitals::{Naming, Vitals, registry::Format};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().naming(Naming::OpenTelemetry).build()?;
/// let text = String::from_utf8(vitals.registry().encode(Format::Text))?;
/// assert!(text.contains("http_server_active_requests"));
/// # Ok(())
/// # }
/// ```
pub use vitals_recorder::naming::Naming;
pub use vitals_registry::{self as registry, label_set};

pub use builder::{BuildError, Builder};
pub use handle::Vitals;
/// The default of [`Builder::n_plus_one`].
pub use vitals_recorder::suspicions::N_PLUS_ONE;

/// ```
/// use actix_vitals::carry;
///
/// // In a handler: the queries of the thread are counted for the handler's request.
/// let thread = std::thread::spawn(carry(|| 6 * 7));
/// assert_eq!(thread.join().ok(), Some(42));
/// ```
pub use vitals_recorder::context::carry;

/// ```
/// use actix_vitals::carry_future;
///
/// # actix_web::rt::System::new().block_on(async {
/// // In a handler: the queries of the task are counted for the handler's request.
/// let task = actix_web::rt::spawn(carry_future(async { 6 * 7 }));
/// assert_eq!(task.await.ok(), Some(42));
/// # });
/// ```
pub use vitals_recorder::context::carry_future;

/// ```
/// # actix_web::rt::System::new().block_on(async {
/// // In place of `web::block`.
/// let answer = actix_vitals::block(|| 6 * 7).await;
/// assert_eq!(answer.ok(), Some(42));
/// # });
/// ```
#[cfg(feature = "http")]
pub use vitals_recorder::http::block;

/// Background jobs.
pub mod jobs {
    /// ```
    /// use actix_vitals::Vitals;
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let job = vitals.job("nightly-export", async { Ok::<_, std::io::Error>(3) });
    /// assert_eq!(job.await?, 3);
    /// let ok = [("job_name", "nightly-export"), ("outcome", "ok")];
    /// assert_eq!(vitals.value("job_runs_total", &ok), Some(1.0));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::jobs::Job;

    /// ```
    /// use actix_vitals::{Vitals, jobs::JobOutput};
    ///
    /// enum Import {
    ///     Complete,
    ///     Partial,
    /// }
    ///
    /// impl JobOutput for Import {
    ///     fn is_failure(&self) -> bool {
    ///         matches!(self, Self::Partial)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// vitals.job_blocking("import", || Import::Complete);
    /// vitals.job_blocking("import", || Import::Partial);
    /// let failed = [("job_name", "import"), ("outcome", "error")];
    /// assert_eq!(vitals.value("job_runs_total", &failed), Some(1.0));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::jobs::JobOutput;
}

/// Log lines that are written at a limited rate.
pub mod log_limit {
    /// ```
    /// use actix_vitals::log_limit::LogLimit;
    ///
    /// static LINES: LogLimit = LogLimit::new();
    ///
    /// // Clients may cause this as often as they like.
    /// let mut written = 0;
    /// for _ in 0..1000 {
    ///     if let Some(line) = LINES.line() {
    ///         written += 1;
    ///         let left_out = line.left_out;
    ///         // tracing::warn!(left_out, "a client did something wrong");
    ///     }
    /// }
    /// assert!(written < 100);
    /// ```
    pub use vitals_recorder::log_limit::LogLimit;
}

/// Queries, transactions and pools of Diesel connections.
#[cfg(feature = "database")]
pub mod database {
    pub use vitals_recorder::database::{Opaque, QueryRecorder, Typed, Wrapped};

    /// ```
    /// use actix_vitals::{Vitals, database::Pool};
    /// use diesel::{RunQueryDsl, SqliteConnection, r2d2::{self, ConnectionManager}, sql_query};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let pool: Pool<SqliteConnection> = vitals
    ///     .instrument(r2d2::Pool::builder().max_size(1))
    ///     .build(ConnectionManager::new(":memory:"))?;
    /// let rows = pool
    ///     .run(|connection| sql_query("CREATE TABLE orders (id INTEGER)").execute(connection))
    ///     .await?;
    /// assert_eq!(rows, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::Pool;

    /// ```
    /// use actix_vitals::Vitals;
    /// use diesel::{SqliteConnection, r2d2::{self, ConnectionManager}};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let pool = vitals
    ///     .instrument(r2d2::Pool::builder().max_size(2))
    ///     .name("reports")
    ///     .max_waiters(10)
    ///     .build(ConnectionManager::<SqliteConnection>::new(":memory:"))?;
    /// assert_eq!((pool.name(), pool.max_size()), ("reports", 2));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::PoolBuilder;

    /// ```
    /// use actix_vitals::{Vitals, database::Manager};
    /// use diesel::{SqliteConnection, r2d2};
    ///
    /// // The settings of a pool that exists already: only the type of its manager changes.
    /// fn settings() -> r2d2::Builder<Manager<SqliteConnection>> {
    ///     r2d2::Pool::builder().max_size(2).test_on_check_out(false)
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let builder = vitals.instrument(settings());
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::Manager;

    /// ```
    /// use actix_vitals::{Vitals, database::Connection};
    /// use diesel::{RunQueryDsl, SqliteConnection, r2d2::{self, ConnectionManager}, sql_query};
    ///
    /// fn create_tables(connection: &mut Connection<SqliteConnection>) -> diesel::QueryResult<usize> {
    ///     sql_query("CREATE TABLE orders (id INTEGER)").execute(&mut **connection)
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let pool = vitals
    ///     .instrument(r2d2::Pool::builder().max_size(1))
    ///     .build(ConnectionManager::new(":memory:"))?;
    /// create_tables(&mut pool.get()?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::Connection;

    /// ```
    /// use actix_vitals::database::CheckoutError;
    ///
    /// let error = std::io::Error::from(CheckoutError::Timeout);
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// ```
    pub use vitals_recorder::database::CheckoutError;

    /// ```
    /// use actix_vitals::database::ErrorKind;
    /// use diesel::result::{DatabaseErrorKind, Error};
    ///
    /// let error = Error::DatabaseError(DatabaseErrorKind::UniqueViolation, Box::new(String::new()));
    /// assert_eq!(ErrorKind::of(&error), Some(ErrorKind::UniqueViolation));
    /// assert_eq!(ErrorKind::of(&Error::NotFound), None);
    /// ```
    pub use vitals_recorder::database::ErrorKind;

    /// ```
    /// use actix_vitals::{Vitals, database::Order};
    /// use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let mut connection = SqliteConnection::establish(":memory:")?;
    /// vitals.instrument_connection(&mut connection);
    /// sql_query("SELECT 1").execute(&mut connection)?;
    /// sql_query("SELECT 2").execute(&mut connection)?;
    /// let reports = vitals.statements().report(Order::Calls, 10);
    /// assert_eq!((&*reports[0].statement, reports[0].calls), ("SELECT ?", 2));
    /// vitals.statements().reset();
    /// assert!(vitals.statements().report(Order::Calls, 10).is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::{
        Order, StatementDetail, StatementFilter, StatementMinute, StatementReport, Statements,
    };

    /// What is suspected of a statement, and the line of code that ran it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use actix_vitals::{Vitals, database::{Order, Suspicion}};
    /// use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().slow_query(Duration::from_nanos(1)).build()?;
    /// let mut connection = SqliteConnection::establish(":memory:")?;
    /// vitals.instrument_connection(&mut connection);
    /// sql_query("SELECT 1").execute(&mut connection)?;
    ///
    /// let statements = vitals.statements();
    /// let slow = statements.report(Order::Mean, 1).remove(0);
    /// let suspicions = statements.suspicions();
    /// // A thread does this soon. It takes up to a second.
    /// suspicions.symbolise_all();
    /// for located in suspicions.of_statement(slow.number.ok_or("a kept statement")?) {
    ///     assert_eq!(located.suspicions, [Suspicion::Slow]);
    ///     if let Some(location) = located.location {
    ///         println!("{} was slow at {location}", slow.statement);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::suspicions::{CodeLocation, LocatedSuspicion, Suspicion, Suspicions};

    /// ```
    /// use actix_vitals::{Vitals, database::record_error};
    /// use diesel::{Connection, QueryResult, RunQueryDsl, SqliteConnection, sql_query};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let mut connection = SqliteConnection::establish(":memory:")?;
    /// vitals.instrument_connection(&mut connection);
    /// let failed: QueryResult<usize> = sql_query("SELECT * FROM nowhere").execute(&mut connection);
    /// if let Err(error) = failed {
    ///     record_error(&mut connection, &error);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::record_error;

    /// ```
    /// use actix_vitals::database::without_quotations;
    ///
    /// let message = without_quotations(r#"invalid port number: "secret""#);
    /// assert!(!message.contains("secret"));
    /// ```
    pub use vitals_recorder::database::without_quotations;

    #[cfg(feature = "diesel-async")]
    pub use vitals_recorder::database::{
        AsyncExplainable, AsyncManager, AsyncPool, AsyncPoolBuilder, Held, NativePool, bb8,
        deadpool, mobc, record_async_error, set_async_instrumentation,
    };

    /// ```
    /// use actix_vitals::{Vitals, database::{CheckoutError, Explainable, Pool}};
    /// use diesel::{SqliteConnection, r2d2::{self, ConnectionManager, R2D2Connection}};
    ///
    /// /// A pool of any of Diesel's connections.
    /// fn open<C>(vitals: &Vitals, url: &str) -> Result<Pool<C>, CheckoutError>
    /// where
    ///     C: R2D2Connection + Explainable + Send + 'static,
    /// {
    ///     vitals
    ///         .instrument(r2d2::Pool::builder().max_size(1))
    ///         .build(ConnectionManager::new(url))
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = open::<SqliteConnection>(&Vitals::builder().build()?, ":memory:")?;
    /// assert_eq!(pool.name(), "default");
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::Explainable;

    pub use vitals_recorder::database::{
        Plan, PlanChange, PlanFlag, PlanFlagKind, PlanReport, PlanStep,
    };

    /// ```
    /// use actix_vitals::database::RunError;
    ///
    /// let error = RunError::Query("no such order").map(str::len);
    /// assert!(matches!(error, RunError::Query(13)));
    /// ```
    pub use vitals_recorder::database::RunError;

    /// ```
    /// use actix_vitals::database::{Opaque, QueryError};
    ///
    /// enum Rejected {
    ///     TooMany,
    /// }
    ///
    /// impl QueryError<Opaque> for Rejected {}
    /// ```
    pub use vitals_recorder::database::QueryError;

    /// ```
    /// use actix_vitals::{Vitals, database::set_instrumentation};
    /// use diesel::{Connection, SqliteConnection, connection::InstrumentationEvent};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let mut connection = SqliteConnection::establish(":memory:")?;
    /// vitals.instrument_connection(&mut connection);
    /// set_instrumentation(&mut connection, |event: InstrumentationEvent<'_>| {
    ///     if let InstrumentationEvent::FinishQuery { error: Some(_), .. } = event {
    ///         eprintln!("a query failed");
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::database::set_instrumentation;

    /// ```
    /// use actix_vitals::database::sql::{Dialect, Operation, Verb, read};
    ///
    /// let reading = read("SELECT id FROM items WHERE name = 'secret' -- why", Dialect::Sqlite);
    /// assert_eq!(reading.verb, Verb::Query(Operation::Select));
    /// assert_eq!(reading.shape, "SELECT id FROM items WHERE name = ?");
    /// ```
    pub use vitals_recorder::database::sql;
}

/// Requests and connections.
#[cfg(feature = "http")]
pub mod http {
    pub use vitals_recorder::http::{
        MonitorFuture, MonitorService, MonitoredBody, OTHER_METHOD, UNMATCHED, block,
    };

    /// ```
    /// use actix_vitals::Vitals;
    /// use actix_web::{App, HttpResponse, test::{TestRequest, call_service, init_service}, web};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let app = App::new()
    ///     .route("/orders/{id}", web::get().to(HttpResponse::Ok))
    ///     // Last: outermost, so that it sees what every other middleware answers.
    ///     .wrap(vitals.http());
    /// let app = init_service(app).await;
    /// drop(call_service(&app, TestRequest::with_uri("/orders/7").to_request()).await);
    /// let labels = [("endpoint", "/orders/{id}"), ("http_status", "200")];
    /// assert_eq!(vitals.value("http_requests_total", &labels), Some(1.0));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::http::Monitor;

    /// ```
    /// use actix_vitals::{Vitals, http::ConnectionOutcome};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // In a server with an accept loop of its own.
    /// let vitals = Vitals::builder().build()?;
    /// let connection = vitals.connections().open();
    /// assert_eq!(vitals.value("http_connections_active", &[]), Some(1.0));
    /// connection.end(ConnectionOutcome::Idle);
    /// vitals.connections().refused(ConnectionOutcome::RefusedTotal);
    /// let idle = [("outcome", "idle")];
    /// assert_eq!(vitals.value("http_connections_total", &idle), Some(1.0));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::http::{ConnectionMetrics, ConnectionOutcome, OpenConnection};

    /// ```
    /// use actix_vitals::Vitals;
    /// use actix_web::{App, HttpResponse, test::{TestRequest, call_service, init_service}, web};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let app = App::new()
    ///     .route("/orders", web::get().to(HttpResponse::InternalServerError))
    ///     .wrap(vitals.http());
    /// let app = init_service(app).await;
    /// drop(call_service(&app, TestRequest::with_uri("/orders").to_request()).await);
    /// let failed = vitals.notable_requests().failed();
    /// assert_eq!((&*failed[0].endpoint, failed[0].status), ("/orders", 500));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::http::{NotableRequest, NotableRequests};

    /// ```
    /// use actix_vitals::{Vitals, http::{KeepReason, KeptFilter, PhaseKind}};
    /// use actix_web::{App, HttpResponse, test::{TestRequest, call_and_read_body, init_service}, web};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let app = App::new()
    ///     .route("/orders", web::get().to(HttpResponse::InternalServerError))
    ///     .wrap(vitals.http());
    /// let app = init_service(app).await;
    /// call_and_read_body(&app, TestRequest::with_uri("/orders").to_request()).await;
    /// let failed = KeptFilter { reason: Some(KeepReason::Failed), ..KeptFilter::default() };
    /// let kept = vitals.kept_requests().list(&failed);
    /// assert_eq!((&*kept[0].endpoint, kept[0].status), ("/orders", 500));
    /// assert!(kept[0].explain().time(PhaseKind::EventLoop) <= kept[0].duration);
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::http::{
        Comparison, Explanation, KEPT_REQUESTS, KeepReason, KeptEnding, KeptFilter, KeptId,
        KeptRequest, KeptRequests, LeftOutPhases, MOST_KEPT_REQUESTS, NotAnId, Phase, PhaseKind,
    };

    /// ```
    /// use actix_vitals::{Vitals, http::FailureKind};
    /// use actix_web::{App, HttpResponse, test::{TestRequest, call_and_read_body, init_service}, web};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let app = App::new()
    ///     .route("/orders", web::get().to(HttpResponse::InternalServerError))
    ///     .wrap(vitals.http());
    /// let app = init_service(app).await;
    /// call_and_read_body(&app, TestRequest::with_uri("/orders").to_request()).await;
    /// let failures = vitals.failures().list();
    /// assert_eq!((failures[0].cause.kind, failures[0].count), (FailureKind::Answer, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_recorder::http::{FailureCause, FailureGroup, FailureGroups, FailureKind};

    /// ```
    /// use actix_vitals::http::Stream;
    /// use actix_web::HttpResponse;
    /// use futures_util::stream;
    ///
    /// async fn follow() -> HttpResponse {
    ///     let lines = stream::pending::<Result<actix_web::web::Bytes, actix_web::Error>>();
    ///     let mut response = HttpResponse::Ok().content_type("text/plain").streaming(lines);
    ///     response.extensions_mut().insert(Stream);
    ///     response
    /// }
    /// ```
    pub use vitals_recorder::http::Stream;

    /// ```
    /// use actix_vitals::http::TraceParent;
    ///
    /// let header = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// assert!(TraceParent::parse(header).is_some_and(|parent| parent.sampled));
    /// assert_eq!(TraceParent::parse(b"not a traceparent"), None);
    /// ```
    pub use vitals_recorder::http::TraceParent;
}

/// ```
/// use actix_vitals::memory::AnswerMemory;
///
/// let memory = AnswerMemory::new(1024 * 1024);
/// let reservation = memory.reserve(None, 100_000)?;
/// let body = reservation.hold(vec![b'x'; 80_000]);
/// assert_eq!(memory.used(), 80_000);
/// drop(body);
/// assert_eq!(memory.used(), 0);
/// # Ok::<(), actix_vitals::memory::AnswerMemoryExhausted>(())
/// ```
#[cfg(feature = "http")]
pub use vitals_recorder::memory;

/// The answer of a resource to methods that it does not have.
///
/// ```
/// use actix_vitals::methods::other_methods;
/// use actix_web::{App, HttpResponse, test::{TestRequest, call_service, init_service}, web};
///
/// # #[actix_web::main]
/// # async fn main() {
/// let orders = web::resource("/orders")
///     .route(web::get().to(HttpResponse::Ok))
///     .default_service(other_methods("GET, OPTIONS"));
/// let app = init_service(App::new().service(orders)).await;
/// let answer = call_service(&app, TestRequest::delete().uri("/orders").to_request()).await;
/// assert_eq!(answer.status(), 405);
/// assert_eq!(answer.headers().get("allow").unwrap(), "GET, OPTIONS");
/// # }
/// ```
#[cfg(feature = "http")]
pub use vitals_recorder::methods;

/// Errors as `application/problem+json` (RFC 9457).
///
/// ```
/// use actix_vitals::problem::{FieldError, Problem};
/// use actix_web::{body::to_bytes, http::StatusCode, rt::System};
///
/// let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "The order is not valid.")
///     .with_errors(vec![FieldError::new("quantity", "must be at least 1")]);
/// let answer = problem.to_response();
/// assert_eq!(answer.headers().get("content-type").unwrap(), "application/problem+json");
/// let body = System::new().block_on(to_bytes(answer.into_body()));
/// assert!(body.is_ok_and(|body| String::from_utf8_lossy(&body).contains("must be at least 1")));
/// ```
#[cfg(feature = "http")]
pub use vitals_recorder::problem;

/// The push to an OTLP receiver.
#[cfg(feature = "otlp-plain")]
pub mod otlp {
    pub use vitals_otlp::{EndpointError, OtlpEndpoint, OtlpError, OtlpSettings};
}

/// The ops endpoints.
#[cfg(feature = "ops")]
pub mod ops {
    /// ```
    /// use actix_vitals::ops::{ENDPOINTS, OpsChoice};
    ///
    /// // The endpoints that every service has.
    /// let always = ENDPOINTS.iter().filter(|endpoint| endpoint.choice() == OpsChoice::Always);
    /// let paths: Vec<_> = always.map(|endpoint| endpoint.path()).collect();
    /// assert_eq!(paths, ["/metrics", "/livez", "/readyz", "/health"]);
    /// ```
    pub use vitals_console::{ENDPOINTS, OpsChoice, OpsEndpoint, OpsMethods};

    /// ```
    /// use actix_vitals::ops::{LogControl, OpsSettings};
    ///
    /// // With tracing-subscriber, `replace` is `|filter| handle.reload(EnvFilter::new(filter))`.
    /// let log = LogControl::new("info", |filter| {
    ///     println!("the filter is now {filter}");
    ///     Ok(())
    /// });
    /// let settings = OpsSettings::new().with_log(log);
    /// ```
    pub use vitals_console::LogControl;

    /// ```
    /// use actix_vitals::{Vitals, ops::ProbeError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// vitals.check_health(async || Err(ProbeError("the warehouse does not answer".to_owned())));
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_console::ProbeError;

    /// ```
    /// use actix_vitals::{Vitals, ops};
    /// use actix_web::{App, guard, middleware::DefaultHeaders, web};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let operators = web::scope("")
    ///     .guard(guard::fn_guard(|request| ops::serves(request.head().uri.path())))
    ///     // In place of a check of credentials.
    ///     .wrap(DefaultHeaders::new().add(("x-robots-tag", "none")))
    ///     .configure(vitals.ops());
    /// let app = App::new().service(operators);
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_console::serves;

    /// ```
    /// use actix_vitals::{database::Order, ops::statements};
    ///
    /// let (_, order, limit) = statements::parameters("sort=p95&limit=5").unwrap();
    /// assert_eq!((order, limit), (Order::P95, 5));
    /// assert!(statements::parameters("limit=0").is_err());
    /// ```
    pub use vitals_console::statements;

    /// ```no_run
    /// use actix_vitals::{Vitals, ops::OpsSettings};
    /// use actix_web::{App, HttpServer, rt, web};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().ops(OpsSettings::everything()).build()?;
    /// let monitor = vitals.http();
    /// let service = HttpServer::new(move || {
    ///     App::new()
    ///         .route("/hello", web::get().to(async || "hello"))
    ///         .wrap(monitor.clone())
    /// });
    /// let operations = HttpServer::new(move || App::new().configure(vitals.ops())).workers(1);
    /// rt::spawn(operations.bind("127.0.0.1:9100")?.run());
    /// service.bind("0.0.0.0:8080")?.run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub use vitals_console::OpsSettings;
}
