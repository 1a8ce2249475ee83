//! The families that the HTTP recorder fills, each with its help text: nothing is recorded here.

use crate::registry::{Counter, Descriptor, Family, Gauge, Histogram, RegistryBuilder, Unit};

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

/// Upper bounds of the stream durations' classic buckets, in seconds: a stream lives for minutes, not milliseconds.
const STREAM_BUCKETS: [f64; 8] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0];

/// Upper bounds of the classic buckets of the queries of a request.
const QUERY_BUCKETS: [f64; 11] = [
    0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
];

/// The HTTP families of one registry.
#[derive(Clone, Debug)]
pub(crate) struct Families {
    pub(super) in_progress: Family<Gauge, 0>,
    pub(super) requests: Family<Counter, 3>,
    pub(super) duration: Family<Histogram, 3>,
    pub(super) request_size: Family<Histogram, 2>,
    pub(super) response_size: Family<Histogram, 2>,
    pub(super) aborted: Family<Counter, 3>,
    pub(super) panics: Family<Counter, 1>,
    pub(super) streams_active: Family<Gauge, 1>,
    pub(super) stream_duration: Family<Histogram, 1>,
    pub(super) database_queries: Family<Histogram, 2>,
    pub(super) database_seconds: Family<Histogram, 2>,
    pub(super) n_plus_one: Family<Counter, 2>,
}

impl Families {
    /// Declares the HTTP families, latencies with the given classic buckets (upper bounds in seconds).
    pub(crate) fn declare(registry: &mut RegistryBuilder, latency_buckets: &[f64]) -> Self {
        const ROUTE: [&str; 2] = ["method", "endpoint"];
        const OUTCOME: [&str; 3] = ["method", "endpoint", "http_status"];
        Self {
            in_progress: registry.gauge(Descriptor::new(
                "inprogress_requests",
                "Requests being served now: from the parsed head to the last byte of the answer.",
                [],
            )),
            requests: registry.counter(Descriptor::new(
                "http_requests_total",
                "Requests answered, each counted once; status 499 is a client that left before the answer's head.",
                OUTCOME,
            )),
            duration: registry.histogram(
                Descriptor::new(
                    "http_request_duration_seconds",
                    "Time from the parsed head of a request to the last byte of its answer; unbounded streams are left out.",
                    OUTCOME,
                )
                .unit(Unit::Seconds),
                latency_buckets,
            ),
            request_size: registry.histogram(
                Descriptor::new(
                    "http_request_size_bytes",
                    "Bytes of each request's body that the service read.",
                    ROUTE,
                )
                .unit(Unit::Bytes),
                &SIZE_BUCKETS,
            ),
            response_size: registry.histogram(
                Descriptor::new(
                    "http_response_size_bytes",
                    "Bytes of each answer's body that were handed to the connection.",
                    ROUTE,
                )
                .unit(Unit::Bytes),
                &SIZE_BUCKETS,
            ),
            aborted: registry.counter(Descriptor::new(
                "http_requests_aborted_total",
                "Requests that ended early: before_head when the client left before an answer, body when the answer's body was cut off.",
                ["method", "endpoint", "phase"],
            )),
            panics: registry.counter(Descriptor::new(
                "http_request_panics_total",
                "Panics caught while a request was served.",
                ["endpoint"],
            )),
            streams_active: registry.gauge(Descriptor::new(
                "http_streams_active",
                "Unbounded answers open now: server-sent events, WebSockets and responses marked as a stream.",
                ["endpoint"],
            )),
            stream_duration: registry.histogram(
                Descriptor::new(
                    "http_stream_duration_seconds",
                    "How long each unbounded answer stayed open.",
                    ["endpoint"],
                )
                .unit(Unit::Seconds),
                &STREAM_BUCKETS,
            ),
            database_queries: registry.histogram(
                Descriptor::new(
                    "http_request_db_queries",
                    "Queries that each request ran, from none on; what is counted is that of db_queries_total.",
                    ROUTE,
                ),
                &QUERY_BUCKETS,
            ),
            database_seconds: registry.histogram(
                Descriptor::new(
                    "http_request_db_seconds",
                    "Time that each request's queries and the control of its transactions took, added up; the wait for a connection is not in it.",
                    ROUTE,
                )
                .unit(Unit::Seconds),
                latency_buckets,
            ),
            n_plus_one: registry.counter(Descriptor::new(
                "http_n_plus_one_suspected_total",
                "Requests that ran one and the same statement, but for its values, so often that it may stand in a loop; the log names the statement.",
                ROUTE,
            )),
        }
    }
}
