//! The recorders: what any Actix-web and Diesel service adopts to be monitored. [`Vitals`] is the one handle that
//! owns the registry and every recorder; nothing here is global but the processor's clock and which panic hook logs, and
//! nothing knows a particular service.
//!
//! `handle` is what a service does with it, `builder` how it comes to be; the recorders stand beside them.

#[cfg(feature = "jemalloc")]
pub mod allocator;
#[cfg(feature = "dashboard")]
mod attendance;
mod builder;
#[cfg(any(feature = "http", feature = "database"))]
mod clock;
#[cfg_attr(
    not(all(feature = "http", feature = "database")),
    allow(
        dead_code,
        reason = "requests and queries meet here: one side is left out"
    )
)]
pub mod context;
#[cfg(feature = "database")]
pub mod database;
mod handle;
#[cfg(feature = "http")]
pub mod http;
pub mod jobs;
pub mod log_limit;
#[cfg(feature = "http")]
pub mod memory;
#[cfg(feature = "http")]
pub mod methods;
#[cfg_attr(
    not(all(feature = "http", feature = "database")),
    allow(dead_code, reason = "names of what is left out")
)]
mod naming;
#[cfg(feature = "ops")]
pub mod ops;
#[cfg(feature = "http")]
mod ops_endpoints;
mod panics;
#[cfg(feature = "http")]
pub mod problem;
pub mod process;
mod reading;
mod repetition;
#[cfg(feature = "http")]
pub mod runtime;

pub use builder::{BuildError, Builder, N_PLUS_ONE};
pub use handle::Vitals;
pub use naming::{LATENCY_BUCKETS, Naming};
