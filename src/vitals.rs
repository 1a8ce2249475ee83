//! The recorders: what any Actix-web and Diesel service adopts to be monitored. [`Vitals`] is the one handle that
//! owns the registry and every recorder; nothing here is global, and nothing knows a particular service.

pub mod allocator;
mod attendance;
pub mod context;
pub mod database;
pub mod http;
pub mod methods;
pub mod ops;
pub mod problem;
pub mod process;
mod reading;
pub mod runtime;

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::dev::Extensions;

use crate::registry::{Registry, RegistryError};

/// Upper bounds of the latency histograms' classic buckets, in seconds.
pub const LATENCY_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Runs of one statement within a request that are suspicious.
pub const N_PLUS_ONE: u32 = 10;

/// The monitoring of one service: its registry and its recorders. Cheap to clone; a clone is the same monitoring.
#[derive(Clone, Debug)]
pub struct Vitals {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    http: Arc<http::Recorder>,
    connections: http::Connections,
    database: database::Database,
    runtime: runtime::Runtime,
}

impl Vitals {
    /// Monitoring with everything at its default, to be adjusted and built.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where all metrics are: for exposing them, and for adding your own.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The statements that cost most.
    pub fn statements(&self) -> &database::Statements {
        self.inner.database.statements()
    }

    /// The requests that are worth a look one by one: the slowest, and those that failed.
    pub fn notable_requests(&self) -> &http::NotableRequests {
        self.inner.http.notable()
    }

    /// The middleware that records every request: `App::new().wrap(vitals.http())`.
    pub fn http(&self) -> http::Monitor {
        http::Monitor::new(Arc::clone(&self.inner.http), self.inner.runtime.clone())
    }

    /// The counts of connections, for who accepts them by itself: Actix does not tell how a connection ends.
    pub fn connections(&self) -> &http::Connections {
        &self.inner.connections
    }

    /// Counts the connections that each worker serves among its tasks:
    /// `HttpServer::on_connect(vitals.on_connect())`.
    pub fn on_connect(&self) -> impl Fn(&dyn Any, &mut Extensions) + Clone + Send + Sync + 'static {
        let runtime = self.inner.runtime.clone();
        move |_, connection| {
            connection.insert(runtime.connection());
        }
    }

    /// Makes the pools that are built with `builder`'s settings record their queries, transactions, waits and holds.
    pub fn instrument<C>(
        &self,
        builder: diesel::r2d2::Builder<database::Manager<C>>,
    ) -> database::PoolBuilder<C>
    where
        C: diesel::r2d2::R2D2Connection + Send + 'static,
    {
        self.inner.database.instrument(builder)
    }
}

/// How a service is to be monitored. Every setting has a default that suits most.
#[derive(Clone, Debug)]
pub struct Builder {
    latency_buckets: Vec<f64>,
    max_series: usize,
    native_buckets: usize,
    exclude: Vec<String>,
    n_plus_one: u32,
    server_timing: bool,
    jemalloc: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            latency_buckets: LATENCY_BUCKETS.to_vec(),
            max_series: 2000,
            native_buckets: 160,
            exclude: Vec::new(),
            n_plus_one: N_PLUS_ONE,
            server_timing: false,
            jemalloc: false,
        }
    }
}

impl Builder {
    /// Upper bounds of the latency histograms' classic buckets, in seconds, ascending.
    #[must_use]
    pub fn latency_buckets(mut self, bounds: impl Into<Vec<f64>>) -> Self {
        self.latency_buckets = bounds.into();
        self
    }

    /// Most series that a family may have; further label sets share its one `overflow` series. Default 2000.
    #[must_use]
    pub fn max_series(mut self, series: usize) -> Self {
        self.max_series = series;
        self
    }

    /// Most buckets of a native histogram that are exposed: its resolution is lowered to fit. Default 160.
    #[must_use]
    pub fn native_buckets(mut self, buckets: usize) -> Self {
        self.native_buckets = buckets;
        self
    }

    /// Endpoints whose requests are not recorded, as they stand in the `endpoint` label: `/data/{item_id}`,
    /// `unmatched`, or `*` for all. Adds to those given before.
    #[must_use]
    pub fn exclude<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.exclude.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How often a request must run one and the same statement, but for its values, to be suspected of doing so in a
    /// loop. Default 10; with 0 none is suspected.
    #[must_use]
    pub fn n_plus_one(mut self, threshold: u32) -> Self {
        self.n_plus_one = threshold;
        self
    }

    /// Whether answers bear a `Server-Timing` header, which developer tools of browsers draw: the queries and their time,
    /// the wait for the pool, and the time until the head of the answer, in milliseconds. Default false: it tells
    /// everyone.
    #[must_use]
    pub fn server_timing(mut self, wanted: bool) -> Self {
        self.server_timing = wanted;
        self
    }

    /// Exposes jemalloc's statistics. Only for a process whose global allocator jemalloc is.
    #[must_use]
    pub fn jemalloc(mut self) -> Self {
        self.jemalloc = true;
        self
    }

    /// Declares every family and sets the recorders up.
    ///
    /// # Errors
    ///
    /// Fails if the latency buckets are empty, not ascending or not finite, or if jemalloc is asked for statistics and
    /// was built without.
    pub fn build(self) -> Result<Vitals, BuildError> {
        let mut registry = Registry::builder(since_epoch)
            .max_series(self.max_series)
            .native_buckets(self.native_buckets)
            .on_overflow(warn_of_overflow);
        let http = http::Families::declare(&mut registry, &self.latency_buckets);
        let connections = http::Connections::declare(&mut registry);
        let database = database::Database::new(&database::Families::declare(
            &mut registry,
            &self.latency_buckets,
        ));
        let http = http::Recorder::new(
            http,
            database.statements().clone(),
            http::Settings {
                exclude: self.exclude,
                n_plus_one: self.n_plus_one,
                server_timing: self.server_timing,
                notable: http::NotableRequests::new(ops::is_ops),
            },
        );
        let runtime = runtime::Runtime::declare(&mut registry, &self.latency_buckets);
        let registry = registry.build()?;
        registry.register(database.levels())?;
        registry.register(process::Process::new())?;
        registry.register(runtime.clone())?;
        if self.jemalloc {
            let allocator = allocator::Allocator::new()
                .map_err(|error| BuildError::Jemalloc(error.to_string()))?;
            registry.register(allocator)?;
        }
        Ok(Vitals {
            inner: Arc::new(Inner {
                registry,
                http: Arc::new(http),
                connections: http::Connections::new(&connections),
                database,
                runtime,
            }),
        })
    }
}

/// Monitoring could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The registry refused a family: a bucket bound or a name is not valid.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// jemalloc was built without statistics.
    #[error("jemalloc has no statistics: {0}")]
    Jemalloc(String),
}

/// The wall clock that gives series their creation times, as time since the Unix epoch.
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn warn_of_overflow(family: &str) {
    tracing::warn!(
        family,
        "series budget used up: further label sets are counted in the `overflow` series, and in vitals_series_overflow_total"
    );
}
