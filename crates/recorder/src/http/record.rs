//! One request, from its parsed head until it is settled.
//!
//! - `middleware`: the Actix side. It opens a record for each request, and hands it on with the response or the error
//! - `slot`: the memory that holds one record, used again for later requests
//! - `open`: a record without an answer
//! - `answered`: a record whose answer has begun. It counts the request, exactly once
//! - `polls`: when the request kept its worker's event loop busy, and what it awaited in between
//! - `body`, `error`: how a record travels with a response's body, or within an Actix error

pub(super) mod answered;
pub(super) mod body;
pub(super) mod error;
pub(super) mod middleware;
pub(super) mod open;
pub(super) mod polls;
pub(super) mod slot;
