//! Which errors work may return, what is found in them, and how they are answered and converted.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::{CheckoutError, Opaque, QueryError, RunError};
use crate::error_chain::tests::Circular;

fn locked() -> DieselError {
    DieselError::DatabaseError(
        DatabaseErrorKind::Unknown,
        Box::new("database is locked".to_owned()),
    )
}

#[derive(Debug, thiserror::Error)]
#[error("layer {0}")]
struct Layer(u8, #[source] Box<dyn Error + Send + Sync>);

/// An adopter's own type that does not implement the standard library's `Error`.
#[derive(Debug)]
struct PlainError;

impl QueryError<Opaque> for PlainError {}

/// Whether the error of the database is found in `error`: compiles for every type that `run` accepts.
fn found<Kind>(error: &impl QueryError<Kind>) -> bool {
    error
        .database_error()
        .is_some_and(|error| error.to_string() == "database is locked")
}

#[test]
fn the_error_of_the_database_is_found_among_the_sources() {
    let boxed = || -> Box<dyn Error + Send + Sync> { Box::new(locked()) };
    assert!(found(&locked()));
    assert!(found(&Layer(1, Box::new(Layer(2, boxed())))));
    assert!(found(&boxed()));
    assert!(found::<Opaque>(
        &(Box::new(locked()) as Box<dyn Error + Send>)
    ));
    assert!(found(&anyhow::Error::new(locked())));
    assert!(found(
        &anyhow::Error::new(Layer(1, boxed())).context("on the way")
    ));
}

#[test]
fn errors_without_a_database_error_are_accepted() {
    assert!(!found(&io::Error::other("on a disk")));
    assert!(!found(&anyhow::anyhow!("in words")));
    assert!(!found(&Box::<dyn Error + Send + Sync>::from("in words")));
    assert!(!found(&"in words"));
    assert!(!found(&"in words".to_owned()));
    assert!(!found(&Cow::Borrowed("in words")));
    assert!(!found(&()));
    assert!(!found(&PlainError));
    assert!(!found(&Circular), "an error that is its own source");
}

#[test]
fn an_error_of_work_keeps_its_sources_and_its_message() {
    let error = RunError::Query(Layer(1, Box::new(locked())));
    assert_eq!(error.to_string(), "layer 1");
    assert_eq!(error.source().unwrap().to_string(), "database is locked");
    let error = error.map(|Layer(number, _)| number);
    assert!(matches!(error, RunError::Query(1)));
    assert!(matches!(
        RunError::<Layer>::Timeout.map(|_| ()),
        RunError::Timeout
    ));
}

#[test]
fn every_error_of_run_can_be_boxed() {
    let boxed = RunError::Query("in words").boxed();
    assert_eq!(boxed.to_string(), "in words");
    let boxed = RunError::Query(anyhow::Error::new(locked())).boxed();
    assert_eq!(boxed.to_string(), "database is locked");
    let error = anyhow::Error::from_boxed(RunError::<String>::Saturated.boxed());
    assert_eq!(
        error.to_string(),
        "too many callers wait for a connection to the database"
    );
}

#[test]
fn checkout_and_run_errors_convert_to_io_errors() {
    fn open(error: CheckoutError) -> io::Result<()> {
        Err(error)?
    }
    fn run(error: RunError<DieselError>) -> io::Result<()> {
        Err(error)?
    }
    for (error, kind) in [
        (CheckoutError::Timeout, io::ErrorKind::TimedOut),
        (CheckoutError::Unavailable, io::ErrorKind::NotConnected),
    ] {
        let converted = open(error).unwrap_err();
        assert_eq!(
            (converted.kind(), converted.to_string()),
            (kind, error.to_string())
        );
        assert_eq!(run(error.into()).unwrap_err().kind(), kind);
    }
    let converted = run(RunError::Query(locked())).unwrap_err();
    assert_eq!(converted.to_string(), "database is locked");
}

#[cfg(feature = "http")]
mod answers {
    use actix_web::{ResponseError, http::StatusCode};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the name is taken")]
    struct NameTakenResponse;

    impl ResponseError for NameTakenResponse {
        fn status_code(&self) -> StatusCode {
            StatusCode::CONFLICT
        }
    }

    #[test]
    fn each_error_has_its_response() {
        for (error, status, retried) in [
            (
                RunError::Query(NameTakenResponse),
                StatusCode::CONFLICT,
                false,
            ),
            (RunError::Saturated, StatusCode::SERVICE_UNAVAILABLE, true),
            (RunError::Timeout, StatusCode::SERVICE_UNAVAILABLE, true),
            (RunError::Unavailable, StatusCode::SERVICE_UNAVAILABLE, true),
            (RunError::Cancelled, StatusCode::SERVICE_UNAVAILABLE, true),
            (RunError::Panicked, StatusCode::INTERNAL_SERVER_ERROR, false),
        ] {
            let answer = error.error_response();
            assert_eq!(
                (error.status_code(), answer.status()),
                (status, status),
                "{error}"
            );
            let retry = answer.headers().contains_key("retry-after");
            assert_eq!(retry, retried, "{error}");
        }
    }

    #[test]
    fn a_handler_may_return_the_error_with_a_question_mark() {
        fn handler() -> actix_web::Result<&'static str> {
            Err(RunError::Query(NameTakenResponse))?
        }
        let error = handler().unwrap_err();
        assert_eq!(
            error.as_response_error().status_code(),
            StatusCode::CONFLICT
        );
    }
}
