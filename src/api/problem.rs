//! The problems of the API: how it answers each error.
//!
//! The client reads what it can do. The cause is in the log, for the operator.

use actix_vitals::{
    log_limit::LogLimit,
    problem::{FieldError, Problem},
};
use actix_web::http::StatusCode;

use crate::store::{self, StoreError};

/// Seconds after which a client may try again when the database is unavailable.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Limits on log lines that each failing request would write.
static FAILURE_LINES: LogLimit = LogLimit::new();
static PANIC_LINES: LogLimit = LogLimit::new();

/// The problem of a request with invalid fields.
pub(super) fn invalid(errors: Vec<FieldError>) -> Problem {
    let detail = match errors.as_slice() {
        [only] => format!("The request is not valid: {} {}.", only.field, only.message),
        _ => "The request is not valid; `errors` names each field.".to_owned(),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(errors)
}

/// The problem of an unknown id.
pub(super) fn no_item() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is no item with this id.")
}

/// The answer to a path without a route.
pub(in super::super) async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is nothing at this path.")
}

/// The problem of a request whose handling failed.
pub(super) fn failed() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The service failed to carry out the request.",
    )
}

/// The problem of a request that the database has no capacity for.
pub(super) fn busy() -> Problem {
    unavailable("The database is busy. Try again in a moment.")
}

fn unavailable(detail: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER_SECONDS)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = match &error {
            StoreError::Overloaded | StoreError::Busy => {
                tracing::debug!(cause = %error, "a request was rejected");
                busy()
            }
            StoreError::Unreachable => {
                tracing::debug!(cause = %error, "a request was rejected");
                unavailable("The database cannot be reached at the moment. Try again later.")
            }
            StoreError::Unfinished => {
                tracing::debug!(cause = %error, "a request was rejected");
                unavailable("The database did not finish in time. Try again later.")
            }
            StoreError::Database(cause) => {
                if let Some(line) = FAILURE_LINES.line() {
                    let cause = store::described(cause);
                    tracing::error!(cause, left_out = line.left_out, "the database failed");
                }
                unavailable("The database cannot be used at the moment. Try again later.")
            }
            StoreError::Panicked => {
                if let Some(line) = PANIC_LINES.line() {
                    tracing::error!(left_out = line.left_out, "work on the database panicked");
                }
                failed()
            }
        };
        problem.caused_by(&error)
    }
}
