//! The monolith: a small REST service over a real database, watched by the recorders.
//!
//! It is the only wing that knows `/data`. What any service could use belongs to `vitals`.

pub mod access;
pub mod api;
mod connection;
mod descriptors;
mod exclusions;
mod intake;
pub mod server;
pub mod settings;
mod shutdown;
pub mod store;
pub mod supervisor;
mod threads;
