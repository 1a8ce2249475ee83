//! The families of HTTP requests, with their help texts and labels.

use vitals_registry::{
    Counter, Descriptor, Family, Gauge, GaugeWriter, Histogram, RegistryBuilder, Resolved, Unit,
};

use crate::{http::series::renaming::Renaming, naming::Naming, suspicions::Suspicion};

/// Upper bounds of the size histograms' classic buckets: powers of four from 64 bytes to 16 MiB.
const SIZE_BUCKETS: [f64; 10] = [
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// Upper bounds of the stream durations' classic buckets, in seconds. Streams last minutes, not milliseconds.
const STREAM_BUCKETS: [f64; 8] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0];

/// Upper bounds of the classic buckets of the queries of a request.
const QUERY_BUCKETS: [f64; 11] = [
    0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
];

/// Upper bounds of the classic buckets of allocated bytes.
const ALLOCATED_BUCKETS: [f64; 8] = [
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    16_777_216.0,
    268_435_456.0,
];

/// Which of the optional families are recorded.
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Copy, Debug)]
pub struct OptionalFamilies {
    /// The sizes of bodies.
    pub sizes: bool,
    /// The queries of each request and their time.
    pub database: bool,
    /// Suspected N+1 loops.
    pub n_plus_one: bool,
    /// The bytes that were allocated for each request.
    pub allocated: bool,
}

impl OptionalFamilies {
    /// Leaves out the families of queries if no queries are `recorded`.
    #[must_use]
    pub fn with_queries(self, recorded: bool) -> Self {
        Self {
            database: self.database && recorded,
            n_plus_one: self.n_plus_one && recorded,
            ..self
        }
    }
}

impl Default for OptionalFamilies {
    /// All of them but the allocated bytes, which need jemalloc.
    fn default() -> Self {
        Self {
            sizes: true,
            database: true,
            n_plus_one: true,
            allocated: false,
        }
    }
}

/// The HTTP families of one registry.
///
/// Their labels are the same for both namings. A label that a naming does not have is empty.
#[derive(Clone, Debug)]
pub struct HttpFamilies {
    /// The names of the families and their labels.
    pub naming: Naming,
    pub(in crate::http) renaming: Renaming,
    /// By method and scheme.
    pub in_progress: Family<Gauge, 2>,
    /// By method, endpoint, status, scheme and error.
    pub requests: Family<Counter, 5>,
    /// By method, endpoint, status, scheme and error.
    pub duration: Family<Histogram, 5>,
    /// None if they are not recorded.
    pub(in crate::http) sizes: Option<SizeFamilies>,
    /// By method, endpoint and phase.
    pub aborted: Family<Counter, 3>,
    /// By endpoint.
    pub panics: Family<Counter, 1>,
    /// By endpoint.
    pub streams_active: Family<Gauge, 1>,
    /// By endpoint.
    pub stream_duration: Family<Histogram, 1>,
    /// By method and endpoint.
    pub loop_seconds: Family<Histogram, 2>,
    /// By endpoint.
    pub loop_stalls: Family<Counter, 1>,
    /// By method and endpoint. None if it is not recorded.
    pub(in crate::http) allocated: Option<Family<Histogram, 2>>,
    /// None if it is not recorded.
    pub database: Option<RequestDatabaseFamilies>,
    /// By method and endpoint. None if no queries are recorded.
    pub n_plus_one: Option<Family<Counter, 2>>,
    /// By method, endpoint and kind. None if no queries are recorded.
    pub(in crate::http) repeated: Option<Family<Counter, 3>>,
}

