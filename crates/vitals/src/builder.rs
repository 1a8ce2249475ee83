//! The builder of the monitoring: its settings, each with its default, and why it may be impossible to build.
//!
//! `assembly` puts the parts together by these settings.

mod assembly;

#[cfg(feature = "http")]
use std::sync::Arc;
#[cfg(any(feature = "http", feature = "database"))]
use std::time::Duration;
use std::{fmt, io};

#[cfg(feature = "ops")]
use vitals_console as ops;
#[cfg(feature = "otlp-plain")]
use vitals_otlp::{OtlpError, OtlpSettings};
#[cfg(feature = "database")]
use vitals_recorder::database;
#[cfg(feature = "http")]
use vitals_recorder::http;
use vitals_recorder::naming::Naming;
use vitals_registry::RegistryError;

use crate::handle::Vitals;

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

    /// Upper bounds of the latency histograms' classic buckets, in seconds, ascending. By default
    /// [`LATENCY_BUCKETS`](crate::LATENCY_BUCKETS), or those that OpenTelemetry's conventions recommend with their names.
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

    /// The budget for all bodies that wait for their clients, in bytes: see
    /// [`AnswerMemory`](crate::memory::AnswerMemory). Default 256 MiB.
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
}

#[cfg(feature = "http")]
impl Builder {
    /// How long a single poll of a request may keep its worker's event loop busy. Longer polls are stalls: they are counted
    /// in `http_loop_stalls_total`, and logged while they last. Default 100 ms; zero turns this off.
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
