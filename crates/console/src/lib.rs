//! The endpoints for operators, for any service: the scrape, the health checks, the statements and the live page.
//!
//! - `endpoints`: the list of all ops endpoints, and a module for each group of them
//! - `dashboard`: the live page, its history and its stream
//! - `ops`: the state behind the endpoints, and how they are mounted; `settings`: which of them exist
//! - `log_control`: the filter of the log, and when it returns
//! - `profiles`: the profiles that are taken and kept
//! - `fair_slots`, `heavy_answers`: limits on what clients may ask for at once
//!
//! The console reads the registry and the recorders. It knows no route of the service, and nothing here runs while the
//! service records a request or a query.

mod dashboard;
mod endpoints;
mod fair_slots;
#[cfg(test)]
mod fixture;
mod heavy_answers;
mod in_progress;
mod log_control;
mod ops;
mod profiles;
mod settings;
mod watched;

pub use endpoints::{
    ENDPOINTS, OpsChoice, OpsEndpoint, OpsMethods, health::ProbeError, serves, statements,
};
pub use log_control::LogControl;
pub use ops::Ops;
pub use settings::OpsSettings;
pub use watched::Watched;