impl HttpFamilies {
    /// Declares the families. `latency_buckets` are the classic buckets of latencies: upper bounds in seconds.
    pub fn declare(
        registry: &mut RegistryBuilder,
        naming: Naming,
        renaming: Renaming,
        wanted: OptionalFamilies,
        latency_buckets: &[f64],
    ) -> Self {
        let scheme = naming.only("url.scheme");
        let [method, endpoint, http_status] = naming.labels(["method", "endpoint", "http_status"]);
        let route = [method, endpoint];
        let outcome = [
            method,
            endpoint,
            http_status,
            scheme,
            naming.only("error.type"),
        ];
        let named = |name: &'static str, help: &str, labels| {
            Descriptor::new(naming.family(name), help, labels)
        };
        let families = Self {
            naming,
            renaming,
            in_progress: registry.gauge(Descriptor::new(
                naming.family("inprogress_requests"),
                "Requests being served now, each from its parsed head to the last byte of its answer.",
                [naming.only("http.request.method"), scheme],
            )),
            requests: registry.counter(named(
                "http_requests_total",
                "Requests answered, each counted once; status 499 means that the client left before the answer's head.",
                outcome,
            )),
            duration: registry.histogram(
                named(
                    "http_request_duration_seconds",
                    "Time from the parsed head of a request to the last byte of its answer, without unbounded streams.",
                    outcome,
                )
                .unit(Unit::Seconds),
                latency_buckets,
            ),
            sizes: (wanted.sizes).then(|| SizeFamilies::declare(registry, naming)),
            aborted: registry.counter(Descriptor::new(
                "http_requests_aborted_total",
                "Requests that ended early: before_head if the client left before an answer, body if the answer's body was cut off.",
                [method, endpoint, "phase"],
            )),
            panics: registry.counter(Descriptor::new(
                "http_request_panics_total",
                "Panics caught while a request was served.",
                [endpoint],
            )),
            streams_active: registry.gauge(Descriptor::new(
                "http_streams_active",
                "Unbounded answers open now: server-sent events, WebSockets and responses marked as a stream.",
                [endpoint],
            )),
            stream_duration: registry.histogram(
                Descriptor::new(
                    "http_stream_duration_seconds",
                    "How long each unbounded answer stayed open.",
                    [endpoint],
                )
                .unit(Unit::Seconds),
                &STREAM_BUCKETS,
            ),
            loop_seconds: registry.histogram(
                Descriptor::new(
                    "http_request_loop_seconds",
                    "Time that each request kept its worker's event loop busy: the sum of its polls, with those of its answer's body.",
                    route,
                )
                .unit(Unit::Seconds),
                latency_buckets,
            ),
            loop_stalls: registry.counter(Descriptor::new(
                "http_loop_stalls_total",
                "Single polls of requests that kept an event loop busy for longer than --stall-threshold; the log names each.",
                [endpoint],
            )),
            allocated: wanted.allocated.then(|| {
                registry.histogram(
                    Descriptor::new(
                        "http_request_allocated_bytes",
                        "Bytes that were allocated for each request, on all threads that worked for it; what was freed again counts as well.",
                        route,
                    )
                    .unit(Unit::Bytes),
                    &ALLOCATED_BUCKETS,
                )
            }),
            database: (wanted.database)
                .then(|| RequestDatabaseFamilies::declare(registry, route, latency_buckets)),
            n_plus_one: (wanted.n_plus_one).then(|| registry.counter(loops(route))),
            repeated: (wanted.n_plus_one).then(|| registry.counter(repetitions(method, endpoint))),
        };
        if naming == Naming::Vitals {
            // The gauge has no label in this naming: its only series exists from the start.
            families.in_progress.series(["", ""]);
        }
        families
    }

    /// Counts a request that ended early.
    pub(in crate::http) fn count_abort(&self, method: &'static str, endpoint: &str, phase: &str) {
        let (method, endpoint) = (self.naming.method(method), self.naming.endpoint(endpoint));
        self.aborted.series([method, endpoint, phase]).inc();
    }

    /// Counts a panic.
    pub(in crate::http) fn count_panic(&self, endpoint: &str) {
        self.panics.series([self.naming.endpoint(endpoint)]).inc();
    }

    /// Counts a poll that kept an event loop busy for too long.
    pub(in crate::http) fn count_stall(&self, endpoint: &str) {
        (self.loop_stalls)
            .series([self.naming.endpoint(endpoint)])
            .inc();
    }

    /// Counts a request that is suspected of an N+1 loop.
    pub(in crate::http) fn count_n_plus_one(&self, method: &'static str, endpoint: &str) {
        let (method, endpoint) = (self.naming.method(method), self.naming.endpoint(endpoint));
        if let Some(family) = &self.n_plus_one {
            family.series([method, endpoint]).inc();
        }
    }

    /// Counts a request that is suspected of a kind of repetition.
    pub(in crate::http) fn count_repetition(
        &self,
        method: &'static str,
        endpoint: &str,
        kind: Suspicion,
    ) {
        let (method, endpoint) = (self.naming.method(method), self.naming.endpoint(endpoint));
        if let Some(family) = &self.repeated {
            family.series([method, endpoint, kind.label()]).inc();
        }
    }

    /// Returns a writer of the gauge for one method, or for all methods if the gauge has no such label.
    pub(in crate::http) fn in_progress(
        &self,
        method: &'static str,
        scheme: &'static str,
    ) -> GaugeWriter {
        let method = self.naming.only(self.naming.method(method));
        match (self.in_progress).try_series([method, self.naming.only(scheme)]) {
            Resolved::Series(gauge) => gauge.writer(),
            Resolved::Overflow(gauge) => gauge.shared_writer(),
        }
    }
}

