//! Pushes all metrics of a registry to an OTLP receiver, for a service that cannot be scraped, and the traces of kept
//! requests.
//!
//! The push has a thread of its own. It reads the registry as a scrape does, so recording costs nothing more. `message`
//! turns metrics into the messages of OTLP, and `traces` kept requests. `client` sends one request over HTTP, `retry` decides
//! whether and when to send it again, and `push` owns the thread. Services depend on `actix-vitals`, whose feature `otlp`
//! adds this crate.
//!
//! <https://opentelemetry.io/docs/specs/otlp/>

mod client;
mod endpoint;
mod message;
mod push;
mod retry;
mod settings;
mod signal;
#[cfg(feature = "http")]
mod traces;
mod variables;

pub use endpoint::{EndpointError, OtlpEndpoint};
pub use push::{OtlpPush, PushFamilies, TraceSource};
pub use settings::{OtlpError, OtlpSettings};
