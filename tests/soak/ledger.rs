//! The records of the clients, and the counts of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::support::exposition::{Exposition, whole};

/// Method, endpoint and status of requests; or `connection`, an empty text, and the outcome of connections.
type Row = [String; 3];

/// Method, endpoint and possible statuses of requests whose client leaves: only the server knows the status. They are one
/// row.
const LEFT: [(&str, &str, &[&str]); 2] = [
    ("HEAD", "/data", &["200", "499"]),
    ("POST", "/data", &["400", "499"]),
];

/// Outcomes of connections that only the slow clients cause. The others depend on the HTTP libraries of the clients too.
const CERTAIN_OUTCOMES: [&str; 4] = [
    "body_timeout",
    "head_timeout",
    "headers_too_large",
    "malformed",
];

/// The endpoint of the stream, which has no duration.
const STREAM: &str = "/dashboard/stream";

/// The records of all clients.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    rows: Mutex<BTreeMap<Row, u64>>,
}

impl Ledger {
    /// Records an answered request.
    pub(crate) fn record(&self, method: &str, endpoint: &str, status: u16) {
        self.add([method, endpoint, &status.to_string()]);
    }

    /// Records a request whose client left: only the server knows its status.
    pub(crate) fn record_left(&self, method: &str, endpoint: &str) {
        self.record(method, endpoint, 499);
    }

    /// Records the outcome of a connection.
    pub(crate) fn record_connection(&self, outcome: &str) {
        self.add(["connection", "", outcome]);
    }

    fn add(&self, row: [&str; 3]) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        *rows.entry(folded(row)).or_default() += 1;
    }

    pub(crate) fn recorded(&self) -> BTreeMap<Row, u64> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.clone()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = self.recorded();
        let requests = recorded
            .iter()
            .filter(|([kind, ..], _)| kind != "connection");
        let total: u64 = requests.map(|(_, count)| count).sum();
        for ([method, endpoint, status], count) in &recorded {
            writeln!(f, "{method:<10} {endpoint:<24} {status:<18} {count:>9}")?;
        }
        write!(f, "{total} requests, every one counted once")
    }
}

fn folded([method, endpoint, status]: [&str; 3]) -> Row {
    let is_left = LEFT.iter().any(|(of_method, of_endpoint, statuses)| {
        *of_method == method && *of_endpoint == endpoint && statuses.contains(&status)
    });
    let status = if is_left { "left or refused" } else { status };
    [method, endpoint, status].map(ToOwned::to_owned)
}

/// The counts of the server.
pub(crate) struct Counted {
    rows: BTreeMap<Row, u64>,
    /// The number of observed durations. Streams have none.
    durations: BTreeMap<Row, u64>,
    in_progress: f64,
}

impl Counted {
    pub(crate) fn of(scrape: &Exposition) -> Self {
        let of_requests = |name: &str| {
            let mut rows = BTreeMap::<Row, u64>::new();
            for (labels, value) in scrape.series(name) {
                let row = ["method", "endpoint", "http_status"].map(|label| labels[label].as_str());
                *rows.entry(folded(row)).or_default() += whole(value);
            }
            rows.retain(|_, count| *count > 0);
            rows
        };
        let mut rows = of_requests("http_requests_total");
        for outcome in CERTAIN_OUTCOMES {
            let count = whole(scrape.value("http_connections_total", &[("outcome", outcome)]));
            if count > 0 {
                rows.insert(["connection", "", outcome].map(ToOwned::to_owned), count);
            }
        }
        Self {
            rows,
            durations: of_requests("http_request_duration_seconds_count"),
            in_progress: scrape.value("inprogress_requests", &[]),
        }
    }

    /// The differences from the records as text; empty if there are none.
    pub(crate) fn differences(&self, recorded: &BTreeMap<Row, u64>) -> String {
        let mut differences = String::new();
        let rows: BTreeSet<&Row> = self.rows.keys().chain(recorded.keys()).collect();
        for row in rows {
            let recorded = recorded.get(row).copied().unwrap_or_default();
            let counted = self.rows.get(row).copied().unwrap_or_default();
            if recorded != counted {
                let _written = writeln!(
                    differences,
                    "{row:?}: {recorded} recorded, {counted} counted"
                );
            }
            let [kind, endpoint, _] = row;
            if kind == "connection" || endpoint == STREAM {
                continue;
            }
            let observed = self.durations.get(row).copied().unwrap_or_default();
            if observed != counted {
                let _written = writeln!(
                    differences,
                    "{row:?}: {counted} counted, {observed} durations"
                );
            }
        }
        // The scrape itself is in progress.
        if !(0.0..=1.0).contains(&self.in_progress) {
            let _written = writeln!(differences, "{} are in progress", self.in_progress);
        }
        differences
    }
}
