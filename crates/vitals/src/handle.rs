//! The handle of a service's monitoring, with which the service gets its middleware, its pools and its ops endpoints.

use std::sync::Arc;
#[cfg(feature = "http")]
use std::time::Duration;

#[cfg(feature = "ops")]
use vitals_console as ops;
#[cfg(feature = "database")]
use vitals_recorder::database;
#[cfg(feature = "http")]
use vitals_recorder::{http, memory, runtime};
use vitals_recorder::{
    jobs::{Job, JobOutput, Jobs},
    panics::Panics,
};
use vitals_registry::Registry;

/// The monitoring of one service: its registry and its recorders. Cheap to clone; all clones share them.
///
/// Nothing is global: a process may have several, and each test may build its own.
///
/// ```
/// use actix_vitals::{Vitals, registry::Format};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder().build()?;
/// let text = String::from_utf8(vitals.registry().encode(Format::Text))?;
/// assert!(text.contains("process_start_time_seconds"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Vitals {
    pub(super) inner: Arc<VitalsInner>,
}

#[derive(Debug)]
pub(super) struct VitalsInner {
    pub(super) registry: Registry,
    pub(super) panics: Panics,
    pub(super) jobs: Arc<Jobs>,
    #[cfg(feature = "http")]
    pub(super) requests: Requests,
    #[cfg(feature = "database")]
    pub(super) database: database::Database,
    #[cfg(feature = "ops")]
    pub(super) ops: ops::Ops,
    #[cfg(feature = "otlp-plain")]
    pub(super) push: Option<vitals_otlp::OtlpPush>,
}

/// The recorders of requests.
#[cfg(feature = "http")]
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) recorder: Arc<http::RequestRecorder>,
    pub(super) connections: http::ConnectionFamilies,
    pub(super) runtime: runtime::Runtime,
    pub(super) memory: memory::AnswerMemory,
}

impl Vitals {
    /// Counts the panics of the whole process in `vitals_panics_total`, and logs one line with the location of each.
    ///
    /// This includes panics on any thread, and panics that are caught. Calling it again changes nothing.
    ///
    /// The previous panic hook is called afterwards, such as that of an error reporter. The hook of the standard library writes
    /// several lines to stderr. To replace it by an empty hook, call `std::panic::set_hook(Box::new(|_| {}))` before.
    ///
    /// The line has the beginning of the panic's message without the text in double quotes, because an unwrapped error shows
    /// the strings that it contains. With `RUST_BACKTRACE` set, the line has the backtrace.
    pub fn watch_panics(&self) {
        self.inner.panics.watch();
    }

    /// Records `future` as a run of the background job of this name, from its first poll to its end.
    ///
    /// `job_runs_total` counts it once, by outcome: `ok`, `error` (the future returned an `Err`), `panicked` or `cancelled`
    /// (it was dropped). Its queries are attributed to the job, in `job_db_queries` and in the statements. Give each run its
    /// own job, not the loop around them: the tally of its queries is observed at its end.
    ///
    /// ```
    /// use actix_vitals::Vitals;
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// let vitals = Vitals::builder().build().expect("the defaults are valid");
    /// let exported = vitals.job("nightly-export", async { Ok::<_, std::fmt::Error>(3) });
    /// assert_eq!(actix_web::rt::spawn(exported).await.ok(), Some(Ok(3)));
    /// # });
    /// ```
    pub fn job<F>(&self, name: &'static str, future: F) -> Job<F>
    where
        F: Future,
        F::Output: JobOutput,
    {
        Job::new(&self.inner.jobs, name, future)
    }

    /// Runs `f` on this thread as a run of the background job of this name: [`job`](Self::job) for code that blocks.
    ///
    /// ```
    /// use actix_vitals::Vitals;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let thread = std::thread::spawn(move || vitals.job_blocking("clean-up", || 6 * 7));
    /// assert_eq!(thread.join().ok(), Some(42));
    /// # Ok(())
    /// # }
    /// ```
    pub fn job_blocking<T: JobOutput>(&self, name: &'static str, f: impl FnOnce() -> T) -> T {
        self.inner.jobs.run(name, f)
    }

    /// The registry with all metrics, to expose them or to add your own collectors.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The sum of a family's series that have all of these labels, as pairs of a name and a value.
    ///
    /// `sample` is the name of a counter or gauge, or that of a histogram followed by `_count` or `_sum`. Returns `None` if
    /// there is no such sample, or no label of a name. Metrics that are only read at a scrape, such as those of the process,
    /// are not found here.
    ///
    /// ```
    /// use actix_vitals::Vitals;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// assert_eq!(vitals.value("http_requests_total", &[("endpoint", "/orders")]), Some(0.0));
    /// assert_eq!(vitals.value("http_requests_total", &[("colour", "red")]), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn value(&self, sample: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.registry().value(sample, labels)
    }
}

