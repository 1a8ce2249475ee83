//! What is known of single requests, beside the totals.
//!
//! - `causes`: why requests failed
//! - `kept`, `timeline`: which requests are kept, and what their time was spent on
//! - `notable`: the slowest requests and the most recent failed ones
//! - `server_timing`: the response header that shows where the time went
//! - `trace`: the trace that a request belongs to

pub(super) mod causes;
pub(super) mod kept;
pub(super) mod notable;
pub(super) mod server_timing;
pub(super) mod timeline;
pub(super) mod trace;
