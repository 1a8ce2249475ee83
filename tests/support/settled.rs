//! Scrapes between which exactly what a test sent has happened, and equality of what they count.

use std::time::Duration;

use super::exposition::Exposition;
use super::server::Server;
use super::wait;

/// How long the server may take to settle the record of an answer that a client has received.
const SETTLE_BOUND: Duration = Duration::from_secs(10);

/// A scrape in which no request but itself is in progress, so that all earlier ones are counted.
pub(crate) async fn settled(server: &Server) -> Exposition {
    wait::until("all records to be settled", SETTLE_BOUND, async || {
        let scrape = server.scrape().await;
        // By whichever name.
        let in_progress =
            scrape.sum("inprogress_requests", &[]) + scrape.sum("http_server_active_requests", &[]);
        if in_progress > 1.0 {
            return Err(format!("{in_progress} are in progress"));
        }
        Ok(scrape)
    })
    .await
}

/// Counts are whole numbers far below 2^53: floats hold them exactly.
#[track_caller]
pub(crate) fn expect_count(found: f64, expected: usize, what: &str) {
    assert_eq!(found, expected as f64, "{what}");
}