#[cfg(feature = "otlp-plain")]
impl Vitals {
    /// Pushes all metrics once more and ends the [push](super::Builder::otlp), at the end of the service: when its server has
    /// stopped. Waits for at most `limit`, and returns whether the last push succeeded in that time. Blocks: within async
    /// code, call it on a thread that may block.
    ///
    /// Returns true at once where nothing is pushed.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use actix_vitals::{Vitals, otlp::OtlpSettings};
    /// use actix_web::{App, HttpServer, rt::task::spawn_blocking};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut builder = Vitals::builder();
    /// // Where OTEL_EXPORTER_OTLP_ENDPOINT is set, and as the other variables of OpenTelemetry say.
    /// if let Some(settings) = OtlpSettings::from_env(None)? {
    ///     builder = builder.otlp(settings.service("shop", env!("CARGO_PKG_VERSION")));
    /// }
    /// let vitals = builder.build()?;
    /// let monitor = vitals.http();
    /// HttpServer::new(move || App::new().wrap(monitor.clone()))
    ///     .bind("127.0.0.1:8000")?
    ///     .run()
    ///     .await?;
    /// spawn_blocking(move || vitals.finish_push(Duration::from_secs(5))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish_push(&self, limit: std::time::Duration) -> bool {
        let push = self.inner.push.as_ref();
        push.is_none_or(|push| push.finish(limit))
    }
}

#[cfg(feature = "http")]
impl Vitals {
    /// The middleware that records every request: `App::new().wrap(vitals.http())`.
    ///
    /// Wrap it last: it is then outermost and records every answer.
    pub fn http(&self) -> http::Monitor {
        let Requests {
            recorder, runtime, ..
        } = &self.inner.requests;
        http::Monitor::new(Arc::clone(recorder), runtime.clone())
    }

    /// The slowest requests of the last hour, and the latest that were answered with 500 or above. Each has its labels only.
    pub fn notable_requests(&self) -> &http::NotableRequests {
        self.inner.requests.recorder.notable()
    }

    /// Requests that are kept with their timelines: what their time was spent on.
    pub fn kept_requests(&self) -> &http::KeptRequests {
        self.inner.requests.recorder.kept()
    }

    /// The failed requests, by endpoint, status and cause.
    pub fn failures(&self) -> &http::FailureGroups {
        self.inner.requests.recorder.failures()
    }

    /// The metrics of connections, for a server with its own accept loop: Actix does not report how a connection ends. They
    /// are exposed after the first call.
    pub fn connections(&self) -> &http::ConnectionMetrics {
        self.inner.requests.connections.counts()
    }

    /// The memory budget for bodies that wait for their clients. The ops endpoints use it. Handlers with large answers can use
    /// it as well.
    pub fn answer_memory(&self) -> &memory::AnswerMemory {
        &self.inner.requests.memory
    }

    /// Counts the connections of each worker as tasks in `runtime_worker_tasks`:
    /// `HttpServer::on_connect(vitals.on_connect())`.
    pub fn on_connect(
        &self,
    ) -> impl Fn(&dyn std::any::Any, &mut actix_web::dev::Extensions)
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        let runtime = self.inner.requests.runtime.clone();
        move |_, connection| {
            connection.insert(runtime.connection());
        }
    }

    /// For how long the event loop of a worker has been blocked, up to now: the longest of all workers. Zero below a tenth of
    /// a second. Returns `None` before a worker serves.
    pub fn longest_stall(&self) -> Option<Duration> {
        self.inner.requests.runtime.longest_stall()
    }
}

#[cfg(feature = "database")]
impl Vitals {
    /// Returns a builder of a pool with `builder`'s settings that records queries, transactions, waits and holds.
    ///
    /// Replaces the event handler and the error handler of `builder`. Keeps its connection customizer, whose queries are
    /// counted like any others. Diesel's default instrumentation still receives every event. A customizer that sets another
    /// instrumentation must use [`set_instrumentation`](database::set_instrumentation).
    pub fn instrument<C>(
        &self,
        builder: diesel::r2d2::Builder<database::Manager<C>>,
    ) -> database::PoolBuilder<C>
    where
        C: diesel::r2d2::R2D2Connection + Send + 'static,
    {
        self.inner.database.instrument(builder)
    }

