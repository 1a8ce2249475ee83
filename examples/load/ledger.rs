//! Compares the requests that were sent with those that the server counted.
//!
//! The scrapes are requests too, so they are entered into the ledger as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::Client;

use super::exposition::Exposition;

/// How long the server may take to settle its last records.
const SETTLE_BOUND: Duration = Duration::from_secs(5);
/// The pause between two scrapes meanwhile.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// The counter that the ledger is compared with.
const COUNTER: &str = "http_requests_total";
/// The gauge that must be 1 at the end, for the scrape itself, or 0.
const IN_PROGRESS: &str = "inprogress_requests";

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    method: String,
    endpoint: String,
    status: String,
}

impl Row {
    /// The row of these labels.
    pub(crate) fn new(method: &str, endpoint: &str, status: u16) -> Self {
        Self {
            method: method.to_owned(),
            endpoint: endpoint.to_owned(),
            status: status.to_string(),
        }
    }

    fn scrape() -> Self {
        Self::new("GET", "/metrics", 200)
    }

    fn labels(&self) -> [(&str, &str); 3] {
        [
            ("method", &self.method),
            ("endpoint", &self.endpoint),
            ("http_status", &self.status),
        ]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<7} {:<18} {:<6}",
            self.method, self.endpoint, self.status
        )
    }
}

/// How many requests were sent, by row.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    rows: BTreeMap<Row, u64>,
    /// Requests without a complete answer, by reason. The server may or may not have counted them.
    pub(crate) broken: BTreeMap<String, u64>,
}

impl Ledger {
    /// Counts one answered request.
    pub(crate) fn count(&mut self, row: Row) {
        *self.rows.entry(row).or_default() += 1;
    }

    /// Counts one request without a complete answer.
    pub(crate) fn count_broken(&mut self, error: &reqwest::Error) {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            // Writing to a string cannot fail.
            let _written = write!(reason, ": {cause}");
            source = cause.source();
        }
        // The address differs from request to request and is left out.
        let reason = reason
            .split_once("): ")
            .map_or(reason.clone(), |(_, after)| after.to_owned());
        *self.broken.entry(reason).or_default() += 1;
    }

    /// Adds all rows of another client.
    pub(crate) fn merge(&mut self, other: Self) {
        for (row, count) in other.rows {
            *self.rows.entry(row).or_default() += count;
        }
        for (reason, count) in other.broken {
            *self.broken.entry(reason).or_default() += count;
        }
    }

    /// How many requests were answered.
    pub(crate) fn total(&self) -> u64 {
        self.rows.values().sum()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "method  endpoint           status {:>9}", "sent")?;
        for (row, count) in &self.rows {
            write!(f, "\n{row} {count:>9}")?;
        }
        Ok(())
    }
}

/// Reads the server's counters before and after a run.
#[derive(Debug)]
pub(crate) struct Meter {
    client: Client,
    url: String,
    /// Whether scrapes are requests on the listener that is measured.
    scrapes_are_counted: bool,
    scrapes: u64,
    before: Exposition,
}

impl Meter {
    /// Reads the counters before the run.
    ///
    /// # Errors
    ///
    /// If the server cannot be scraped.
    pub(crate) async fn start(
        client: Client,
        url: &str,
        metrics_url: Option<&str>,
    ) -> Result<Self, String> {
        let scraped = metrics_url.map_or(url, |other| other.trim_end_matches('/'));
        let mut meter = Self {
            client,
            url: format!("{scraped}/metrics"),
            scrapes_are_counted: scraped == url,
            scrapes: 0,
            before: Exposition::default(),
        };
        meter.before = meter.scrape().await?;
        Ok(meter)
    }

    async fn scrape(&mut self) -> Result<Exposition, String> {
        let explain = |error: reqwest::Error| format!("{} cannot be scraped: {error}", self.url);
        let request = self.client.get(&self.url).header("accept", "text/plain");
        let answer = request.send().await.map_err(explain)?;
        if !answer.status().is_success() {
            return Err(format!("{} answers {}", self.url, answer.status()));
        }
        let text = answer.text().await.map_err(explain)?;
        self.scrapes += 1;
        Exposition::parse(&text)
    }

    /// Waits until the counters agree with the ledger and nothing is in progress. Returns the differences at the end of the
    /// bound as a table, which is empty if there are none.
    ///
    /// The server settles a record after the last byte is sent, and a client may receive that byte a moment before.
    pub(crate) async fn settle(&mut self, ledger: &Ledger) -> String {
        let deadline = Instant::now() + SETTLE_BOUND;
        loop {
            let earlier_scrapes = self.scrapes;
            let findings = match self.scrape().await {
                Ok(after) => self.compare(ledger, earlier_scrapes, &after),
                Err(reason) => reason,
            };
            if findings.is_empty() || Instant::now() > deadline {
                return findings;
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
    }

    fn compare(&self, ledger: &Ledger, earlier_scrapes: u64, after: &Exposition) -> String {
        let mut expected = ledger.rows.clone();
        if self.scrapes_are_counted {
            *expected.entry(Row::scrape()).or_default() += earlier_scrapes;
        }
        let mut rows: BTreeSet<Row> = expected.keys().cloned().collect();
        rows.extend(counted_rows(after));
        let mut table = String::new();
        for row in rows {
            if !self.scrapes_are_counted && row == Row::scrape() {
                continue;
            }
            let sent = expected.get(&row).copied().unwrap_or(0);
            let counted = after.rise(&self.before, COUNTER, &row.labels());
            // Writing to a string cannot fail.
            if (counted - sent as f64).abs() > 0.0 {
                let _written = writeln!(table, "{row} sent {sent:>9}  counted {counted:>9}");
            }
        }
        let in_progress = after.get(IN_PROGRESS, &[]);
        if !in_progress.is_some_and(|level| (0.0..=1.0).contains(&level)) {
            let _written = writeln!(table, "{IN_PROGRESS} is {in_progress:?}, not 0 or 1");
        }
        table
    }
}

/// Every row for which the server has a counter.
fn counted_rows(exposition: &Exposition) -> impl Iterator<Item = Row> {
    exposition.series(COUNTER).into_iter().map(|(labels, _)| {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        Row {
            method: label("method"),
            endpoint: label("endpoint"),
            status: label("http_status"),
        }
    })
}
