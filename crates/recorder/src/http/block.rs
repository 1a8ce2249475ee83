//! Blocking work for the current request: `web::block`, with the request's context.

use std::future::Future;

use actix_web::{error::BlockingError, web};

use crate::context::carry;

/// Runs `f` for the current request on a thread that may block: [`actix_web::web::block`] with the request's context.
///
/// The signature is that of Actix' function, so it can be replaced by name. Queries that `f` runs are counted for the
/// request, and its log lines belong to the request's trace. In Actix' own function they run outside of any request and
/// are counted in `db_queries_unattributed_total`.
///
/// The work starts at once and runs to its end, even if the returned future is dropped.
///
/// # Errors
///
/// Fails if `f` panics or the runtime is shut down.
pub fn block<F, R>(f: F) -> impl Future<Output = Result<R, BlockingError>>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    web::block(carry(f))
}