    /// Builds a plain pool of r2d2 that records queries, transactions, waits and holds, under this name. Its type is that of
    /// `builder.build(manager)`, so that no other line of a service changes.
    ///
    /// Replaces the connection customizer, the event handler and the error handler of `builder`. r2d2 has no event for a caller
    /// that starts to wait: `db_pool_waiters` stays 0, a caller that leaves is not counted, and openings are not timed. Health
    /// checks cannot ask its database: the pool is ready until r2d2 fails to open a connection. A pool that
    /// [`instrument`](Self::instrument) builds has none of these limits.
    ///
    /// ```
    /// use actix_vitals::Vitals;
    /// use diesel::{RunQueryDsl, SqliteConnection, r2d2::{ConnectionManager, Pool}, sql_query};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let manager = ConnectionManager::<SqliteConnection>::new(":memory:");
    /// let pool: Pool<_> = vitals.monitor("shop", Pool::builder().max_size(1), manager)?;
    /// sql_query("SELECT 7").execute(&mut pool.get()?)?;
    /// assert_eq!(vitals.value("db_queries_total", &[("operation", "select")]), Some(1.0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `builder.build(manager)`.
    pub fn monitor<C>(
        &self,
        name: &str,
        builder: diesel::r2d2::Builder<diesel::r2d2::ConnectionManager<C>>,
        manager: diesel::r2d2::ConnectionManager<C>,
    ) -> Result<diesel::r2d2::Pool<diesel::r2d2::ConnectionManager<C>>, diesel::r2d2::PoolError>
    where
        C: diesel::r2d2::R2D2Connection + 'static,
    {
        self.inner.database.monitor(name, builder, manager)
    }

    /// Records the queries and transactions of a connection without an [instrumented](Self::instrument) pool. For a pool of
    /// another type, call it in the pool's customizer.
    ///
    /// Diesel's default instrumentation still receives every event. An instrumentation that was set on the connection is
    /// replaced: set it afterwards, with [`set_instrumentation`](database::set_instrumentation).
    pub fn instrument_connection<C: diesel::Connection>(&self, connection: &mut C) {
        self.inner.database.instrument_connection(connection);
    }

    /// Returns an instrumentation that records the queries and transactions of one connection, for
    /// `Connection::set_instrumentation`. It is what [`instrument_connection`](Self::instrument_connection) sets. Diesel's
    /// pings are not recorded.
    pub fn instrumentation<C: diesel::Connection>(
        &self,
    ) -> impl diesel::connection::Instrumentation + use<C> {
        self.inner.database.instrumentation::<C>()
    }

    /// The statements by shape, with their calls, errors and times.
    pub fn statements(&self) -> &database::Statements {
        self.inner.database.statements()
    }

    /// What is known of the plan of a statement, by its number in a report of the statements.
    ///
    /// Asks the database soon, so that a later report has the plan of now. Does not wait for it.
    ///
    /// ```
    /// use actix_vitals::{Vitals, database::Order};
    /// use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let mut connection = SqliteConnection::establish(":memory:")?;
    /// vitals.instrument_connection(&mut connection);
    /// sql_query("SELECT 1").execute(&mut connection)?;
    /// let statements = vitals.statements().report(Order::Total, 1);
    /// let plan = vitals.plan(statements[0].number.ok_or("kept")?);
    /// assert!(plan.plan.is_none() && plan.reason.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn plan(&self, statement: std::num::NonZeroU32) -> database::PlanReport {
        self.inner.database.plan(statement)
    }
}

