//! Latencies of all requests, kept one by one, and their exact quantiles.
//!
//! A request takes eight bytes, so long runs need some memory. The quantiles are exact, to compare histograms with.

use std::fmt;
use std::time::Duration;

/// The quantiles that are printed.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
];

/// All recorded latencies.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    /// Keeps one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.nanoseconds
            .push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all latencies of another client.
    pub(crate) fn merge(&mut self, other: Self) {
        self.nanoseconds.extend(other.nanoseconds);
    }
}

/// The smallest recorded value that at least the share `q` of all values does not exceed (nearest rank).
fn quantile(sorted: &[u64], q: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 0 and the length"
    )]
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.nanoseconds.clone();
        sorted.sort_unstable();
        write!(f, "latency")?;
        for (name, q) in QUANTILES {
            if let Some(nanoseconds) = quantile(&sorted, q) {
                write!(f, "  {name} {:.6} s", nanoseconds as f64 / 1e9)?;
            }
        }
        if let Some(max) = sorted.last() {
            write!(f, "  max {:.6} s", *max as f64 / 1e9)?;
        }
        Ok(())
    }
}
