#![doc = include_str!("../README.md")]
//!
//! # Where to start
//!
//! - [`WebConfigFile`] and [`Reloading`] read the file, keep its rules, and read it again.
//! - [`RequestGate`] checks each request against the [`AccessRules`].
//! - [`ServerStream`] is a connection with or without TLS.
//! - [`TlsSettings`], [`BearerToken`] and [`ConfigSource`] are for servers that combine the file with other settings.

mod credentials;
mod document;
mod error;
mod files;
mod gate;
mod hash_queue;
mod rate_limit;
mod reload;
mod rules;
mod scalar;
mod stream;
#[cfg(test)]
#[cfg(feature = "tls")]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod tls;
mod users;
mod web_config;

#[cfg(feature = "tls")]
pub use rustls;

pub use credentials::BearerToken;
pub use error::ConfigError;
pub use files::ConfigFiles;
pub use gate::{Denial, RequestGate};
pub use rate_limit::RateLimit;
pub use reload::{ConfigSource, Reloading, WebConfigFile};
pub use rules::AccessRules;
pub use stream::ServerStream;
#[cfg(feature = "tls")]
pub use tls::Pem;
pub use tls::{ServerConfig, TlsSettings};
pub use web_config::{ResponseHeader, WebConfig};
