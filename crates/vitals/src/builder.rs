//! The builder of the monitoring: its settings, and how the recorders are put together.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "ops")]
use vitals_console as ops;
#[cfg(feature = "otlp-plain")]
use vitals_otlp::{OtlpError, OtlpPush, OtlpSettings, PushFamilies, TraceSource};
#[cfg(feature = "jemalloc")]
use vitals_recorder::allocator;
use vitals_recorder::{clock, context, jobs, naming::Naming, panics, process};
#[cfg(feature = "database")]
use vitals_recorder::{database, repetition::RepetitionDetector};
#[cfg(feature = "http")]
use vitals_recorder::{
    http, memory, naming::LATENCY_BUCKETS, ops_endpoints::OpsEndpoints, runtime,
};
use vitals_registry::{Fault, Registry, RegistryBuilder, RegistryError};

#[cfg(feature = "http")]
use crate::handle::Requests;
use crate::handle::{Vitals, VitalsInner};

/// How many labels a service may have.
const MOST_LABELS: usize = 16;

/// The longest value of such a label, in bytes.
const LONGEST_LABEL: usize = 256;

impl Vitals {
    /// A builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// The settings of the monitoring. Every setting has a default that suits most services.
///
/// ```
/// use actix_vitals::Vitals;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vitals = Vitals::builder()
///     .label("region", "eu")
///     .max_series(500)
///     .exclude(["/favicon.ico"])
///     .n_plus_one(20)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Builder {
    naming: Naming,
    latency_buckets: Option<Vec<f64>>,
    max_series: Option<usize>,
    native_buckets: Option<usize>,
    labels: Vec<(String, String)>,
    created: bool,
    #[cfg(feature = "http")]
    requests: http::RecordingSettings,
    #[cfg(feature = "ops")]
    ops: ops::OpsSettings,
    #[cfg(feature = "database")]
    database: database::DatabaseSettings,
    #[cfg(feature = "database")]
    no_plans: bool,
    #[cfg(feature = "otlp-plain")]
    otlp: Option<OtlpSettings>,
    #[cfg(feature = "jemalloc")]
    jemalloc: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("naming", &self.naming)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// The names of the exposition. By default [`Naming::Vitals`].
    #[must_use]
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Upper bounds of the latency histograms' classic buckets, in seconds, ascending. By default [`LATENCY_BUCKETS`], or
    /// those that OpenTelemetry's conventions recommend with their names.
    #[must_use]
    pub fn latency_buckets(mut self, bounds: impl Into<Vec<f64>>) -> Self {
        self.latency_buckets = Some(bounds.into());
        self
    }

    /// How many series a family may have. Further label sets share its one `overflow` series. Default 2000.
    #[must_use]
    pub fn max_series(mut self, series: usize) -> Self {
        self.max_series = Some(series);
        self
    }

    /// How many buckets of a native histogram are exposed at most. Its resolution is lowered to fit. Default 160.
    #[must_use]
    pub fn native_buckets(mut self, buckets: usize) -> Self {
        self.native_buckets = Some(buckets);
        self
    }

    /// Whether OpenMetrics has a `_created` sample for each counter and histogram: the start of the series, in seconds since
    /// the Unix epoch. Default false: a Prometheus without the feature flag `created-timestamp-zero-ingestion` stores each as
    /// a series of its own. Protobuf always carries these times, in a field.
    #[must_use]
    pub fn created(mut self, wanted: bool) -> Self {
        self.created = wanted;
        self
    }

    /// Adds a label to every series of the service, such as its region or tier. At most 16, with values of at most 256 bytes.
    ///
    /// A name that a built-in family uses is an error. A metric of your own that has a label of this name keeps its value.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Which ops endpoints exist, and how they are served. By default the scrape and the health checks.
    #[cfg(feature = "ops")]
    #[must_use]
    pub fn ops(mut self, settings: ops::OpsSettings) -> Self {
        self.ops = settings;
        self
    }

