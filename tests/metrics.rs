//! Every promised metric in the scrape of the real binary: its type, its labels, and its exact increase by known requests.
//! Also the formats of the scrape, which readers of others must accept.
//!
//! The answers to requests are tested in `api`, queries of a real Prometheus in `prometheus`.

mod client_golang;
mod conformance;
mod database;
mod document;
mod formats;
mod http;
mod naming;
mod process;
mod promises;
mod reader;
