//! Records what a service does: requests, queries, pools, jobs, event loops, panics and the process.
//!
//! Everything here runs within the service, so it must be cheap: a series that exists is counted without a lock, a string
//! or an allocation. Nothing here answers a request; that is the task of `vitals-console`. Services depend on
//! `actix-vitals`, which puts the recorders together and promises a stable interface.

#![cfg_attr(
    not(all(feature = "http", feature = "diesel")),
    allow(
        dead_code,
        unused_imports,
        reason = "some items are used by the left-out feature only; a build with both has no such allowance"
    )
)]

#[cfg(feature = "jemalloc")]
mod allocated;
#[cfg(feature = "jemalloc")]
pub mod allocator;
pub mod clock;
mod code_location;
pub mod collection;
pub mod context;
pub mod database;
mod error_chain;
#[cfg(feature = "http")]
pub mod fair_shares;
#[cfg(feature = "http")]
pub mod http;
pub mod in_flight;
pub mod jobs;
pub mod log_limit;
#[cfg(feature = "http")]
pub mod memory;
#[cfg(feature = "http")]
pub mod methods;
mod name_numbers;
pub mod naming;
#[cfg(feature = "http")]
pub mod ops_endpoints;
pub mod panics;
#[cfg(feature = "http")]
pub mod problem;
pub mod process;
#[cfg(test)]
mod reading;
pub mod repetition;
#[cfg(feature = "http")]
pub mod runtime;
mod slot_generation;
mod subscriber;
pub mod suspicions;
pub mod thread_work;
mod watchdog;
