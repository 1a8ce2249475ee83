//! What the families and their labels are called: by the names of this project, or by those of OpenTelemetry's semantic
//! conventions. What is counted, and how exactly, is the same by either.
//!
//! The recorders know our names, and ask here what to expose them as; nothing here is asked while a request is served. A
//! family that the conventions do not have keeps its name, with those of its labels renamed that they have. Their names
//! stand here as Prometheus writes them: with underscores for dots, and the unit at the end.
//!
//! - HTTP: <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>
//! - databases: <https://opentelemetry.io/docs/specs/semconv/database/database-metrics/>

/// Which names the exposition has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// Those of this project: `http_request_duration_seconds{method,endpoint,http_status}`.
    #[default]
    Vitals,
    /// Those of OpenTelemetry's semantic conventions, where they have one:
    /// `http_server_request_duration_seconds{http_request_method,http_route,http_response_status_code,url_scheme,error_type}`.
    OpenTelemetry,
}

/// Upper bounds of the latency histograms' classic buckets, in seconds.
pub const LATENCY_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Those that OpenTelemetry's conventions recommend for requests.
const OPENTELEMETRY_HTTP_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Those that they recommend for a database.
const OPENTELEMETRY_DATABASE_BUCKETS: [f64; 9] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// A name of ours, and that of the conventions.
type Pair = (&'static str, &'static str);

const FAMILIES: [Pair; 13] = [
    (
        "http_request_duration_seconds",
        "http_server_request_duration_seconds",
    ),
    (
        "http_request_size_bytes",
        "http_server_request_body_size_bytes",
    ),
    (
        "http_response_size_bytes",
        "http_server_response_body_size_bytes",
    ),
    ("inprogress_requests", "http_server_active_requests"),
    (
        "db_query_duration_seconds",
        "db_client_operation_duration_seconds",
    ),
    (
        "db_connection_open_seconds",
        "db_client_connection_create_time_seconds",
    ),
    (
        "db_pool_wait_seconds",
        "db_client_connection_wait_time_seconds",
    ),
    (
        "db_pool_hold_seconds",
        "db_client_connection_use_time_seconds",
    ),
    (
        "db_pool_timeouts_total",
        "db_client_connection_timeouts_total",
    ),
    ("db_pool_waiters", "db_client_connection_pending_requests"),
    ("db_pool_max_connections", "db_client_connection_max"),
    // Told apart by their state.
    (
        "db_pool_checked_out_connections",
        "db_client_connection_count",
    ),
    ("db_pool_idle_connections", "db_client_connection_count"),
];

const LABELS: [Pair; 6] = [
    ("method", "http_request_method"),
    ("endpoint", "http_route"),
    ("http_status", "http_response_status_code"),
    ("operation", "db_operation_name"),
    ("kind", "error_type"),
    ("pool", "db_client_connection_pool_name"),
];

const OPERATIONS: [Pair; 5] = [
    ("select", "SELECT"),
    ("insert", "INSERT"),
    ("update", "UPDATE"),
    ("delete", "DELETE"),
    ("other", "_OTHER"),
];

/// The second of the pair whose first is `name`, or `name` itself.
fn translate<'a>(pairs: &'static [Pair], name: &'a str) -> &'a str {
    let pair = pairs.iter().find(|(ours, _)| *ours == name);
    pair.map_or(name, |(_, theirs)| theirs)
}

impl Naming {
    /// The name of the family that we call `name`.
    pub fn family(self, name: &'static str) -> &'static str {
        match self {
            Self::Vitals => name,
            Self::OpenTelemetry => translate(&FAMILIES, name),
        }
    }

    /// The names of the labels that we call `names`.
    pub fn labels<const N: usize>(self, names: [&'static str; N]) -> [&'static str; N] {
        match self {
            Self::Vitals => names,
            Self::OpenTelemetry => names.map(|name| translate(&LABELS, name)),
        }
    }

    /// What only the conventions have, a label's name or its value: nothing by our names, which does not show the label.
    pub fn only(self, theirs: &str) -> &str {
        match self {
            Self::Vitals => "",
            Self::OpenTelemetry => theirs,
        }
    }

    /// The value for the method that we call `method`.
    pub fn method(self, method: &'static str) -> &'static str {
        match (self, method) {
            (Self::OpenTelemetry, "other") => "_OTHER",
            _ => method,
        }
    }

    /// The value for the endpoint that we call `endpoint`. Where no route matched, the conventions have no value.
    pub fn endpoint(self, endpoint: &str) -> &str {
        match (self, endpoint) {
            (Self::OpenTelemetry, "unmatched") => "",
            _ => endpoint,
        }
    }

    /// The value for the operation that we call `operation`.
    pub fn operation(self, operation: &'static str) -> &'static str {
        match self {
            Self::Vitals => operation,
            Self::OpenTelemetry => translate(&OPERATIONS, operation),
        }
    }

    /// The classic buckets of requests, in seconds.
    pub fn http_buckets(self) -> &'static [f64] {
        match self {
            Self::Vitals => &LATENCY_BUCKETS,
            Self::OpenTelemetry => &OPENTELEMETRY_HTTP_BUCKETS,
        }
    }

    /// The classic buckets of whatever the database does, in seconds.
    pub fn database_buckets(self) -> &'static [f64] {
        match self {
            Self::Vitals => &LATENCY_BUCKETS,
            Self::OpenTelemetry => &OPENTELEMETRY_DATABASE_BUCKETS,
        }
    }
}
