//! The errors of pools: why a caller gets no connection, or no result.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::io;

#[cfg(feature = "http")]
use actix_web::{HttpResponse, http::StatusCode};

use crate::database::health::DatabaseHealth;
use crate::error_chain;
#[cfg(feature = "http")]
use crate::problem::Problem;

/// Why a caller got no connection.
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

impl From<CheckoutError> for io::Error {
    fn from(error: CheckoutError) -> Self {
        let kind = match error {
            CheckoutError::Timeout => io::ErrorKind::TimedOut,
            CheckoutError::Unavailable => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

/// Why [`Pool::run`](super::Pool::run) has no result.
///
/// It is an [`Error`] if `E` is one. With the feature `http` it is a `ResponseError` if `E` is one, so that a handler may
/// return it with `?`: the error of the work has its own response, a full pool and a lost database are 503 with
/// `Retry-After`, and a panic is 500.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The wait queue was full. The work was rejected at once.
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
    /// The runtime was shut down before the work could start.
    #[error("the runtime was shut down")]
    Cancelled,
}

impl<E> RunError<E> {
    /// Converts the error of the work, and keeps every other.
    pub fn map<F>(self, convert: impl FnOnce(E) -> F) -> RunError<F> {
        match self {
            Self::Saturated => RunError::Saturated,
            Self::Timeout => RunError::Timeout,
            Self::Unavailable => RunError::Unavailable,
            Self::Query(error) => RunError::Query(convert(error)),
            Self::Panicked => RunError::Panicked,
            Self::Cancelled => RunError::Cancelled,
        }
    }

    /// Converts the error into a trait object, also if `E` is not an [`Error`]: `anyhow::Error`, a string.
    pub fn boxed(self) -> Box<dyn Error + Send + Sync>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.map(Into::into) {
            RunError::Query(error) => error,
            RunError::Saturated => RunError::<Infallible>::Saturated.into(),
            RunError::Timeout => RunError::<Infallible>::Timeout.into(),
            RunError::Unavailable => RunError::<Infallible>::Unavailable.into(),
            RunError::Panicked => RunError::<Infallible>::Panicked.into(),
            RunError::Cancelled => RunError::<Infallible>::Cancelled.into(),
        }
    }
}

impl<E> From<CheckoutError> for RunError<E> {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Timeout => Self::Timeout,
            CheckoutError::Unavailable => Self::Unavailable,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<RunError<E>> for io::Error {
    fn from(error: RunError<E>) -> Self {
        match error {
            RunError::Timeout => CheckoutError::Timeout.into(),
            RunError::Unavailable => CheckoutError::Unavailable.into(),
            error => Self::other(error),
        }
    }
}

/// When a client may retry after the pool was full or the database was lost, in seconds.
#[cfg(feature = "http")]
const RETRY_AFTER: u32 = 1;

#[cfg(feature = "http")]
impl<E: actix_web::ResponseError> actix_web::ResponseError for RunError<E> {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Query(error) => error.status_code(),
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let problem = |detail| Problem::new(self.status_code(), detail);
        match self {
            Self::Query(error) => error.error_response(),
            Self::Panicked => problem("The server failed.").to_response(),
            Self::Cancelled => problem("The server is shutting down.")
                .retry_after(RETRY_AFTER)
                .to_response(),
            Self::Saturated | Self::Timeout | Self::Unavailable => {
                problem("The database cannot be asked now.")
                    .retry_after(RETRY_AFTER)
                    .to_response()
            }
        }
    }
}

/// Why r2d2 returned no connection. Its error has no reason, so the health of the database decides.
pub(super) fn failure(health: &DatabaseHealth) -> CheckoutError {
    if health.failing() {
        CheckoutError::Unavailable
    } else {
        CheckoutError::Timeout
    }
}

/// An error that the work of [`Pool::run`](super::Pool::run) may return. The pool looks for the error of the database in it.
///
/// An error type with `#[error(transparent)]` hides the error that it contains from the pool, because its `source` skips
/// that error. A type with `#[source]` does not.
///
/// `Kind` distinguishes the implementations and is inferred. No code is needed for a type that is an [`Error`], for
/// `anyhow::Error` and any other type that implements `AsRef` of an error, or for a string. Any other type needs one line: `impl QueryError<Opaque> for Rejected {}`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of the work of `Pool::run`",
    note = "implement `std::error::Error` for `{Self}`, or `actix_vitals::database::QueryError<Opaque>`",
    note = "a boxed error must be `Send`: `Box<dyn std::error::Error + Send + Sync>`"
)]
pub trait QueryError<Kind>: Send + 'static {
    /// The error of the database in this error, if there is one.
    fn database_error(&self) -> Option<&diesel::result::Error> {
        None
    }
}

/// A [`QueryError`] that is an [`Error`].
#[derive(Debug)]
pub enum Typed {}

/// A [`QueryError`] that implements `AsRef` of an [`Error`]: a boxed error, `anyhow::Error`.
#[derive(Debug)]
pub enum Wrapped {}

/// A [`QueryError`] without a source: a string.
#[derive(Debug)]
pub enum Opaque {}

impl<E: Error + Send + 'static> QueryError<Typed> for E {
    fn database_error(&self) -> Option<&diesel::result::Error> {
        find_database_error(self)
    }
}

impl<E: AsRef<dyn Error + Send + Sync> + Send + 'static> QueryError<Wrapped> for E {
    fn database_error(&self) -> Option<&diesel::result::Error> {
        find_database_error(self.as_ref())
    }
}

impl QueryError<Opaque> for Box<dyn Error + Send> {
    fn database_error(&self) -> Option<&diesel::result::Error> {
        find_database_error(&**self)
    }
}

impl QueryError<Opaque> for String {}
impl QueryError<Opaque> for &'static str {}
impl QueryError<Opaque> for Cow<'static, str> {}
impl QueryError<Opaque> for () {}

/// Finds the error of the database in an error or among its sources.
fn find_database_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a diesel::result::Error> {
    error_chain::links(error).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests;