    /// Whether the sizes of bodies are recorded, in `http_request_size_bytes` and `http_response_size_bytes`. Default true.
    /// Recording a request costs less without them.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn body_sizes(mut self, wanted: bool) -> Self {
        self.requests.families.sizes = wanted;
        self
    }

    /// The budget for all bodies that wait for their clients, in bytes: see [`AnswerMemory`](memory::AnswerMemory). Default
    /// 256 MiB.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn answer_memory(mut self, bytes: usize) -> Self {
        self.requests.answer_memory = bytes;
        self
    }

    /// Whether the queries of each request and their time are recorded, in `http_request_db_queries` and
    /// `http_request_db_seconds`. Default true. Recording a request costs less without them.
    #[cfg(all(feature = "http", feature = "database"))]
    #[must_use]
    pub fn database_tally(mut self, wanted: bool) -> Self {
        self.requests.families.database = wanted;
        self
    }

    /// How many statements are kept by shape. Default 1000, at least 1.
    ///
    /// Queries of further statements are counted in the row `(other)` of the statements, and are not suspected of N+1. A
    /// connection remembers up to four times as many texts, of 25 bytes each.
    #[cfg(feature = "database")]
    #[must_use]
    pub fn statements(mut self, capacity: usize) -> Self {
        self.database.statements = capacity;
        self
    }

    /// How long a connection may be held before the log and `GET /ops/pool` report it as a leak, with its endpoint or job
    /// and the call that took it. Each hold is reported once. Default one minute; zero reports none.
    ///
    /// If a function of yours takes connections for its callers, give it `#[track_caller]`. Otherwise that function is
    /// reported as the call.
    ///
    /// ```
    /// use std::time::Duration;
    /// use actix_vitals::Vitals;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let _vitals = Vitals::builder().leak_threshold(Duration::from_secs(10)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "database")]
    #[must_use]
    pub fn leak_threshold(mut self, threshold: Duration) -> Self {
        self.database.leak_threshold = threshold;
        self
    }

    /// Whether the database is asked for the plans of the costliest statements, for `GET /ops/statements/{id}`. Default true.
    ///
    /// Each pool gets a thread, which opens one further connection when there is something to ask, and closes it after half
    /// a minute without a question. It runs at most one question a second, in read-only transactions with timeouts of half
    /// a second, and executes no statement of the service. Only texts whose values are all placeholders are explained.
    ///
    /// ```
    /// use actix_vitals::Vitals;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let _vitals = Vitals::builder().plans(false).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "database")]
    #[must_use]
    pub fn plans(mut self, wanted: bool) -> Self {
        self.no_plans = !wanted;
        self
    }

    /// How often a request or job must run statements of the same shape to count as an N+1 suspicion. Default 10; 0 turns
    /// the detection off.
    #[cfg(feature = "database")]
    #[must_use]
    pub fn n_plus_one(mut self, threshold: u32) -> Self {
        self.database.suspicions.n_plus_one = threshold;
        self
    }

    /// How long a statement may take before it is slow: the log names it, with its endpoint and its line of code. Default
    /// half a second; zero turns this off.
    #[cfg(feature = "database")]
    #[must_use]
    pub fn slow_query(mut self, threshold: Duration) -> Self {
        self.database.suspicions.slow_query = threshold;
        self
    }

    /// Whether the line of code that ran a suspicious statement is looked up: a slow statement, or one that a request repeats.
    /// Default true.
    ///
    /// The stack is captured at most once an hour for each statement and endpoint, in about 40 microseconds. Another thread
    /// finds the line in it. For the first one it takes up to half a second, and memory that it frees ten seconds after the
    /// last one. In a program without debug lines (`debug = "line-tables-only"` in its profile), only functions are known.
    ///
    /// ```
    /// use std::time::Duration;
    /// use actix_vitals::Vitals;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let _vitals = Vitals::builder()
    ///     .slow_query(Duration::from_secs(1))
    ///     .code_locations(true)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "database")]
    #[must_use]
    pub fn code_locations(mut self, wanted: bool) -> Self {
        self.database.suspicions.code_locations = wanted;
        self
    }

    /// Pushes all metrics, and the traces of kept requests, to an OTLP receiver, from [`build`](Self::build) on. End it with
    /// [`Vitals::finish_push`](crate::Vitals::finish_push).
    #[cfg(feature = "otlp-plain")]
    #[must_use]
    pub fn otlp(mut self, settings: OtlpSettings) -> Self {
        self.otlp = Some(settings);
        self
    }

    /// Exposes jemalloc's statistics. Only for a process with jemalloc as its global allocator.
    #[cfg(feature = "jemalloc")]
    #[must_use]
    pub fn jemalloc(mut self) -> Self {
        self.jemalloc = true;
        self
    }

    /// Whether the bytes that are allocated for each request are recorded, in `http_request_allocated_bytes`. Default false:
    /// each poll of a request then reads a counter of jemalloc twice. Only for a process with jemalloc as its global
    /// allocator; otherwise every value is 0.
    #[cfg(all(feature = "http", feature = "jemalloc"))]
    #[must_use]
    pub fn allocated_bytes(mut self, wanted: bool) -> Self {
        self.requests.families.allocated = wanted;
        self
    }

    /// Declares every family and sets up the recorders.
    ///
    /// # Errors
    ///
    /// Fails if the latency buckets are not ascending or not finite, if there are too many labels, if a label is invalid, too
    /// long or used by a family, if jemalloc was built without statistics, or if a certificate of the push cannot be used.
    pub fn build(self) -> Result<Vitals, BuildError> {
        let (vitals, ()) = self.build_with(|_| ())?;
        Ok(vitals)
    }

    /// Does what [`build`](Self::build) does, and declares metrics of your own: returns the monitoring, and what `declare`
    /// returns.
    ///
    /// Your families have all that the built-in ones have: every format, native histograms, a budget of series, a unit and a
    /// help text. A histogram takes its exemplars from the request that the code works for, if its trace is sampled.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use actix_vitals::{
    ///     LATENCY_BUCKETS, Vitals, label_set,
    ///     registry::{Counter, Descriptor, Histogram, LabelSet, LabelledFamily, RegistryBuilder, Unit},
    /// };
    ///
    /// label_set! {
    ///     /// The labels of an order.
    ///     struct OrderLabels {
    ///         kind: &'static str,
    ///         country: &'static str,
    ///     }
    /// }
    ///
    /// struct ShopMetrics {
    ///     orders: LabelledFamily<Counter, OrderLabels>,
    ///     payment: Arc<Histogram>,
    /// }
    ///
    /// impl ShopMetrics {
    ///     fn declare(registry: &mut RegistryBuilder) -> Self {
    ///         let payment = Descriptor::new("shop_payment_seconds", "Time to pay an order.", []);
    ///         Self {
    ///             orders: registry.counter(
    ///                 OrderLabels::descriptor("shop_orders_total", "Orders that were taken.").max_series(500),
    ///             ),
    ///             payment: registry.histogram(payment.unit(Unit::Seconds), &LATENCY_BUCKETS).get(),
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (vitals, metrics) = Vitals::builder().build_with(ShopMetrics::declare)?;
    /// metrics.orders.series(&OrderLabels { kind: "book", country: "eu" }).inc();
    /// metrics.payment.observe(0.25);
    /// assert_eq!(vitals.value("shop_orders_total", &[("kind", "book")]), Some(1.0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails for the reasons of [`build`](Self::build), and if a family of yours is not valid or its name is taken.
    pub fn build_with<T>(
        self,
        declare: impl FnOnce(&mut RegistryBuilder) -> T,
    ) -> Result<(Vitals, T), BuildError> {
        let mut registry = self.registry()?;
        clock::prepare();
        #[cfg(feature = "http")]
        let ops_endpoints =
            OpsEndpoints::new(self.requests.ops_endpoints.iter().map(String::as_str));
        #[cfg(feature = "http")]
        let http = http::HttpFamilies::declare(
            &mut registry,
            self.naming,
            http::Renaming::new(self.requests.rename.clone(), ops_endpoints.clone()),
            self.requests
                .families
                .with_queries(cfg!(feature = "database")),
            self.buckets_or(self.naming.http_buckets()),
        );
        #[cfg(feature = "http")]
        let connections = http::ConnectionFamilies::declare(&mut registry);
        #[cfg(feature = "http")]
        let memory = memory::AnswerMemory::declare(&mut registry, self.requests.answer_memory);
        #[cfg(feature = "database")]
        let database = self.declare_database(&mut registry);
        #[cfg(feature = "http")]
        let runtime = runtime::Runtime::declare(&mut registry, self.buckets_or(&LATENCY_BUCKETS));
        let panics = panics::Panics::declare(&mut registry);
        let jobs = jobs::JobFamilies::declare(&mut registry, cfg!(feature = "database"));
        #[cfg(feature = "otlp-plain")]
        let push = (self.otlp).map(|otlp| (otlp, PushFamilies::declare(&mut registry)));
        registry.current_span(context::current_span);
        let declared = declare(&mut registry);
        let registry = registry.build()?;

        #[cfg(feature = "database")]
        register_database(&registry, &database)?;
        registry.register(process::Process::new())?;
        #[cfg(feature = "http")]
        registry.register(runtime.clone())?;
        #[cfg(feature = "http")]
        registry.register(memory.clone())?;
        #[cfg(feature = "jemalloc")]
        if self.jemalloc {
            register_allocator(&registry)?;
        }

        #[cfg(feature = "database")]
        let repetitions = Some(Arc::new(RepetitionDetector::new(
            Arc::new(database.statements().clone()),
            database.statements().suspicions().clone(),
        )));
        #[cfg(not(feature = "database"))]
        let repetitions = None;
        let jobs = Arc::new(jobs::Jobs::new(jobs, repetitions.clone()));
        #[cfg(feature = "http")]
        let requests = Requests {
            recorder: Arc::new(http::RequestRecorder::new(
                http,
                repetitions,
                ops_endpoints.clone(),
                self.requests,
            )),
            connections,
            runtime,
            memory,
        };
        #[cfg(feature = "ops")]
        let ops = ops::Ops::new(
            &registry,
            self.ops,
            watched(
                &requests,
                ops_endpoints,
                #[cfg(feature = "database")]
                &database,
            ),
        );
        check_labels(&self.labels, &registry)?;
        #[cfg_attr(
            not(feature = "otlp-plain"),
            expect(unused_mut, reason = "a push is started last")
        )]
        let mut inner = VitalsInner {
            registry,
            panics,
            jobs,
            #[cfg(feature = "http")]
            requests,
            #[cfg(feature = "database")]
            database,
            #[cfg(feature = "ops")]
            ops,
            #[cfg(feature = "otlp-plain")]
            push: None,
        };
        // Last: from here on, what is pushed is complete.
        #[cfg(feature = "otlp-plain")]
        inner.start_push(push)?;
        let inner = Arc::new(inner);
        Ok((Vitals { inner }, declared))
    }

    #[cfg(feature = "database")]
    fn declare_database(&self, registry: &mut RegistryBuilder) -> database::Database {
        let buckets = self.buckets_or(self.naming.database_buckets());
        let families = database::DatabaseFamilies::declare(registry, self.naming, buckets);
        database::Database::new(families, self.database).with_plans(!self.no_plans)
    }

    /// The latency buckets of the settings, or else these.
    #[cfg(any(feature = "http", feature = "database"))]
    fn buckets_or<'a>(&'a self, default: &'a [f64]) -> &'a [f64] {
        self.latency_buckets.as_deref().unwrap_or(default)
    }

    /// The registry with its settings, before any family is declared.
    fn registry(&self) -> Result<RegistryBuilder, BuildError> {
        let mut registry = Registry::builder(since_epoch)
            .on_overflow(warn_of_overflow)
            .on_fault(warn_of_fault)
            .created(self.created);
        if let Some(series) = self.max_series {
            registry = registry.max_series(series);
        }
        if let Some(buckets) = self.native_buckets {
            registry = registry.native_buckets(buckets);
        }
        if self.labels.len() > MOST_LABELS {
            return Err(BuildError::TooManyLabels(self.labels.len()));
        }
        for (name, value) in &self.labels {
            if value.len() > LONGEST_LABEL {
                return Err(BuildError::LongLabel(name.clone()));
            }
            registry = registry.constant_label(name, value);
        }
        Ok(registry)
    }
}

