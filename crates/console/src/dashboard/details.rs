//! Rows of the page's tables of single requests. The recorders keep them; nothing is measured here.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use vitals_recorder::http::{NotableRequest, NotableRequests};

/// The sources of the rows.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    requests: NotableRequests,
}

impl Details {
    pub(crate) fn new(requests: NotableRequests) -> Self {
        Self { requests }
    }

    /// Reads the current rows.
    pub(super) fn read(&self) -> DetailRows {
        let requests = |list: Vec<NotableRequest>| list.into_iter().map(RequestRow::from).collect();
        DetailRows {
            slowest: requests(self.requests.slowest()),
            errors: requests(self.requests.failed()),
        }
    }
}

/// Rows that do not come from the registry.
#[derive(Debug, Default, Serialize)]
pub(super) struct DetailRows {
    pub(super) slowest: Vec<RequestRow>,
    pub(super) errors: Vec<RequestRow>,
}

/// One request. Times are in seconds; `time` is since the Unix epoch.
#[derive(Debug, Serialize)]
pub(super) struct RequestRow {
    time: f64,
    /// Method and route pattern: the page's name of an endpoint.
    name: String,
    status: u16,
    seconds: f64,
    db_seconds: f64,
    queries: u64,
    /// 32 hexadecimal digits.
    trace_id: Option<String>,
    /// The id of its timeline, if that is kept.
    kept: Option<String>,
}

impl From<NotableRequest> for RequestRow {
    fn from(request: NotableRequest) -> Self {
        Self {
            time: since_epoch(request.at),
            name: format!("{} {}", request.method, request.endpoint),
            status: request.status,
            seconds: request.seconds,
            db_seconds: request.database_seconds,
            queries: request.queries,
            trace_id: request.trace_id.map(|id| format!("{id:032x}")),
            kept: request.kept.map(|id| id.to_string()),
        }
    }
}

fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