/// The sizes of bodies, by method, endpoint, status, scheme and error.
#[derive(Clone, Debug)]
pub(in crate::http) struct SizeFamilies {
    pub(in crate::http) request: Family<Histogram, 5>,
    pub(in crate::http) response: Family<Histogram, 5>,
}

impl SizeFamilies {
    fn declare(registry: &mut RegistryBuilder, naming: Naming) -> Self {
        let [method, endpoint] = naming.labels(["method", "endpoint"]);
        let status = naming.only("http.response.status_code");
        let [scheme, error] = ["url.scheme", "error.type"].map(|label| naming.only(label));
        let labels = [method, endpoint, status, scheme, error];
        let mut family = |name: &'static str, help: &str| {
            let descriptor = Descriptor::new(naming.family(name), help, labels);
            registry.histogram(descriptor.unit(Unit::Bytes), &SIZE_BUCKETS)
        };
        Self {
            request: family(
                "http_request_size_bytes",
                "Bytes of each request's body that the service read.",
            ),
            response: family(
                "http_response_size_bytes",
                "Bytes of each answer's body that were handed to the connection.",
            ),
        }
    }
}

/// The queries of each request, by method and endpoint.
#[derive(Clone, Debug)]
pub struct RequestDatabaseFamilies {
    /// The number of queries.
    pub queries: Family<Histogram, 2>,
    /// The sum of their times.
    pub seconds: Family<Histogram, 2>,
}

impl RequestDatabaseFamilies {
    fn declare(registry: &mut RegistryBuilder, route: [&str; 2], latency_buckets: &[f64]) -> Self {
        Self {
            queries: registry.histogram(
                Descriptor::new(
                    "http_request_db_queries",
                    "Queries of each request (0 included), counted as in db_queries_total.",
                    route,
                ),
                &QUERY_BUCKETS,
            ),
            seconds: registry.histogram(
                Descriptor::new(
                    "http_request_db_seconds",
                    "Sum of the times of each request's queries and transaction control, without waits for a connection.",
                    route,
                )
                .unit(Unit::Seconds),
                latency_buckets,
            ),
        }
    }
}

fn loops(route: [&str; 2]) -> Descriptor<2> {
    let help = "Requests that ran one statement, with any values, so often that it may be in a loop; the log names the statement.";
    Descriptor::new("http_n_plus_one_suspected_total", help, route)
}

fn repetitions(method: &str, endpoint: &str) -> Descriptor<3> {
    let help = "Requests with repeated queries, by kind: n_plus_one with different values, identical with the same values, serial for several statements that read the same rows.";
    let labels = [method, endpoint, "kind"];
    Descriptor::new("http_repeated_queries_total", help, labels)
}