/// Rejects labels of the service that a family has, whether the family is declared or read at the scrape.
///
/// The registry itself rejects only labels of declared families: an adopter's collector keeps its own labels.
fn check_labels(labels: &[(String, String)], registry: &Registry) -> Result<(), RegistryError> {
    let described = registry.describe().into_iter();
    let described = described.map(|family| (family.name, family.labels));
    for (family, names) in described {
        if let Some((label, _)) = labels.iter().find(|(name, _)| names.contains(name)) {
            let label = label.clone();
            return Err(RegistryError::DuplicateLabel { family, label });
        }
    }
    Ok(())
}

#[cfg(feature = "http")]
impl Builder {
    /// How long a single poll of a request may keep its worker's event loop busy. Longer polls are stalls: they are counted
    /// in `http_loop_stalls_total`, and logged while they last. Default 100 ms.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_vitals::Vitals;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let _vitals = Vitals::builder().stall_threshold(Duration::from_millis(50)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stall_threshold(mut self, threshold: Duration) -> Self {
        self.requests.stall_threshold = threshold;
        self
    }

    /// How many requests are kept with their timelines: the slow, the failed and the suspicious ones, and some that are
    /// chosen. Default 1000, at most 2500; 0 keeps none. A thousand take at most 3 MB.
    ///
    /// ```
    /// use actix_vitals::Vitals;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let vitals = Vitals::builder().keep_requests(200).build()?;
    /// assert_eq!(vitals.kept_requests().limit(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn keep_requests(mut self, most: usize) -> Self {
        self.requests.keep_requests = most;
        self
    }

    /// Renames endpoints. `rename` returns the name for a pattern, such as `/orders/{id}`; an empty name keeps the pattern.
    ///
    /// It is called once for each pattern, when its first series is created, and not for ops endpoints.
    #[must_use]
    pub fn rename_endpoints<F, N>(mut self, rename: F) -> Self
    where
        F: Fn(&str) -> N + Send + Sync + 'static,
        N: Into<String>,
    {
        self.requests.rename = Some(Arc::new(move |pattern| rename(pattern).into()));
        self
    }

    /// Adds endpoints of the service that are for operators as well, by their patterns, such as pages about its API. The live
    /// page leaves them out. The ops endpoints themselves need not be named.
    #[must_use]
    pub fn ops_endpoints<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let endpoints = endpoints.into_iter().map(Into::into);
        self.requests.ops_endpoints.extend(endpoints);
        self
    }

    /// Adds endpoints whose requests are not recorded, by their patterns: `/data/{item_id}`, `unmatched`, or `*` for all.
    ///
    /// The endpoint that answers decides, not the path. Only the in-progress gauge leaves out requests by their path, because
    /// the endpoint is not known before it answers.
    #[must_use]
    pub fn exclude<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.requests
            .exclude
            .extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// Whether answers have a `Server-Timing` header, which the developer tools of browsers show: the queries and their time,
    /// the wait for the pool, and the time until the head of the answer, in milliseconds. Default false, because every client
    /// sees it.
    #[must_use]
    pub fn server_timing(mut self, wanted: bool) -> Self {
        self.requests.server_timing = wanted;
        self
    }
}

