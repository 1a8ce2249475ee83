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
//! | a request, with all families on | 0.11 to 0.20 µs |
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
#[cfg(feature = "database")]
pub mod database;
mod handle;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "ops")]
pub mod ops;
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
