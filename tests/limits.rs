//! Clients that are slow, send too much, or do not send HTTP.
//!
//! Each connection ends in time, with an answer if the client can receive one. Its outcome is counted, and other clients are
//! served meanwhile. The servers here have short deadlines. A connection must end after its deadline, and within
//! [`guarded::GRACE`] after it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, small and not negative"
)]

mod floods;
pub(crate) mod guarded;
mod host;
pub(crate) mod http_2;
mod kinds;
mod left;
mod log;
mod memory;
mod mutants;
mod pipelining;
pub(crate) mod slowly_read;
