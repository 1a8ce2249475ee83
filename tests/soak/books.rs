//! What the clients did, and what the server says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::support::exposition::Exposition;

/// Method, endpoint and status of requests; or `connection`, nothing, and the outcome of connections.
type Row = [String; 3];

/// Of requests whose client leaves, nobody but the server knows how they ended: method, endpoint, and what it may say of
/// them. All of these are one row.
const LEFT: [(&str, &str, &[&str]); 2] = [
    ("HEAD", "/data", &["200", "499"]),
    ("POST", "/data", &["400", "499"]),
];

/// Outcomes of connections that are certain: what the protocol itself and keep-alive clients bring about is not.
const CERTAIN_OUTCOMES: [&str; 4] = [
    "body_timeout",
    "head_timeout",
    "headers_too_large",
    "malformed",
];

/// What a stream counts has no duration.
const STREAM: &str = "/dashboard/stream";

/// What all clients have done so far.
#[derive(Debug, Default)]
pub(crate) struct Books {
    rows: Mutex<BTreeMap<Row, u64>>,
}

impl Books {
    /// A request that was answered.
    pub(crate) fn enter(&self, method: &str, endpoint: &str, status: u16) {
        self.add([method, endpoint, &status.to_string()]);
    }

    /// A request of which only the server knows how it ended.
    pub(crate) fn enter_left(&self, method: &str, endpoint: &str) {
        self.enter(method, endpoint, 499);
    }

    /// A connection that ended so.
    pub(crate) fn enter_connection(&self, outcome: &str) {
        self.add(["connection", "", outcome]);
    }

    fn add(&self, row: [&str; 3]) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        *rows.entry(folded(row)).or_default() += 1;
    }

    pub(crate) fn booked(&self) -> BTreeMap<Row, u64> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.clone()
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let booked = self.booked();
        let requests = booked.iter().filter(|([kind, ..], _)| kind != "connection");
        let total: u64 = requests.map(|(_, count)| count).sum();
        for ([method, endpoint, status], count) in &booked {
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

/// What the server has counted.
pub(crate) struct Counted {
    rows: BTreeMap<Row, u64>,
    /// Durations that were observed, of all that is no stream.
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

    /// Where that differs from the books, in words; empty where it does not.
    pub(crate) fn differences(&self, booked: &BTreeMap<Row, u64>) -> String {
        let mut differences = String::new();
        let rows: BTreeSet<&Row> = self.rows.keys().chain(booked.keys()).collect();
        for row in rows {
            let booked = booked.get(row).copied().unwrap_or_default();
            let counted = self.rows.get(row).copied().unwrap_or_default();
            if booked != counted {
                let _written = writeln!(differences, "{row:?}: {booked} booked, {counted} counted");
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
        // The look that says so is a request, too.
        if !(0.0..=1.0).contains(&self.in_progress) {
            let _written = writeln!(differences, "{} are in progress", self.in_progress);
        }
        differences
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count"
)]
fn whole(value: f64) -> u64 {
    value as u64
}