/// The monitoring cannot be set up.
///
/// ```
/// use actix_vitals::{BuildError, Vitals};
///
/// let build = Vitals::builder().label("region", "x".repeat(300)).build();
/// assert!(matches!(build, Err(BuildError::LongLabel(name)) if name == "region"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The registry rejected a family: a bucket bound or a name is not valid, or a name is taken.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The service has too many labels.
    #[error("the service has {0} labels, and may have 16")]
    TooManyLabels(usize),
    /// The value of a label of the service is too long.
    #[error("the value of the label {0:?} is longer than 256 bytes")]
    LongLabel(String),
    /// The push cannot be set up: a certificate cannot be used, or the system has no thread for it.
    #[cfg(feature = "otlp-plain")]
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// jemalloc was built without statistics.
    #[cfg(feature = "jemalloc")]
    #[error("jemalloc has no statistics: {0}")]
    Jemalloc(String),
}

impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// The time since the Unix epoch, for the creation times of series.
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(feature = "database")]
fn register_database(
    registry: &Registry,
    database: &database::Database,
) -> Result<(), RegistryError> {
    registry.register(database.levels().clone())?;
    registry.register(database.fullness())
}

#[cfg(feature = "jemalloc")]
fn register_allocator(registry: &Registry) -> Result<(), BuildError> {
    let allocator = allocator::Allocator::new();
    let allocator = allocator.map_err(|error| BuildError::Jemalloc(error.to_string()))?;
    Ok(registry.register(allocator)?)
}

