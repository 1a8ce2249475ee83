//! The list of promised families, each with its type and labels, and the series that Prometheus itself adds.
//!
//! It is separate from the registry so that a renamed metric fails a test and not a user's dashboard. All tests that need
//! the names of families use this list: those of the scrape, of the deployed rules and dashboards, and of the documents.

/// The type of a family, with what its sample names depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    /// Classic as `_bucket`, `_sum` and `_count`, native under its own name.
    Histogram,
}

impl Kind {
    /// The type in a `# TYPE` line.
    pub(crate) fn exposed(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

use Kind::{Counter, Gauge, Histogram};

/// A promised family.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    /// Whether it has no series until something rare happens.
    pub(crate) is_rare: bool,
    /// Whether series may lack the label `pool`: see `names` of the recorder's database.
    pub(crate) may_lack_pool: bool,
}

const fn promise(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Promise {
    Promise {
        name,
        kind,
        labels,
        is_rare: false,
        may_lack_pool: false,
    }
}

const fn rare(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Promise {
    Promise {
        is_rare: true,
        ..promise(name, kind, labels)
    }
}

/// Of queries or openings, which have the label `pool` where there are several pools.
const fn by_pool(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Promise {
    Promise {
        may_lack_pool: true,
        ..promise(name, kind, labels)
    }
}

const ROUTE: &[&str] = &["method", "endpoint"];
const OUTCOME: &[&str] = &["method", "endpoint", "http_status"];
const OPS: &[&str] = &["endpoint", "method", "status"];

/// Labels that Prometheus adds to every series that it scrapes.
pub(crate) const TARGET_LABELS: [&str; 2] = ["job", "instance"];

pub(crate) const PROMISED: &[Promise] = &[
    promise("http_requests_total", Counter, OUTCOME),
    promise("http_request_duration_seconds", Histogram, OUTCOME),
    promise("inprogress_requests", Gauge, &[]),
    promise("http_request_size_bytes", Histogram, ROUTE),
    promise("http_response_size_bytes", Histogram, ROUTE),
    rare(
        "http_requests_aborted_total",
        Counter,
        &["method", "endpoint", "phase"],
    ),
    rare("http_request_panics_total", Counter, &["endpoint"]),
    rare("http_streams_active", Gauge, &["endpoint"]),
    rare("http_stream_duration_seconds", Histogram, &["endpoint"]),
    promise("http_request_loop_seconds", Histogram, ROUTE),
    rare("http_loop_stalls_total", Counter, &["endpoint"]),
    rare("http_request_allocated_bytes", Histogram, ROUTE),
    promise("http_request_db_queries", Histogram, ROUTE),
    promise("http_request_db_seconds", Histogram, ROUTE),
    rare("http_n_plus_one_suspected_total", Counter, ROUTE),
    rare(
        "http_repeated_queries_total",
        Counter,
        &["method", "endpoint", "kind"],
    ),
    promise("http_connections_active", Gauge, &[]),
    promise("http_connections_total", Counter, &["outcome"]),
    promise("http_answer_memory_bytes", Gauge, &[]),
    promise("http_answer_memory_limit_bytes", Gauge, &[]),
    promise("http_answer_memory_refused_total", Counter, &[]),
    by_pool("db_queries_total", Counter, &["operation", "pool"]),
    by_pool(
        "db_query_duration_seconds",
        Histogram,
        &["operation", "pool"],
    ),
    by_pool(
        "db_query_errors_total",
        Counter,
        &["operation", "kind", "pool"],
    ),
    by_pool("db_transactions_total", Counter, &["outcome", "pool"]),
    by_pool(
        "db_transaction_duration_seconds",
        Histogram,
        &["outcome", "pool"],
    ),
    by_pool(
        "db_queries_unattributed_total",
        Counter,
        &["operation", "pool"],
    ),
    promise("db_statements", Gauge, &[]),
    promise("db_statement_locations_captured_total", Counter, &[]),
    promise("db_statements_evicted_total", Counter, &[]),
    promise("db_statement_plan_changes_total", Counter, &[]),
    promise("jobs_in_progress", Gauge, &["job_name"]),
    promise("job_runs_total", Counter, &["job_name", "outcome"]),
    promise("job_duration_seconds", Histogram, &["job_name"]),
    promise("job_db_queries", Histogram, &["job_name"]),
    promise("job_db_seconds", Histogram, &["job_name"]),
    promise("job_n_plus_one_suspected_total", Counter, &["job_name"]),
    promise("job_repeated_queries_total", Counter, &["job_name", "kind"]),
    promise("db_pool_checked_out_connections", Gauge, &["pool"]),
    promise("db_pool_idle_connections", Gauge, &["pool"]),
    promise("db_pool_waiters", Gauge, &["pool"]),
    promise("db_pool_max_connections", Gauge, &["pool"]),
    promise("db_pool_wait_seconds", Histogram, &["pool"]),
    promise("db_pool_hold_seconds", Histogram, &["pool"]),
    promise("db_pool_held_seconds_total", Counter, &["pool", "endpoint"]),
    promise("db_pool_timeouts_total", Counter, &["pool"]),
    promise("db_pool_rejected_total", Counter, &["pool", "reason"]),
    by_pool("db_connections_opened_total", Counter, &["pool"]),
    by_pool("db_connection_open_errors_total", Counter, &["pool"]),
    by_pool("db_connection_open_seconds", Histogram, &["pool"]),
    promise("process_cpu_seconds_total", Counter, &[]),
    promise("process_resident_memory_bytes", Gauge, &[]),
    promise("process_virtual_memory_bytes", Gauge, &[]),
    promise("process_virtual_memory_max_bytes", Gauge, &[]),
    promise("process_heap_bytes", Gauge, &[]),
    promise("process_open_fds", Gauge, &[]),
    promise("process_max_fds", Gauge, &[]),
    promise("process_start_time_seconds", Gauge, &[]),
    promise("process_threads", Gauge, &[]),
    promise("runtime_workers", Gauge, &[]),
    promise("runtime_worker_busy_seconds_total", Counter, &["worker"]),
    promise("runtime_worker_tasks", Gauge, &["worker"]),
    promise("runtime_event_loop_lag_seconds", Histogram, &[]),
    promise("allocator_allocated_bytes", Gauge, &[]),
    promise("allocator_active_bytes", Gauge, &[]),
    promise("allocator_resident_bytes", Gauge, &[]),
    promise("vitals_panics_total", Counter, &[]),
    promise(
        "vitals_build_info",
        Gauge,
        &["version", "revision", "rustc", "profile"],
    ),
    promise("vitals_series", Gauge, &["family"]),
    promise("vitals_series_overflow_total", Counter, &["family"]),
    rare("vitals_observations_dropped_total", Counter, &["family"]),
    promise("vitals_collector_errors_total", Counter, &["collector"]),
    // Only where metrics are pushed.
    rare("vitals_push_total", Counter, &["signal", "outcome"]),
    promise("ops_http_requests_total", Counter, OPS),
    promise("ops_http_requests_duration_seconds", Histogram, OPS),
];

/// Series that Prometheus itself adds.
const OF_PROMETHEUS: &[Promise] = &[
    promise("up", Gauge, &[]),
    promise("scrape_duration_seconds", Gauge, &[]),
    promise("scrape_samples_scraped", Gauge, &[]),
    promise("ALERTS", Gauge, &["alertname", "alertstate", "severity"]),
];

/// The promise of a sample name, and whether it is a classic part (`_bucket`, `_sum`, `_count`) of a histogram.
pub(crate) fn promise_of(sample: &str) -> Option<(&'static Promise, bool)> {
    let all = || PROMISED.iter().chain(OF_PROMETHEUS);
    if let Some(exact) = all().find(|promise| promise.name == sample) {
        return Some((exact, false));
    }
    let family = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| sample.strip_suffix(suffix))?;
    all()
        .find(|promise| promise.name == family && promise.kind == Histogram)
        .map(|promise| (promise, true))
}
