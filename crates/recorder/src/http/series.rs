//! What a request is called, and the series that count it.
//!
//! - `labels`: the values of the labels `method`, `endpoint` and `http_status`
//! - `path_key`: recognises a routed path without building its pattern
//! - `renaming`: names that the service prefers to its patterns
//! - `families`: the HTTP families with their help texts
//! - `cache`: from a path key and an outcome to the handles of a series, for each worker

pub(super) mod cache;
pub(super) mod families;
pub(super) mod labels;
pub(super) mod path_key;
pub(super) mod renaming;
