//! The names of families and labels: those of this project, or those of OpenTelemetry's semantic conventions. The values
//! are the same in both.
//!
//! The recorders use our names and translate them here, when families and series are created. A family that the conventions
//! do not have keeps its name; its labels are renamed if the conventions have them. A name of the conventions has its dots,
//! and the suffixes of Prometheus: the unit, and `_total` for a counter. The registry shows it as it is to a scraper that
//! allows UTF-8, and with underscores for the dots to any other.
//!
//! - HTTP: <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>
//! - databases: <https://opentelemetry.io/docs/specs/semconv/database/database-metrics/>

/// The names that the exposition uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// The names of this project: `http_request_duration_seconds{method,endpoint,http_status}`.
    #[default]
    Vitals,
    /// The names of OpenTelemetry's semantic conventions, if they have one:
    /// `http_server_request_duration_seconds{http_request_method,http_route,http_response_status_code,url_scheme,error_type}`.
    ///
    /// A scraper that allows UTF-8 gets their dots: `{"http.server.request.duration_seconds", "http.route"="/orders"}`.
    OpenTelemetry,
}

/// Upper bounds of the latency histograms' classic buckets, in seconds.
pub const LATENCY_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The buckets that OpenTelemetry's conventions recommend for requests.
const OPENTELEMETRY_HTTP_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The buckets that OpenTelemetry's conventions recommend for databases.
const OPENTELEMETRY_DATABASE_BUCKETS: [f64; 9] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Our name, and that of the conventions.
type Pair = (&'static str, &'static str);

const FAMILIES: [Pair; 13] = [
    (
        "http_request_duration_seconds",
        "http.server.request.duration_seconds",
    ),
    (
        "http_request_size_bytes",
        "http.server.request.body.size_bytes",
    ),
    (
        "http_response_size_bytes",
        "http.server.response.body.size_bytes",
    ),
    ("inprogress_requests", "http.server.active_requests"),
    (
        "db_query_duration_seconds",
        "db.client.operation.duration_seconds",
    ),
    (
        "db_connection_open_seconds",
        "db.client.connection.create_time_seconds",
    ),
    (
        "db_pool_wait_seconds",
        "db.client.connection.wait_time_seconds",
    ),
    (
        "db_pool_hold_seconds",
        "db.client.connection.use_time_seconds",
    ),
    (
        "db_pool_timeouts_total",
        "db.client.connection.timeouts_total",
    ),
    ("db_pool_waiters", "db.client.connection.pending_requests"),
    ("db_pool_max_connections", "db.client.connection.max"),
    // A label distinguishes the two.
    (
        "db_pool_checked_out_connections",
        "db.client.connection.count",
    ),
    ("db_pool_idle_connections", "db.client.connection.count"),
];

const LABELS: [Pair; 6] = [
    ("method", "http.request.method"),
    ("endpoint", "http.route"),
    ("http_status", "http.response.status_code"),
    ("operation", "db.operation.name"),
    ("kind", "error.type"),
    ("pool", "db.client.connection.pool.name"),
];

const OPERATIONS: [Pair; 5] = [
    ("select", "SELECT"),
    ("insert", "INSERT"),
    ("update", "UPDATE"),
    ("delete", "DELETE"),
    ("other", "_OTHER"),
];

/// Returns the second name of the pair whose first is `name`, or `name` itself.
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

    /// A label's name or value that only the conventions have. With our names it is empty, which hides the label.
    pub fn only(self, theirs: &str) -> &str {
        match self {
            Self::Vitals => "",
            Self::OpenTelemetry => theirs,
        }
    }

    /// The label value of the method that we call `method`.
    pub fn method(self, method: &'static str) -> &'static str {
        match (self, method) {
            (Self::OpenTelemetry, "other") => "_OTHER",
            _ => method,
        }
    }

    /// The label value of the endpoint that we call `endpoint`. If no route matched, the conventions have no value.
    pub fn endpoint(self, endpoint: &str) -> &str {
        match (self, endpoint) {
            (Self::OpenTelemetry, "unmatched") => "",
            _ => endpoint,
        }
    }

    /// The label value of the operation that we call `operation`.
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

    /// The classic buckets of database operations, in seconds.
    pub fn database_buckets(self) -> &'static [f64] {
        match self {
            Self::Vitals => &LATENCY_BUCKETS,
            Self::OpenTelemetry => &OPENTELEMETRY_DATABASE_BUCKETS,
        }
    }
}