#[cfg(feature = "diesel-async")]
impl Vitals {
    /// Builds pools of deadpool, bb8 or mobc that record their queries, transactions, waits and holds.
    ///
    /// `manager` is the manager that the pool would have without monitoring: an `AsyncDieselConnectionManager`, or one of
    /// your own. Diesel's default instrumentation still receives every event.
    ///
    /// ```ignore
    /// // `examples/async_pool.rs` is a program with this.
    /// use actix_vitals::Vitals;
    /// use actix_vitals::database::deadpool::Pool;
    /// use diesel_async::AsyncPgConnection;
    /// use diesel_async::pooled_connection::AsyncDieselConnectionManager;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().build()?;
    /// let manager = AsyncDieselConnectionManager::new("postgres://localhost/shop");
    /// let pool: Pool<AsyncPgConnection> = vitals
    ///     .instrument_async(manager)
    ///     .name("shop")
    ///     .deadpool(|pool| pool.max_size(8))?;
    /// assert_eq!((pool.name(), pool.status().max_size), ("shop", 8));
    /// # Ok(())
    /// # }
    /// ```
    pub fn instrument_async<M>(&self, manager: M) -> database::AsyncPoolBuilder<M> {
        self.inner.database.instrument_async(manager)
    }

    /// Records the queries and transactions of a connection of diesel-async that is in no pool, or in a pool that is not
    /// [instrumented](Self::instrument_async).
    ///
    /// Queries of a `SyncConnectionWrapper` run on other threads; outside of an instrumented pool they are unattributed. The
    /// ping of such a pool selects the number 1 as a bind. A query that does the same is taken for a ping and not counted.
    pub fn instrument_async_connection<C: diesel_async::AsyncConnection>(
        &self,
        connection: &mut C,
    ) {
        self.inner.database.instrument_async_connection(connection);
    }

    /// Returns an instrumentation that records the queries and transactions of one connection of diesel-async, for
    /// `AsyncConnection::set_instrumentation`.
    pub fn async_instrumentation<C: diesel_async::AsyncConnection>(
        &self,
    ) -> impl diesel::connection::Instrumentation + use<C> {
        self.inner.database.async_instrumentation::<C>()
    }
}

#[cfg(feature = "ops")]
impl Vitals {
    /// The ops endpoints of the [settings](super::Builder::ops): `App::new().configure(vitals.ops())`. By default these are
    /// the scrape and the health checks.
    ///
    /// All applications and listeners of the process share their state.
    pub fn ops(
        &self,
    ) -> impl Fn(&mut actix_web::web::ServiceConfig) + Clone + Send + Sync + 'static + use<> {
        self.ops_with(|route| route)
    }

    /// The ops endpoints, like [`ops`](Self::ops), with each route passed to `wrap`, which may put a middleware around it.
    ///
    /// The live page's stream is not wrapped, because its requests last for minutes. Answers to methods that an endpoint does
    /// not have are not wrapped either: a middleware that counts by method would make a series of each method that a client
    /// invents.
    ///
    /// ```
    /// use actix_vitals::Vitals;
    /// use actix_web::{App, middleware::DefaultHeaders, test::{TestRequest, call_service, init_service}};
    ///
    /// # #[actix_web::main]
    /// # async fn main() -> std::io::Result<()> {
    /// let vitals = Vitals::builder().build()?;
    /// let ops = vitals.ops_with(|route| route.wrap(DefaultHeaders::new().add(("x-robots-tag", "none"))));
    /// let app = init_service(App::new().configure(ops)).await;
    /// let answer = call_service(&app, TestRequest::with_uri("/metrics").to_request()).await;
    /// assert!(answer.headers().contains_key("x-robots-tag"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn ops_with<F>(
        &self,
        wrap: F,
    ) -> impl Fn(&mut actix_web::web::ServiceConfig) + Clone + Send + Sync + 'static + use<F>
    where
        F: Fn(actix_web::Route) -> actix_web::Route + Clone + Send + Sync + 'static,
    {
        let ops = self.inner.ops.clone();
        ops.start();
        move |config| ops.configure(config, &wrap)
    }

    /// Sets the probe of `/readyz` and `/health`, which replaces the pings of the [instrumented](Self::instrument) pools. It is
    /// called for each check, and given up after 1.5 seconds.
    ///
    /// A probe that uses a pool waits for a connection like any other caller, so a busy service is then not ready.
    /// [`PoolBuilder::health_check`](super::database::PoolBuilder::health_check) does not wait. Without a probe and without a
    /// pool, nothing is checked, and the answers do not mention a database.
    pub fn check_health<F, Fut>(&self, probe: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ops::ProbeError>> + 'static,
    {
        self.inner.ops.check_health(probe);
    }

    /// Makes `/readyz` answer 503 from now on, and ends the streams of open live pages: the server is about to stop.
    pub fn drain(&self) {
        self.inner.ops.drain();
    }
}
