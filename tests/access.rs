//! Access to the ops endpoints over real connections: TLS, credentials, origin, rate limit, and the reload of the files.
//!
//! `crates/web-config` has the tables of accepted and rejected web configurations.

mod authority;
mod clients;
mod credentials;
mod description;
mod flood;
mod headers;
pub(crate) mod ops_server;
mod origin;
mod promtool;
mod rate_limit;
mod reload;
mod scrape;
mod tls;
