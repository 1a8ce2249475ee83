//! What a caller of the pool hears in place of a connection, or of a result.

use std::error::Error;

use super::super::manager::Health;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckoutError {
    /// All connections were in use until the pool's timeout.
    #[error("no connection to the database was free within the pool's timeout")]
    Timeout,
    /// The database could not be reached until the pool's timeout. The log has the cause.
    #[error("the database cannot be reached")]
    Unavailable,
}

/// Why [`Pool::run`](super::Pool::run) has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E: Error + 'static> {
    /// The line was full: the work was refused at once.
    #[error("too many callers wait for a connection to the database")]
    Saturated,
    /// All connections were in use until the pool's timeout.
    #[error("no connection to the database was free within the pool's timeout")]
    Timeout,
    /// The database could not be reached until the pool's timeout. The log has the cause.
    #[error("the database cannot be reached")]
    Unavailable,
    /// The work ran and failed.
    #[error(transparent)]
    Query(E),
    /// The work panicked; its connection was closed.
    #[error("the work on the database panicked")]
    Panicked,
    /// The runtime was shut down before the work could begin.
    #[error("the runtime was shut down")]
    Cancelled,
}

impl<E: Error + 'static> From<CheckoutError> for RunError<E> {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Timeout => Self::Timeout,
            CheckoutError::Unavailable => Self::Unavailable,
        }
    }
}

/// Why a caller is not let to the pool.
pub(super) enum AdmissionError {
    Saturated,
    Checkout(CheckoutError),
}

impl<E: Error + 'static> From<AdmissionError> for RunError<E> {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Saturated => Self::Saturated,
            AdmissionError::Checkout(error) => error.into(),
        }
    }
}

/// Why r2d2 had no connection, which it does not tell.
pub(super) fn failure(health: &Health) -> CheckoutError {
    if health.failing() {
        CheckoutError::Unavailable
    } else {
        CheckoutError::Timeout
    }
}

/// The error of the database in an error, or among its sources.
pub(super) fn database_error<'a>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a diesel::result::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