/// What the ops endpoints show.
#[cfg(feature = "ops")]
fn watched(
    requests: &Requests,
    endpoints: OpsEndpoints,
    #[cfg(feature = "database")] database: &database::Database,
) -> ops::Watched {
    ops::Watched {
        http: Arc::clone(&requests.recorder),
        endpoints,
        #[cfg(feature = "database")]
        database: Some(database.clone()),
        #[cfg(not(feature = "database"))]
        database: None,
        runtime: requests.runtime.clone(),
        memory: requests.memory.clone(),
    }
}

#[cfg(feature = "otlp-plain")]
impl VitalsInner {
    fn start_push(&mut self, push: Option<(OtlpSettings, PushFamilies)>) -> Result<(), OtlpError> {
        if let Some((settings, families)) = push {
            let (runtime, traces) = (runtime_context(), self.traces());
            let registry = &self.registry;
            let push =
                OtlpPush::start(&settings, registry, &families, since_epoch, runtime, traces);
            self.push = Some(push?);
        }
        Ok(())
    }

    /// The kept requests, with the texts of their statements. `None` if none are kept.
    #[cfg(feature = "http")]
    fn traces(&self) -> Option<TraceSource> {
        #[cfg(feature = "database")]
        let database = Some(self.database.clone());
        #[cfg(not(feature = "database"))]
        let database = None;
        let kept = self.requests.recorder.kept();
        (kept.limit() > 0).then(|| TraceSource::new(kept.clone(), database))
    }

