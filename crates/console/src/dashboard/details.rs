//! Rows of the page's tables of statements and of single requests. The recorders keep them; nothing is measured here.

use std::{
    num::NonZeroU32,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use vitals_recorder::{
    database::{Order, StatementReport, Statements},
    http::{NotableRequest, NotableRequests},
};

/// How many statements the page shows.
const STATEMENTS: usize = 50;

/// The sources of the rows.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    statements: Option<Statements>,
    requests: NotableRequests,
}

impl Details {
    /// Without `statements`, the page says that none are recorded.
    pub(crate) fn new(statements: Option<Statements>, requests: NotableRequests) -> Self {
        Self {
            statements,
            requests,
        }
    }

    /// Reads the current rows.
    pub(super) fn read(&self) -> DetailRows {
        let requests = |list: Vec<NotableRequest>| list.into_iter().map(RequestRow::from).collect();
        let statements = self.statements.as_ref().map(|statements| {
            let reports = statements.report(Order::Total, STATEMENTS);
            reports.into_iter().map(StatementRow::from).collect()
        });
        DetailRows {
            statements,
            slowest: requests(self.requests.slowest()),
            errors: requests(self.requests.failed()),
        }
    }
}

/// Rows that do not come from the registry.
#[derive(Debug, Default, Serialize)]
pub(super) struct DetailRows {
    /// `None` if statements are not recorded.
    pub(super) statements: Option<Vec<StatementRow>>,
    pub(super) slowest: Vec<RequestRow>,
    pub(super) errors: Vec<RequestRow>,
}

/// A statement's shape and its cost. Times are in seconds.
#[derive(Debug, Serialize)]
pub(super) struct StatementRow {
    /// The number of the statement; `None` for those that are not kept.
    id: Option<NonZeroU32>,
    shape: String,
    /// `None` outside of any pool.
    pool: Option<String>,
    calls: u64,
    errors: u64,
    seconds: f64,
    mean: f64,
    p95: f64,
    endpoints: Vec<String>,
}

impl From<StatementReport> for StatementRow {
    fn from(report: StatementReport) -> Self {
        Self {
            id: report.number,
            shape: report.statement,
            pool: report.pool,
            calls: report.calls,
            errors: report.errors,
            seconds: report.total_seconds,
            mean: report.mean_seconds,
            p95: report.p95_seconds,
            endpoints: report.endpoints,
        }
    }
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
