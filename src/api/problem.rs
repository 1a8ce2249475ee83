//! Which error is told to a client in which words.
//!
//! The client hears what to do about it; the cause stands in the log, for the operator.

use actix_web::http::StatusCode;

use crate::store::StoreError;
use actix_vitals::log_limit::LogLimit;
use actix_vitals::problem::{FieldError, Problem};

/// When to try again, in seconds, after the database did not answer.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Limits of the log lines that each failing request would write.
static FAILURE_LINES: LogLimit = LogLimit::new();
static PANIC_LINES: LogLimit = LogLimit::new();

/// The request was understood, and breaks these rules.
pub(super) fn invalid(errors: Vec<FieldError>) -> Problem {
    let detail = match errors.as_slice() {
        [only] => format!("The request is not valid: {} {}.", only.field, only.message),
        _ => "The request is not valid; `errors` names each field.".to_owned(),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(errors)
}

/// There is no item of this id.
pub(super) fn no_item() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is no item with this id.")
}

/// There is no resource at this path.
pub(in super::super) async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is nothing at this path.")
}

/// The work on a request broke off.
pub(super) fn failed() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The request could not be carried out.",
    )
}

/// The database has too much to do.
pub(super) fn busy() -> Problem {
    unavailable("The database is busy. Try again in a moment.")
}

fn unavailable(detail: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER_SECONDS)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Overloaded | StoreError::Busy => {
                tracing::debug!(cause = %error, "a request was turned away");
                busy()
            }
            StoreError::Unreachable | StoreError::Unanswered => {
                tracing::debug!(cause = %error, "a request was turned away");
                unavailable("The database cannot be reached at the moment. Try again later.")
            }
            StoreError::Database(cause) => {
                if let Some(line) = FAILURE_LINES.line() {
                    tracing::error!(%cause, left_out = line.left_out, "the database failed");
                }
                unavailable("The database cannot be used at the moment. Try again later.")
            }
            StoreError::Panicked => {
                if let Some(line) = PANIC_LINES.line() {
                    tracing::error!(left_out = line.left_out, "work on the database panicked");
                }
                failed()
            }
        }
    }
}