    #[cfg(not(feature = "http"))]
    #[expect(clippy::unused_self, reason = "as with `http`")]
    fn traces(&self) -> Option<TraceSource> {
        None
    }
}

/// The runtime that this code runs in, if it does: a collector may use it.
#[cfg(feature = "otlp-plain")]
fn runtime_context() -> Option<vitals_recorder::collection::Enter> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(Arc::new(move |read| {
        let _context = runtime.enter();
        read();
    }))
}

fn warn_of_overflow(family: &str) {
    tracing::warn!(
        family,
        "series budget used up: further label sets are counted in the `overflow` series, and in vitals_series_overflow_total"
    );
}

fn warn_of_fault(collector: &str, fault: &Fault) {
    let kind = fault.kind();
    if let Some(family) = fault.family() {
        tracing::warn!(collector, family, "a family of metrics {kind}");
    } else {
        // The text comes from the collector, so it is limited like the message of a panic.
        let detail = fault.detail().map(str::to_owned);
        let detail = detail.map(|detail| panics::message(&detail));
        tracing::warn!(collector, detail, "a collector of metrics {kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_that_returns_an_io_error_passes_it_on() {
        fn main() -> io::Result<Vitals> {
            let vitals = Vitals::builder().latency_buckets([2.0, 1.0]).build()?;
            Ok(vitals)
        }
        let error = main().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let inner = error.get_ref().map(ToString::to_string).unwrap();
        assert!(
            inner.contains("must be finite numbers of at least 0 in ascending order"),
            "{inner}"
        );
        let invalid = RegistryError::InvalidName("a-b".to_owned());
        assert_eq!(io::Error::from(invalid).kind(), io::ErrorKind::InvalidInput);
    }
}
