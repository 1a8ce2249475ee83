//! Scrapes that contain every earlier request of a test, and comparisons of counts.

use std::time::Duration;

use super::exposition::Exposition;
use super::server::Server;
use super::wait;

/// How long the server may take to settle a request after its client has received the answer.
const SETTLE_BOUND: Duration = Duration::from_secs(10);

/// A scrape with no other request in progress, so that all earlier ones are counted.
pub(crate) async fn settled(server: &Server) -> Exposition {
    wait::until("all records to be settled", SETTLE_BOUND, async || {
        let scrape = server.scrape().await;
        // By either naming.
        let in_progress =
            scrape.sum("inprogress_requests", &[]) + scrape.sum("http_server_active_requests", &[]);
        if in_progress > 1.0 {
            return Err(format!("{in_progress} are in progress"));
        }
        Ok(scrape)
    })
    .await
}

/// Compares exactly: counts are whole numbers below 2^53, which floats represent exactly.
#[track_caller]
pub(crate) fn expect_count(found: f64, expected: usize, what: &str) {
    assert_eq!(found, expected as f64, "{what}");
}
