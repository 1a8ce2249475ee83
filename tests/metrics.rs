//! Every promised metric, from outside: there, of its type, with its labels, and moved by exactly the right amount by
//! requests that are known; in every format, to the satisfaction of foreign readers.
//!
//! What requests are answered with is tested in `api`; what a real Prometheus makes of it all in `prometheus`.

mod conformance;
mod database;
mod document;
mod formats;
mod http;
mod naming;
mod process;
mod promises;
mod reader;
