//! Blocking work for the current request: `web::block`, with the request's context.

use std::future::Future;

use actix_web::{error::BlockingError, web};

use crate::context::carry;

/// Runs `f` on a thread that may block, for the current request: [`actix_web::web::block`] with the request's context.
///
/// The signature is that of Actix' function, so adopting it is search and replace. Queries that `f` runs are counted for
/// the request, and what it logs belongs to the request's trace. Actix' own function runs them outside of any request:
/// they are then counted in `db_queries_unattributed_total`.
///
/// The work starts at once and runs to its end, even if the returned future is dropped.
///
/// # Errors
///
/// When `f` panics or the runtime is shut down.
pub fn block<F, R>(f: F) -> impl Future<Output = Result<R, BlockingError>>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    web::block(carry(f))
}
