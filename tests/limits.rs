//! Clients that take their time, take too much, or send what is not HTTP: each is ended in time and told why where it can
//! hear it, what became of it is counted, and whoever behaves is served meanwhile.
//!
//! The servers here have short deadlines. A connection must be gone by its deadline and [`guarded::GRACE`]; sooner than the deadline
//! is a fault as well.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, small and not negative"
)]

mod floods;
mod guarded;
mod host;
mod http_2;
mod kinds;
mod left;
mod log;
mod memory;
mod mutants;
mod pipelining;
